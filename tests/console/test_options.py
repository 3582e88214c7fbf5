"""A dataclass of annotated fields becomes the arguments and options of a command."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from edgetl.console.options import takes


@dataclass(frozen=True)
class Shared:
    """Two required fields and two with defaults."""

    photos: Annotated[str, typer.Argument(metavar="PHOTOS")]
    target: Annotated[list[str], typer.Option("--target", "-t")]
    seed: Annotated[int | None, typer.Option(help="Seed of everything.")] = None
    as_json: Annotated[bool, typer.Option("--json")] = False


class Command:
    """A command with two options of its own; `received` is what its function got."""

    def __init__(self) -> None:
        self.received: dict[str, Any] = {}

        @takes(Shared)
        def command(
            shared: Shared,
            out: Annotated[Path, typer.Option("--out", "-o", help="Where it goes.")] = Path("out"),
            strict: Annotated[bool, typer.Option("--strict/--no-strict")] = False,
        ) -> None:
            """Do something."""
            self.received = {"shared": shared, "out": out, "strict": strict}

        self.function = command
        self.app = typer.Typer()
        self.app.command()(command)

    def run(self, *arguments: str) -> Any:
        return CliRunner().invoke(self.app, list(arguments))


@pytest.fixture
def command() -> Command:
    return Command()


def test_fields_and_own_options_reach_the_function(command: Command) -> None:
    done = command.run("p", "-t", "a", "--target", "b", "--seed", "3", "--json", "-o", "x", "--strict")
    assert done.exit_code == 0, done.output
    assert command.received == {"shared": Shared("p", ["a", "b"], 3, True), "out": Path("x"), "strict": True}


def test_defaults_are_the_dataclass_s_and_the_function_s(command: Command) -> None:
    assert command.run("p", "-t", "a").exit_code == 0
    assert command.received == {"shared": Shared("p", ["a"]), "out": Path("out"), "strict": False}


@pytest.mark.parametrize(
    ("arguments", "missing"), [(["-t", "a"], "PHOTOS"), (["p"], "--target")], ids=["argument", "option"]
)
def test_a_field_without_a_default_is_required(arguments: list[str], missing: str, command: Command) -> None:
    done = command.run(*arguments)
    assert done.exit_code == 2
    assert "Missing" in done.output and missing in done.output
    assert command.received == {}


def test_required_fields_come_first_then_own_options_then_the_other_fields(command: Command) -> None:
    names = list(inspect.signature(command.function).parameters)
    assert names == ["photos", "target", "out", "strict", "seed", "as_json"]
    shown = command.run("--help").output
    places = [shown.index(name) for name in ("--target", "--out", "--strict", "--seed", "--json")]
    assert places == sorted(places)


def test_help_has_the_function_s_sentence_and_the_fields_help(command: Command) -> None:
    shown = command.run("--help").output
    assert "Do something." in shown and "Seed of everything." in shown and "Where it goes." in shown


def test_an_option_that_neither_has_is_refused(command: Command) -> None:
    done = command.run("p", "-t", "a", "--sed", "3")
    assert done.exit_code == 2 and command.received == {}
