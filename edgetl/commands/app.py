"""The command line: the list of commands. Exceptions become messages and exit codes here and nowhere else."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from edgetl.commands.bench.command import bench
from edgetl.commands.build.command import build, init, plan
from edgetl.commands.cache import cache_app
from edgetl.commands.data import data_app
from edgetl.commands.doctor import doctor
from edgetl.commands.estimate.command import estimate
from edgetl.commands.inspect.command import inspect
from edgetl.commands.targets import targets_app
from edgetl.commands.verify.command import verify
from edgetl.core.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_OK, EXIT_TRAINING, EXIT_USAGE, EdgetlError
from edgetl.core.version import __version__

app = typer.Typer(
    help="Photos in, a small quantized classifier for a named device out, measured on the file that ships.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command in (build, plan, init, verify, bench, inspect, estimate, doctor):
    app.command()(command)
app.add_typer(data_app, name="data")
app.add_typer(targets_app, name="targets")
app.add_typer(cache_app, name="cache")


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"edgetl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script: run a command, and translate failures into messages and exit codes."""
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else EXIT_OK)
    except EdgetlError as error:
        print(f"edgetl: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print("edgetl: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(EXIT_OK)
    except Exception as error:
        show = getattr(error, "show", None)  # click's errors can show themselves
        if show is not None and hasattr(error, "exit_code"):
            show()
            sys.exit(EXIT_USAGE)
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "disk is full" in str(error):
            print(f"edgetl: The disk is full.\n  why: {error}\n  fix: free some space and run again", file=sys.stderr)
            sys.exit(EXIT_TRAINING)
        import traceback

        traceback.print_exc()
        print("edgetl: this is a bug; please report it with the lines above", file=sys.stderr)
        sys.exit(EXIT_BUG)
