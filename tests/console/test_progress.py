"""The progress of a build: plain lines for logs, bars on a terminal, and the output of C++ libraries in a file."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from edgetl.console import progress
from edgetl.console.progress import BarDisplay, PlainDisplay, make_display


class Clock:
    """time.monotonic that moves when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def written() -> io.StringIO:
    return io.StringIO()


def plain(written: io.StringIO) -> PlainDisplay:
    return PlainDisplay(Console(file=written, width=40))


def test_a_stage_is_one_line_at_its_start_and_one_with_its_time_at_its_end(clock: Clock, written: io.StringIO) -> None:
    with plain(written).stage(2, 8, "train"):
        assert written.getvalue() == "[2/8] train\n"
        clock.now_s += 12.34
    assert written.getvalue().splitlines()[1:] == ["[2/8] train: 12.3 s"]


def test_a_cached_stage_is_one_line(written: io.StringIO) -> None:
    plain(written).cached(1, 8, "split")
    assert written.getvalue() == "[1/8] split: cached\n"


def test_a_count_is_written_every_15_seconds_and_no_more_often(clock: Clock, written: io.StringIO) -> None:
    with plain(written).stage(1, 1, "train") as stage:
        stage.begin(100, done=10, unit="epochs")
        for _ in range(40):
            clock.now_s += 1.0
            stage.advance(1, "loss 0.31")
    counts = [line for line in written.getvalue().splitlines() if line.startswith("    ")]
    assert counts == ["    25/100 epochs, loss 0.31", "    40/100 epochs, loss 0.31"]


def test_a_count_without_details_ends_with_its_unit(clock: Clock, written: io.StringIO) -> None:
    with plain(written).stage(1, 1, "check") as stage:
        stage.begin(3, unit="photos")
        clock.now_s += 15.0
        stage.advance(2)
    assert "    2/3 photos\n" in written.getvalue()


def test_a_second_count_starts_again_from_its_own_number(clock: Clock, written: io.StringIO) -> None:
    with plain(written).stage(1, 1, "measure") as stage:
        stage.begin(3, unit="photos")
        stage.advance(3)
        stage.begin(10, unit="rounds")
        clock.now_s += 15.0
        stage.advance(1)
    assert "    1/10 rounds\n" in written.getvalue()


def test_notes_are_whole_lines_however_narrow_the_console_and_are_not_markup(written: io.StringIO) -> None:
    text = "a photo named [red]x[/red] " + "and a long reason " * 5
    display = plain(written)
    display.note(text)
    with display.stage(1, 1, "s") as stage:
        stage.note(text)
    lines = written.getvalue().splitlines()
    assert lines[0].rstrip() == text.rstrip() and lines[2].rstrip() == f"    {text}".rstrip()


def test_a_stage_that_fails_is_not_reported_as_finished(written: io.StringIO) -> None:
    with pytest.raises(ValueError, match="broken"), plain(written).stage(1, 1, "train"):
        raise ValueError("broken")
    assert written.getvalue() == "[1/1] train\n"


def test_bars_are_for_terminals_only(written: io.StringIO) -> None:
    assert isinstance(make_display(Console(file=written, force_terminal=True)), BarDisplay)
    assert type(make_display(Console(file=written, force_terminal=False))) is PlainDisplay


def test_a_bar_leaves_the_title_the_notes_and_the_time(clock: Clock, written: io.StringIO) -> None:
    display = BarDisplay(Console(file=written, force_terminal=True, width=80, color_system=None))
    with display.stage(3, 8, "train") as stage:
        stage.begin(4, unit="epochs")
        stage.advance(4, "loss 0.31")
        stage.note("resumed after epoch 1")
        clock.now_s += 2.0
    display.cached(4, 8, "export")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue())
    for line in ("[3/8] train", "    resumed after epoch 1", "    done in 2.0 s", "[4/8] export cached"):
        assert line in text


def test_what_libraries_write_goes_to_the_log_and_the_console_still_reaches_the_terminal(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\n"
        "from edgetl.console.progress import native_chatter_to\n"
        "with native_chatter_to(Path(sys.argv[1])) as console:\n"
        "    os.write(1, b'noise on 1\\n'); os.write(2, b'noise on 2\\n'); print('python noise')\n"
        "    console.print('for the user')\n"
        "print('afterwards')\n"
    )
    log = tmp_path / "logs" / "build.log"
    done = subprocess.run(
        [sys.executable, "-c", program, str(log)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "NO_COLOR": "1"},
        cwd=Path(progress.__file__).parents[2],
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "afterwards\n", "for the user\n")
    assert set(log.read_text().splitlines()) == {"noise on 1", "noise on 2", "python noise"}
