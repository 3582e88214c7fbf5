"""`edgetl targets`: what it prints, as tables and as JSON."""

from __future__ import annotations

import pytest

from edgetl.targets.target import shipped_targets
from tests.commands.typed import run, run_json


def test_targets_list_has_a_row_for_every_shipped_target() -> None:
    table = run("targets", "list")
    assert all(name in table for name in shipped_targets())
    assert [target["name"] for target in run_json("targets", "list")["targets"]] == list(shipped_targets())


@pytest.mark.parametrize("name", shipped_targets())
def test_targets_show_prints_what_the_file_says(name: str) -> None:
    shown = run("targets", "show", name)
    facts = run_json("targets", "show", name)
    assert set(facts) == {"target", "is_this_machine"}
    budget = facts["target"]["budget"]
    assert f"size at most {budget['model_bytes']} bytes" in " ".join(shown.split())
    assert run("targets", "show", name, "--toml") == shipped_targets()[name].read_text(encoding="utf-8")


def test_targets_check_reads_all_shipped_targets_by_default() -> None:
    assert run("targets", "check").splitlines() == [f"{name}: valid" for name in shipped_targets()]
