"""The command line: parse, call, render. Only cli*.py print, and only this file sets exit codes."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edgetl import __version__
from edgetl.cli_bench import bench
from edgetl.cli_cache import cache_app
from edgetl.cli_data import data_app
from edgetl.cli_inspect import inspect
from edgetl.cli_options import (
    CacheOption,
    EffortOption,
    JsonOption,
    PhotosArgument,
    QuantizeOption,
    RecipeOption,
    SeedOption,
    SizeOption,
    SkipBadOption,
    StudentOption,
    TargetOption,
    TeacherOption,
    WeightsOption,
)
from edgetl.cli_output import open_store, print_json, stdout
from edgetl.cli_targets import targets_app
from edgetl.cli_verify import verify
from edgetl.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_OK, EXIT_TRAINING, EXIT_USAGE, EdgetlError

app = typer.Typer(
    help="Photos in, a small quantized classifier for a named device out, measured on the file that ships.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(data_app, name="data")
app.add_typer(targets_app, name="targets")
app.add_typer(cache_app, name="cache")
app.command()(verify)
app.command()(bench)
app.command()(inspect)


def _recipe(
    recipe: Path | None,
    effort: str,
    teacher: str | None,
    student: str | None,
    quantize: str | None,
    weights: str | None,
    input_size: int | None,
    seed: int | None,
    skip_bad: bool,
) -> Any:
    from edgetl.recipe import EFFORTS, make_recipe, read_recipe

    chosen: dict[str, Any] = {"dataset": {}, "teacher": {}, "student": {}, "quantize": {}}
    if teacher:
        chosen["teacher"]["backbone"] = teacher
    if student:
        chosen["student"]["backbone"] = student
    if quantize:
        chosen["quantize"]["scheme"] = quantize
    if weights:
        chosen["teacher"]["weights"] = weights
        if weights == "none":
            chosen["student"]["weights"] = "none"
    if input_size is not None:
        chosen["dataset"]["input_size_px"] = input_size
    if skip_bad:
        chosen["dataset"]["skip_bad"] = True
    if seed is not None:
        chosen["seed"] = seed
    # An empty table laid over something that is no table would hide that fault of the recipe.
    chosen = {key: value for key, value in chosen.items() if value != {}}
    return make_recipe(read_recipe(recipe) if recipe else {}, EFFORTS[effort], chosen)


@app.command()
def build(
    photos: PhotosArgument,
    target: TargetOption,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the bundle; one below it a target if there are several.")
    ] = Path("out"),
    recipe: RecipeOption = None,
    effort: EffortOption = "standard",
    teacher: TeacherOption = None,
    student: StudentOption = None,
    quantize: QuantizeOption = None,
    weights: WeightsOption = None,
    input_size: SizeOption = None,
    seed: SeedOption = None,
    skip_bad: SkipBadOption = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--no-overwrite", help="Replace a bundle that is already at --out.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict/--no-strict", help="Exit 8 when a check is inconclusive or unmeasured.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    as_json: JsonOption = False,
    cache: CacheOption = None,
) -> None:
    """Train, distil, quantize, export and verify a classifier of PHOTOS for each --target."""
    made = _recipe(recipe, effort, teacher, student, quantize, weights, input_size, seed, skip_bad)
    if dry_run:
        _show_plan(photos, target, made, cache, as_json)
        return
    from edgetl import pipeline
    from edgetl.console import make_display, native_chatter_to, print_result
    from edgetl.target import load_target

    targets = [load_target(name) for name in target]
    store = open_store(cache)
    store.prepare()
    log = store.root / "build.log"
    with native_chatter_to(log) as console:
        try:
            results = pipeline.build(
                photos, targets, made, out, store, make_display(console), overwrite=overwrite, strict=strict
            )
        except KeyboardInterrupt:
            console.print("\nInterrupted. Finished stages and epochs are kept: the same command goes on from there.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        for result in results:
            if result.failure:
                console.print(f"\n{result.target.name}: {result.failure}", markup=False, soft_wrap=True)
            else:
                print_result(console, result.report, str(result.out))
    if as_json:
        print_json(
            {
                "results": [
                    {
                        "target": result.target.name,
                        "out": str(result.out),
                        "exit_code": result.exit_code,
                        "failure": result.failure,
                        "report": result.report,
                    }
                    for result in results
                ]
            }
        )
    raise typer.Exit(_worst([result.exit_code for result in results]))


def _worst(codes: list[int]) -> int:
    """Of several targets' codes: accuracy before latency before not proven before success."""
    return min((code for code in codes if code), default=EXIT_OK)


@app.command()
def plan(
    photos: PhotosArgument,
    target: TargetOption,
    recipe: RecipeOption = None,
    effort: EffortOption = "standard",
    teacher: TeacherOption = None,
    student: StudentOption = None,
    quantize: QuantizeOption = None,
    weights: WeightsOption = None,
    input_size: SizeOption = None,
    seed: SeedOption = None,
    skip_bad: SkipBadOption = False,
    as_json: JsonOption = False,
    cache: CacheOption = None,
) -> None:
    """Show what a build would run and what is cached."""
    _show_plan(
        photos,
        target,
        _recipe(recipe, effort, teacher, student, quantize, weights, input_size, seed, skip_bad),
        cache,
        as_json,
    )


def _show_plan(photos: str, target: list[str], recipe: Any, cache: Path | None, as_json: bool) -> None:
    from edgetl import pipeline
    from edgetl.console import plan_table
    from edgetl.target import load_target

    store = open_store(cache)
    source = pipeline.find_source(photos, recipe, store, lambda text: None, fetch=False)
    plans = [pipeline.plan_for(recipe, load_target(name), source) for name in target]
    if as_json:
        steps = [
            {
                "target": made.target.name,
                "steps": [
                    {
                        "name": step.name,
                        "stage": step.stage,
                        "key": step.key,
                        "options": dict(step.options),
                        "inputs": dict(step.inputs),
                        "cached": cached[step.name],
                    }
                    for step in made.steps
                ],
            }
            for made in plans
            for cached in [pipeline.cached_steps(made, store)]
        ]
        print_json({"photos": len(source.listing.photos), "plans": steps})
        return
    for made in plans:
        stdout().print(plan_table(made, pipeline.cached_steps(made, store)))


@app.command()
def init(
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path("recipe.toml"),
    effort: EffortOption = "standard",
    overwrite: Annotated[bool, typer.Option("--overwrite/--no-overwrite")] = False,
) -> None:
    """Write a recipe with every key and its default, to edit and give to --recipe."""
    from edgetl.errors import UsageError
    from edgetl.recipe import EFFORTS, make_recipe, to_toml
    from edgetl.store import write_atomically

    if out.exists() and not overwrite:
        raise UsageError(f"{out} is already there.", fix="name another file with --out, or allow it with --overwrite")
    try:
        write_atomically(out, to_toml(make_recipe(EFFORTS[effort])).encode())
    except OSError as error:
        raise UsageError(f"{out} cannot be written.", why=str(error), fix="name another file with --out") from None
    stdout().print(f"{out}: edit it, then `edgetl build PHOTOS --target T --recipe {out}`")


@app.command()
def doctor(as_json: JsonOption = False, cache: CacheOption = None) -> None:
    """What is installed here, which runtimes are ready, what this machine is."""
    from importlib.util import find_spec

    from edgetl import machine
    from edgetl.console import print_doctor
    from edgetl.initial_weights import keras_models_folder
    from edgetl.pipeline import missing_build_modules
    from edgetl.plan import STAGES
    from edgetl.runtimes import RUNTIMES, unavailable

    packages = sorted({package for stage in STAGES.values() for package in stage.libraries})
    versions = {package: machine.installed_version(package) for package in packages}
    runtimes = {name: unavailable(name) or "ready" for name in RUNTIMES}
    lacking = missing_build_modules()
    store = open_store(cache)
    weights = keras_models_folder()
    facts = {
        "edgetl": __version__,
        "machine": machine.describe(),
        "packages": versions,
        "runtimes": runtimes,
        "can_build": not lacking,
        "missing_for_build": lacking,
        "cache": str(store.root),
        "keras_weights": sorted(file.name for file in weights.glob("*.h5")) if weights.is_dir() else [],
        "pip": find_spec("pip") is not None,
    }
    if as_json:
        print_json(facts)
        return
    print_doctor(stdout(), facts)


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
    """The console script: run, translate failures into messages and exit codes."""
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
        show = getattr(error, "show", None)  # click's own errors know how to show themselves
        if show is not None and hasattr(error, "exit_code"):
            show()
            sys.exit(EXIT_USAGE)
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "disk is full" in str(error):
            print(f"edgetl: The disk is full.\n  why: {error}\n  fix: free some space and run again", file=sys.stderr)
            sys.exit(EXIT_TRAINING)
        import traceback

        traceback.print_exc()
        print("edgetl: this is a bug; the lines above say where", file=sys.stderr)
        sys.exit(EXIT_BUG)
