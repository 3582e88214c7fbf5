"""The consoles that commands write to, and the store that they work on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from edgetl.core.store import Store


def stdout() -> Console:
    """For the result. A reader that stops reading (`| head`) ends the command without an error."""
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Quiet(highlight=False)


def stderr() -> Console:
    """For everything except the result: progress, notes, errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(data: Mapping[str, Any]) -> None:
    """One JSON document on stdout, with its schema_version."""
    typer.echo(json.dumps({"schema_version": 1, **data}, indent=1, default=str))


def open_store(cache: Path | None) -> Store:
    """The store at --cache, EDGETL_CACHE or the default folder."""
    from edgetl.core.store import Store, default_cache

    return Store(cache.expanduser() if cache else default_cache())
