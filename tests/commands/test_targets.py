"""`edgetl targets`: what it prints, as tables and as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgetl.commands.app import app
from edgetl.core.errors import UsageError
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


def test_every_faulty_file_is_named_in_one_message(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / f"{name}.toml").write_text(f'name = "{name}"\n')
    result = CliRunner().invoke(app, ["targets", "check", str(tmp_path / "first.toml"), str(tmp_path / "second.toml")])
    assert isinstance(result.exception, UsageError)
    assert result.exception.what == "2 target files are not valid."
    assert "first.toml" in result.exception.why and "second.toml" in result.exception.why
