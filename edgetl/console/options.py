"""The command line's shared arguments and options: one meaning and one help text each."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

PhotosArgument = Annotated[
    str,
    typer.Argument(
        metavar="PHOTOS",
        help="A folder of class folders (also under train/ val/ test/), a CSV of path,label[,split], or a known data set's name.",
    ),
]
TargetOption = Annotated[
    list[str], typer.Option("--target", "-t", help="A target's name or a .toml file; may be given several times.")
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", help="Where results are kept between builds (EDGETL_CACHE).", envvar="EDGETL_CACHE"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable, on stdout.")]
SkipBadOption = Annotated[
    bool,
    typer.Option("--skip-bad/--no-skip-bad", help="Go on without photos that cannot be used; the report lists them."),
]


def takes(kind: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command take the fields of a dataclass as arguments and options: what several commands share is written once.

    kind: its fields are annotated as Typer wants parameters. The decorated function is given a `kind` first, and its own
    options by name; on the command line they stand behind the fields that have no default.
    """
    hints = get_type_hints(kind, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(kind)
    ]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        ]
        required = [one for one in shared if one.default is inspect.Parameter.empty]
        parameters = [*required, *own, *(one for one in shared if one not in required)]

        @functools.wraps(function)
        def command(**given: Any) -> None:
            chosen = {parameter.name: given.pop(parameter.name) for parameter in shared}
            function(kind(**chosen), **given)

        # Typer reads parameters from the signature and from the annotations.
        del command.__wrapped__
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate
