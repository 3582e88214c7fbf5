"""`edgetl data`: what it prints, as tables and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.commands.typed import run, run_json


def test_data_check_counts_photos_copies_and_what_it_leaves_out(make_folder: Any, tmp_path: Path) -> None:
    folder = make_folder({"cats": 10, "dogs": 11})
    (folder / "cats" / "copy.jpg").write_bytes((folder / "cats" / "000.jpg").read_bytes())
    (folder / "dogs" / "empty.jpg").touch()
    arguments = ("data", "check", str(folder), "--skip-bad", "--cache", str(tmp_path / "cache"))
    assert "photos that can be used: 21; copies dropped: 1; left out: 1" in run(*arguments)
    answer = run_json(*arguments)
    assert (answer["classes"], answer["photos"], answer["duplicates"]) == ({"cats": 10, "dogs": 11}, 21, 1)
    assert [Path(one["what"]).name for one in answer["left_out"]] == ["empty.jpg"]
    assert answer["fingerprint"].startswith("sha256:")


def test_data_list_names_the_known_data_sets() -> None:
    assert "traffic-lights" in run("data", "list")
    (entry,) = [one for one in run_json("data", "list")["datasets"] if one["name"] == "traffic-lights"]
    assert set(entry) == {"name", "description", "licence", "photos"} and entry["photos"] == 1484
