"""A command as it is typed, run in this process."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from edgetl.commands.app import app


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False, env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    return done.stdout


def run_json(*arguments: str) -> Any:
    answer = json.loads(run(*arguments, "--json"))
    assert answer.pop("schema_version") == 1
    return answer
