"""`edgetl cache`: what it prints, as tables and as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetl.core.store import Store
from tests.commands.typed import run, run_json

KEY = "c" * 64


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with one artifact of 2000 bytes."""
    store = Store(tmp_path / "cache")

    def work(out: Path, scratch: Path) -> None:
        (out / "weights.bin").write_bytes(bytes(2000))

    store.make(KEY, "model", {}, work, lambda: None, {})
    return tmp_path / "cache"


def test_cache_list_shows_kind_key_and_size(cache: Path) -> None:
    shown = run("cache", "list", "--cache", str(cache))
    assert "model" in shown and KEY[:12] in shown and "2 kB" in shown
    (entry,) = run_json("cache", "list", "--cache", str(cache))["artifacts"]
    assert (entry["key"], entry["kind"], entry["bytes"]) == (KEY, "model", 2000)


def test_cache_clear_removes_everything_and_counts_it(cache: Path) -> None:
    freed = run_json("cache", "clear", "--cache", str(cache))["bytes_freed"]
    assert freed > 2000  # the record is counted as well
    assert run_json("cache", "list", "--cache", str(cache))["artifacts"] == []
