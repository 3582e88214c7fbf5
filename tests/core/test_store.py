"""The store: an artifact is complete, unchanged and the requested one, or it counts as absent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgetl.core.errors import DiskFullError, UsageError
from edgetl.core.store import RETRY, Store, default_cache, file_sha256, write_atomically

KEY = "a" * 64
PARENTS = {"dataset": "1" * 64}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


class Work:
    """Writes two files, and counts its calls."""

    def __init__(self, text: str = "weights") -> None:
        self.runs = 0
        self.text = text

    def __call__(self, out: Path, scratch: Path) -> None:
        self.runs += 1
        (out / "model").mkdir()
        (out / "model" / "weights.bin").write_text(self.text)
        (out / "history.json").write_text("{}")


def never() -> None:
    raise AssertionError("nobody holds the lock")


def make(store: Store, work, *, key: str = KEY, parents=PARENTS, on_wait=never):
    return store.make(key, "model", parents, work, on_wait, {"epochs": 1})


def test_an_artifact_is_made_once_and_found_again(store):
    work = Work()
    artifact, was_there = make(store, work)
    again, was_there_again = make(store, work)
    assert (was_there, was_there_again, work.runs) == (False, True, 1)
    assert again == artifact == store.find(KEY, PARENTS)
    assert (artifact.path / "model" / "weights.bin").read_text() == "weights"
    assert (artifact.kind, artifact.made_by, artifact.parents, artifact.bytes) == ("model", KEY, PARENTS, 9)


def test_an_artifact_is_absent_until_it_is_committed(store):
    seen = []

    def work(out: Path, scratch: Path) -> None:
        Work()(out, scratch)
        seen.append((store.record(KEY), store.find(KEY, PARENTS), store.entries()))

    make(store, work)
    assert seen == [(None, None, [])]
    assert store.find(KEY, PARENTS) is not None


def test_files_without_a_record_are_not_an_artifact(store):
    artifact, _ = make(store, Work())
    (artifact.path.parent / "record.json").unlink()
    assert store.find(KEY, PARENTS) is None


def _flip(folder: Path) -> None:
    file = folder / "payload" / "model" / "weights.bin"
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)


def _alter_record(folder: Path, **change: object) -> None:
    file = folder / "record.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))


DEFECTS = {
    "a flipped bit": _flip,
    "a file cut short": lambda folder: (folder / "payload" / "history.json").write_text("{"),
    "a file missing": lambda folder: (folder / "payload" / "history.json").unlink(),
    "a file too many": lambda folder: (folder / "payload" / "model" / "more").touch(),
    "a file renamed": lambda folder: (folder / "payload" / "history.json").rename(folder / "payload" / "other.json"),
    "a record cut short": lambda folder: (folder / "record.json").write_text((folder / "record.json").read_text()[:50]),
    "a record that is a list": lambda folder: (folder / "record.json").write_text("[]"),
    "a record without digests": lambda folder: (folder / "record.json").write_text('{"kind": "model"}'),
    "other files in the record": lambda folder: _alter_record(folder, files={"history.json": "0" * 64}),
    "another digest in the record": lambda folder: _alter_record(folder, sha256="0" * 64),
    "other parents in the record": lambda folder: _alter_record(folder, parents={"dataset": "2" * 64}),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_an_altered_artifact_counts_as_absent_and_is_made_again(defect, store):
    work = Work()
    artifact, _ = make(store, work)
    DEFECTS[defect](store.artifacts / KEY)
    assert store.find(KEY, PARENTS) is None
    mended, was_there = make(store, work)
    assert (was_there, work.runs) == (False, 2)
    assert mended.sha256 == artifact.sha256
    assert store.find(KEY, PARENTS) == mended


@pytest.mark.parametrize(
    "parents", [{"dataset": "2" * 64}, {}, {**PARENTS, "teacher": "3" * 64}], ids=["another", "none", "one more"]
)
def test_an_artifact_of_other_parents_is_absent_and_is_made_again(parents, store):
    make(store, Work())
    assert store.find(KEY, parents) is None
    work = Work("other weights")
    artifact, was_there = make(store, work, parents=parents)
    assert (was_there, work.runs) == (False, 1)
    assert (artifact.path / "model" / "weights.bin").read_text() == "other weights"
    assert store.find(KEY, PARENTS) is None


def test_the_digest_follows_from_names_and_bytes_alone(store):
    first, _ = make(store, Work(), key="b" * 64)
    same, _ = make(store, Work(), key="c" * 64, parents={})
    other, _ = make(store, Work("x"), key="d" * 64)
    assert first.sha256 == same.sha256 != other.sha256


def test_a_failure_leaves_no_artifact_but_keeps_the_scratch(store):
    def fail(out: Path, scratch: Path) -> None:
        (out / "half.bin").write_text("half")
        (scratch / "epoch-3").write_text("checkpoint")
        raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        make(store, fail)
    assert store.find(KEY, PARENTS) is None and store.entries() == []
    found = []

    def resume(out: Path, scratch: Path) -> None:
        found.extend([sorted(path.name for path in out.iterdir()), (scratch / "epoch-3").read_text()])
        Work()(out, scratch)

    artifact, _ = make(store, resume)
    assert found == [[], "checkpoint"]
    assert not (artifact.path / "half.bin").exists()
    assert not (store.partial / KEY).exists(), "what is committed needs no scratch any more"


def test_a_full_disk_is_reported_with_the_fix(store):
    def fill(out: Path, scratch: Path) -> None:
        with Path("/dev/full").open("w") as stream:
            stream.write("one byte too many")

    with pytest.raises(DiskFullError, match="The disk is full") as caught:
        make(store, fill)
    assert "free some space" in caught.value.fix
    assert store.find(KEY, PARENTS) is None


def test_another_system_error_is_not_reported_as_a_full_disk(store):
    def fail(out: Path, scratch: Path) -> None:
        (out / "gone" / "x").write_text("")

    with pytest.raises(FileNotFoundError, match="gone"):
        make(store, fail)


def test_a_cache_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written") as caught:
        Store(tmp_path / "file" / "cache").prepare()
    assert "EDGETL_CACHE" in caught.value.fix


def test_entries_lists_every_artifact_and_clear_removes_all(store):
    make(store, Work())
    make(store, Work("x"), key="b" * 64)
    assert [(key, record["kind"]) for key, record in store.entries()] == [(KEY, "model"), ("b" * 64, "model")]
    (store.downloads / "wheel").write_text("12345")
    # 9 and 3 bytes of payload, 5 of downloads, and the records
    assert store.clear() > 17
    assert store.entries() == [] and store.find(KEY, PARENTS) is None
    make(store, Work())


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "here"))
    assert default_cache() == tmp_path / "here"
    monkeypatch.delenv("EDGETL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "edgetl"


def test_writing_atomically_replaces_the_whole_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "record.json"
    write_atomically(path, b"a long first version")
    write_atomically(path, b"short")
    assert path.read_bytes() == b"short"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(TypeError, match="bytes"):
        write_atomically(path, "not bytes")
    assert path.read_bytes() == b"short" and list(tmp_path.iterdir()) == [path]


def test_a_digest_is_that_of_the_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# --- several processes -------------------------------------------------------------------------------------------

BUILDER = """
import sys, time
from pathlib import Path
from edgetl.core.store import Store

folder, name = Path(sys.argv[1]), sys.argv[2]

def work(out, scratch):
    with (folder / "runs").open("a") as stream:
        stream.write(name)
    (scratch / "checkpoint").write_text(name)
    (folder / f"{name}-begun").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    (out / "weights.bin").write_text("weights")

artifact, was_there = Store(folder / "cache").make("KEY", "model", {}, work, (folder / f"{name}-waits").touch, {})
print(was_there, artifact.sha256, (artifact.path / "weights.bin").read_text())
""".replace("KEY", KEY)


@pytest.fixture
def builder(tmp_path, repository):
    started = []

    def start(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", BUILDER, str(tmp_path), name]
        started.append(
            subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until(path: Path, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.01)


def test_two_processes_that_make_the_same_key_do_the_work_once(builder, tmp_path):
    first = builder("1")
    until(tmp_path / "1-begun")
    second = builder("2")
    until(tmp_path / "2-waits")
    (tmp_path / "go").touch()
    results = [process.communicate(timeout=20)[0].split() for process in (first, second)]
    assert [result[0] for result in results] == ["False", "True"]
    assert results[0][1:] == results[1][1:]
    assert (tmp_path / "runs").read_text() == "1"
    assert not (tmp_path / "1-waits").exists() and not (tmp_path / "2-begun").exists()


def test_a_killed_builder_leaves_the_lock_free_no_artifact_and_its_scratch(builder, tmp_path):
    first = builder("1")
    until(tmp_path / "1-begun")
    first.send_signal(signal.SIGKILL)
    assert first.wait(timeout=20) == -signal.SIGKILL
    store = Store(tmp_path / "cache")
    assert store.find(KEY, {}) is None
    assert next((store.partial / KEY).glob("scratch-*/checkpoint")).read_text() == "1"
    (tmp_path / "go").touch()
    second = builder("2")
    assert second.communicate(timeout=20)[0].split()[0] == "False"
    assert not (tmp_path / "2-waits").exists()
    assert store.find(KEY, {}) is not None


def test_checkpoints_of_other_inputs_are_not_used(tmp_path):
    """A parent that was remade with other bits has another scratch folder: nothing half-trained on the old one is used."""
    store = Store(tmp_path / "cache")

    def interrupted(out, scratch):
        (scratch / "epoch").write_text("of the old parent")
        raise KeyboardInterrupt

    seen = []

    def finished(out, scratch):
        seen.extend(path.name for path in scratch.iterdir())
        (out / "weights").write_text("w")

    with pytest.raises(KeyboardInterrupt):
        store.make(KEY, "model", {"teacher": "old"}, interrupted, lambda: None, {})
    store.make(KEY, "model", {"teacher": "new"}, finished, lambda: None, {})
    assert seen == []


def test_a_result_that_depends_on_a_failed_download_is_made_again_after_a_day(tmp_path):
    store = Store(tmp_path / "cache")

    def offline(out, scratch):
        (out / RETRY).write_text("offline")

    store.make(KEY, "weights", {}, offline, lambda: None, {})
    assert store.find(KEY, {}) is not None
    record = store.artifacts / KEY / "record.json"
    yesterday = record.stat().st_mtime - 90_000
    os.utime(record, (yesterday, yesterday))
    assert store.find(KEY, {}) is None


def test_a_folder_that_is_not_a_cache_is_not_cleared(tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not an edgetl cache"):
        Store(tmp_path).clear()
    assert (tmp_path / "downloads" / "mine.txt").exists()
