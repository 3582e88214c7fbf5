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
        help="A folder of class folders (optionally under train/ val/ test/), a CSV of path,label[,split], or the name of a known data set.",
    ),
]
TargetOption = Annotated[
    list[str], typer.Option("--target", "-t", help="Name of a target, or a .toml file. Repeat it for several targets.")
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder that keeps results between builds (EDGETL_CACHE).", envvar="EDGETL_CACHE"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
SkipBadOption = Annotated[
    bool,
    typer.Option(
        "--skip-bad/--no-skip-bad", help="Continue without photos that cannot be used; the report lists them."
    ),
]


def takes(kind: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of a dataclass as arguments and options, so that several commands can share them.

    kind: a dataclass whose fields are annotated like Typer parameters. The decorated function gets a `kind` as its first
    argument, and its own options by name. On the command line, fields without a default come first, then the function's
    own options, then the other fields.
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
