"""Measuring over ssh, with a real OpenSSH server on the loopback interface: same code, same rows, nothing left behind."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from edgetl.commands.bench.remote import board
from edgetl.commands.bench.remote.connection import Refused
from edgetl.commands.bench.remote.package import make_wheel, requirements, wheel_name
from edgetl.commands.bench.remote.ssh import measure_over_ssh, open_board, parse_url
from edgetl.commands.bench.rows import Job, measured_on, to_json
from edgetl.commands.bench.schedule import Settings
from edgetl.core import machine
from edgetl.core.errors import DataError, DiskFullError, MissingError, UsageError

QUICK = Settings(seconds=0.2, warmup_s=0.1, visit_s=0.01, width=0.5)
LONG = Settings(seconds=300.0, warmup_s=0.1, visit_s=0.02, width=1e-9)


@pytest.fixture(scope="module")
def nets(tmp_path_factory, models):
    folder = tmp_path_factory.mktemp("nets") / 'a model\'s; $(touch x) "folder"'
    folder.mkdir()
    for source, name in (("small.tflite", "net.tflite"), ("small.onnx", "net.onnx"), ("hang.onnx", "hang.onnx")):
        shutil.copyfile(models / source, folder / name)
    return folder


def quiet(text):
    """on_note."""


def running(marker):
    """Numbers of the processes whose command matches a pattern."""
    found = subprocess.run(["pgrep", "-f", marker], stdout=subprocess.PIPE, check=False, text=True)
    return [int(line) for line in found.stdout.split()]


def gone(loopback, within_s=15.0):
    """Whether no process of a measurement is left on the other side."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if not running(loopback.begun_there):
            return True
        time.sleep(0.1)
    return False


class Knocks(threading.Thread):
    """Runs an action once, after the first timed visits."""

    def __init__(self, action, after=3):
        super().__init__(daemon=True)
        self.visits, self.action, self.after = 0, action, after
        self.ready = threading.Event()
        self.start()

    def visit(self, doing, row, done, count):
        self.visits += doing == "time"
        if self.visits > self.after:
            self.ready.set()

    def run(self):
        if self.ready.wait(60):
            self.action()


# ---- what is measured ----


def test_rows_come_back_as_if_they_were_measured_here(loopback, nets):
    jobs = [
        Job(nets / "net.tflite", "litert-cpu", 1, "tiny", {"precision": "int8"}),
        Job(nets / "net.onnx", "ort-cpu", 1),
    ]
    heard, notes = [], []
    visit = lambda doing, row, done, count: heard.append((doing, row.job.name))  # noqa: E731
    found = measure_over_ssh(loopback.url, jobs, QUICK, on_note=notes.append, on_visit=visit, **loopback.options)
    assert [row.job for row in found.rows] == jobs
    for row in found.rows:
        assert row.status == "ok" and row.rounds and row.opened["answers"] and row.placement
        assert row.seconds == pytest.approx(sum(map(sum, row.rounds)) / 1e3, rel=1e-6)
    assert found.machine == machine.describe() and not found.interrupted and not found.lost
    assert "load_before" in found.disturbance and ("time", "tiny@litert-cpu x1") in heard
    first = measured_on(to_json(found.rows[0]), found.machine)
    assert first["model"] == str(nets / "net.tflite") and first["precision"] == "int8" and first["p90_interval_ms"]
    assert first["measured_elsewhere"] and first["machine"]["processor"] == machine.processor()
    assert not (Path.cwd() / "x").exists() and not list(loopback.home.rglob("*.part"))


def test_files_already_on_the_board_are_checked_and_not_sent_again(loopback, nets):
    notes = []
    job = Job(nets / "net.tflite", "litert-cpu", 1)
    with open_board(loopback.url, on_note=notes.append, **loopback.options) as there:
        there.measure([job], QUICK, lambda *visit: None)
        sent = len([note for note in notes if note.startswith("sending")])
        there.measure([job], QUICK, lambda *visit: None)
        assert len([note for note in notes if note.startswith("sending")]) == sent
        (kept,) = (loopback.kept / "files").glob("*.tflite")
        kept.write_bytes(kept.read_bytes()[:-1] + b"!")
        found = there.measure([job], QUICK, lambda *visit: None)
    assert len([note for note in notes if note.startswith("sending")]) == sent + 1
    assert found.rows[0].status == "ok"


def test_a_model_that_no_runtime_on_the_board_opens_is_one_failed_row(loopback, nets, tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"no model")
    (tmp_path / "keras").mkdir()
    jobs = [Job(tmp_path / "bad.tflite", "litert-cpu", 1), Job(nets / "net.tflite", "litert-cpu", 1)]
    jobs.append(Job(tmp_path / "keras", "keras", 1))
    bad, good, keras = measure_over_ssh(loopback.url, jobs, QUICK, on_note=quiet, **loopback.options).rows
    assert (bad.status, bad.kind) == ("failed", "refused")
    assert good.status == "ok"
    assert (keras.status, keras.kind) == ("failed", "missing") and "is not sent" in keras.reason


# ---- what goes wrong ----


@pytest.mark.parametrize(
    "url",
    ["ssh://-oProxyCommand=x", "ssh://a@-b", "ssh://-a@b", "ssh://a;b", "ssh://a b", "http://a", "a", "ssh://", "ssh://a/b",
     "ssh://a:b@c", "ssh://a:0", "ssh://a:99999", "ssh://$(id)", "ssh://a\n", "ssh://a@b@c", "ssh://a'b"],
)  # fmt: skip
def test_a_url_cannot_be_an_option_or_a_command(url):
    with pytest.raises(UsageError, match="not the address of a machine"):
        parse_url(url)


def test_an_unreachable_machine_is_a_missing_one(nets, loopback):
    with pytest.raises(MissingError, match="cannot be reached") as failure:
        measure_over_ssh("ssh://127.0.0.1:1", [], QUICK, on_note=quiet, **loopback.options)
    assert "refused" in failure.value.why and failure.value.exit_code == 3


def test_edgetl_does_not_connect_to_an_unknown_host(loopback, tmp_path):
    (tmp_path / "config").write_text(f"UserKnownHostsFile {tmp_path / 'none'}\nStrictHostKeyChecking yes\n")
    with pytest.raises(MissingError, match="Host key verification failed"):
        measure_over_ssh(loopback.url, [], QUICK, on_note=quiet, **{**loopback.options, "config": tmp_path / "config"})


def test_a_refused_key_does_not_lead_to_a_password_prompt(loopback, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "k")], check=True, timeout=20)
    with pytest.raises(MissingError, match="Permission denied"):
        measure_over_ssh(loopback.url, [], QUICK, on_note=quiet, **{**loopback.options, "identity": tmp_path / "k"})


@pytest.mark.parametrize(
    "python", ["/no/such python", "/bin/false", "sh -c 'touch /tmp/edgetl-was-here'"], ids=["absent", "false", "a command"]
)  # fmt: skip
def test_a_board_without_python_is_reported(loopback, python):
    with pytest.raises(MissingError, match="Python|was lost"):
        measure_over_ssh(loopback.url, [], QUICK, on_note=quiet, **{**loopback.options, "python": python})
    assert not Path("/tmp/edgetl-was-here").exists()


def test_a_missing_package_of_the_remote_python_is_named(loopback, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True, timeout=60)
    with pytest.raises(MissingError, match="lacks a package(.|\n)*ModuleNotFoundError: No module named"):
        measure_over_ssh(
            loopback.url, [], QUICK, on_note=quiet, **{**loopback.options, "python": str(tmp_path / "bare/bin/python")}
        )


def test_a_file_that_changes_during_the_transfer_is_refused_and_not_kept(loopback, nets):
    with (
        pytest.raises(DataError, match="changed during the transfer"),
        open_board(loopback.url, on_note=quiet, **loopback.options) as there,
    ):
        there._line.send({"do": "put", "name": "files/planted", "sha256": "0" * 64, "bytes": 3})
        there._line.write(b"abc")
        there._line.answer(30.0)
    assert not list((loopback.kept / "files").glob("planted*"))


def test_a_full_disk_on_the_board_is_reported(loopback, nets):
    with (
        pytest.raises(DiskFullError, match="disk of ssh://.* is full"),
        open_board(loopback.url, on_note=quiet, **loopback.options) as there,
    ):
        # The temporary name of the file is a link to a device that is always full.
        (loopback.kept / "files").mkdir(exist_ok=True)
        (loopback.kept / "files/full.part").symlink_to("/dev/full")
        there._put({"files/full": b"x" * 100_000})
    assert not list((loopback.kept / "files").glob("full*"))


def test_a_name_outside_of_the_board_s_folder_is_refused(loopback):
    with open_board(loopback.url, on_note=quiet, **loopback.options) as there:
        for name in ("/etc/passwd", "../up", "files/../../up", ""):
            with pytest.raises(Refused, match="outside of the folder"):
                there._line.ask("have", files={name: "0"})


def test_a_process_killed_on_the_board_keeps_what_was_measured(loopback, nets):
    def kill():
        for number in running(f"edgetl.commands.bench.remote.agent.*{loopback.begun_there}"):
            os.kill(number, signal.SIGKILL)

    knocks = Knocks(kill)
    found = measure_over_ssh(loopback.url, [Job(nets / "net.tflite", "litert-cpu", 1)], LONG, on_note=quiet, on_visit=knocks.visit, **loopback.options)  # fmt: skip
    (row,) = found.rows
    assert found.interrupted and "SIGKILL" in found.lost and "SIGKILL" in found.disturbance["warnings"][0]
    assert row.status == "ok" and row.stopped == "connection lost" and len(row.rounds) >= 3
    assert gone(loopback)


def test_a_broken_connection_keeps_rows_here_and_leaves_no_process_there(loopback, nets):
    def cut():
        for number in running(f"^ssh -T .*{loopback.options['config']}"):
            os.kill(number, signal.SIGKILL)

    knocks = Knocks(cut)
    found = measure_over_ssh(loopback.url, [Job(nets / "net.tflite", "litert-cpu", 1)], LONG, on_note=quiet, on_visit=knocks.visit, **loopback.options)  # fmt: skip
    assert found.interrupted and found.lost and found.rows[0].stopped == "connection lost" and found.rows[0].rounds
    assert gone(loopback)


def test_a_connection_that_breaks_while_a_model_hangs_ends_the_process_there(loopback, nets):
    """Nothing is written during the hang, so no failed write can show that the connection is gone."""

    def cut():
        time.sleep(0.5)
        for number in running(f"^ssh -T .*{loopback.options['config']}"):
            os.kill(number, signal.SIGKILL)

    knocks, patient = Knocks(cut, after=0), Settings(timeout_s=600.0)
    opened = lambda doing, row, done, count: knocks.ready.set()  # noqa: E731
    with pytest.raises(MissingError, match="was lost"):
        measure_over_ssh(loopback.url, [Job(nets / "hang.onnx", "ort-cpu", 1)], patient, on_note=quiet, on_visit=opened, **loopback.options)  # fmt: skip
    assert gone(loopback)


@pytest.fixture
def ctrl_c():
    """SIGINT is ignored if the tests run in the background: handle it during this test."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_brings_back_what_was_measured_and_ends_the_process_there(loopback, nets):
    knocks = Knocks(lambda: os.kill(os.getpid(), signal.SIGINT))
    jobs = [Job(nets / "net.tflite", "litert-cpu", 1), Job(nets / "net.onnx", "ort-cpu", 1)]
    found = measure_over_ssh(loopback.url, jobs, LONG, on_note=quiet, on_visit=knocks.visit, **loopback.options)
    assert found.interrupted and not found.lost and "load_before" in found.disturbance
    assert {row.stopped for row in found.rows} == {"interrupted"} and all(row.rounds for row in found.rows)
    assert gone(loopback)


# ---- what is sent ----


def test_pip_accepts_the_wheel_which_requires_only_the_runtime_dependencies(tmp_path):
    file = tmp_path / wheel_name()
    file.write_bytes(make_wheel())
    assert make_wheel() == file.read_bytes()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", str(tmp_path / "there"), str(file)], check=True, timeout=60)
    code = "import edgetl.commands.bench.remote.agent; print(edgetl.commands.bench.remote.agent.__file__)"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    printed = subprocess.check_output([sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'there')!r}); {code}"], env=environment, timeout=60)  # fmt: skip
    assert printed.decode().startswith(str(tmp_path))
    with zipfile.ZipFile(file) as archive:
        metadata = next(archive.read(name).decode() for name in archive.namelist() if name.endswith("METADATA"))
    assert any(line.startswith("numpy") for line in requirements()) and "tensorflow" not in metadata


def test_wheels_and_remote_python_exclude_each_other(tmp_path):
    with pytest.raises(UsageError, match="--wheels and --remote-python exclude each other"):
        measure_over_ssh("ssh://board", [], QUICK, on_note=quiet, python="python3", wheels=tmp_path)


def test_missing_wheels_are_reported_in_pip_s_words(loopback, tmp_path):
    """No index is used, only the folder."""
    with zipfile.ZipFile(tmp_path / "nothing-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("nothing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: nothing\nVersion: 1.0\n")
    options = {**loopback.options, "python": None, "wheels": tmp_path}
    with pytest.raises(MissingError, match="could not be installed(.|\n)*No matching distribution") as failure:
        measure_over_ssh(loopback.url, [], QUICK, on_note=quiet, **options)
    assert "--wheels FOLDER" in failure.value.fix
    assert not list((loopback.kept / "environments").iterdir())


def test_the_board_s_program_is_python_3_7(tmp_path):
    """It must still run to report that a Python is too old."""
    ast.parse(Path(board.__file__).read_text(), feature_version=(3, 7))


def test_a_folder_without_wheels_is_refused_before_anything_is_sent(loopback, tmp_path):
    notes = []
    options = {**loopback.options, "python": None, "wheels": tmp_path}
    with pytest.raises(UsageError, match=r"no wheels in(.|\n)*pip download"):
        measure_over_ssh(loopback.url, [], QUICK, on_note=notes.append, **options)
