"""What commands write to, and the store they work on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


def stdout() -> Console:
    """For what was asked for. A reader that has seen enough (`| head`) ends the command, and is no failure."""
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Quiet(highlight=False)


def stderr() -> Console:
    """For everything else."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(data: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps({"schema_version": 1, **data}, indent=1, default=str))


def open_store(cache: Path | None) -> Any:
    """The store at --cache, EDGETL_CACHE or the usual place."""
    from edgetl.core.store import Store, default_cache

    return Store(cache.expanduser() if cache else default_cache())
