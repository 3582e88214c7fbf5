"""The wheel as somebody installs it on a board: without [build]."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_works_in_an_empty_environment_without_the_build_extra(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)],
        check=True,
        capture_output=True,
    )
    wheel = next((tmp_path / "dist").glob("*.whl"))
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    locked = [
        match[0]
        for match in re.finditer(r"^[A-Za-z0-9._-]+==[^\\\n]+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    ]
    (tmp_path / "pins.txt").write_text("\n".join(locked))
    subprocess.run(
        [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-c",
            str(tmp_path / "pins.txt"),
            str(wheel),
        ],
        check=True,
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [tmp_path / "venv" / "bin" / "edgetl", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )

    assert run("--help").returncode == 0
    listed = run("targets", "list", "--json")
    assert listed.returncode == 0
    assert '"raspberry-pi-4"' in listed.stdout
    assert "traffic-lights" in run("data", "list").stdout
    doctor = run("doctor")
    assert doctor.returncode == 0
    assert "edgetl[build]" in doctor.stdout
    assert "litert-cpu" in doctor.stdout
    missing = run("build", ".", "--target", "pixel-3")
    assert missing.returncode == 3
    assert "pip install 'edgetl[build]'" in missing.stderr
