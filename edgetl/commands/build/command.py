"""`edgetl build`, `edgetl plan` and `edgetl init`: their options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgetl.backbones.catalogue import described
from edgetl.console.options import CacheOption, JsonOption, PhotosArgument, SkipBadOption, TargetOption, takes
from edgetl.console.output import open_store, print_json, stdout
from edgetl.core.errors import EXIT_INTERRUPTED, EXIT_OK

if TYPE_CHECKING:
    from edgetl.commands.build.student import Auto
    from edgetl.stages.recipe import Recipe

EffortOption = Annotated[
    Literal["quick", "standard", "thorough"],
    typer.Option(help="How long to train. quick is only for trying things out."),
]


@dataclass(frozen=True)
class BuildOptions:
    """The options that `build` and `plan` share: the photos, the targets, and the keys of the recipe to change."""

    photos: PhotosArgument
    target: TargetOption
    recipe: Annotated[Path | None, typer.Option("--recipe", help="A recipe .toml; `edgetl init` writes one.")] = None
    effort: EffortOption = "standard"
    teacher: Annotated[str | None, typer.Option(help=f"The net to fine-tune: {described()}.")] = None
    student: Annotated[
        str | None,
        typer.Option(
            help="The net to distil it into: a net as for --teacher, or auto: the largest MobileNetV2, in width and input "
            "size, that fits the target's budget according to estimates."
        ),
    ] = None
    quantize: Annotated[
        Literal["auto", "ptq", "qat", "none"] | None,
        typer.Option(
            "--quantize",
            help="How to reach int8. ptq: calibrate ranges only. qat: train with quantization (default). auto: the "
            "cheapest way that keeps the accuracy budget. none: float files only.",
        ),
    ] = None
    weights: Annotated[
        str | None,
        typer.Option(
            help="The teacher's first weights: imagenet, none or a file. none applies to the student as well."
        ),
    ] = None
    input_size: Annotated[
        int | None, typer.Option("--input-size", help="Width and height of the input in pixels, a multiple of 32.")
    ] = None
    seed: Annotated[int | None, typer.Option(help="Seed for the split and for training.")] = None
    skip_bad: SkipBadOption = False
    as_json: JsonOption = False
    cache: CacheOption = None

    def make_recipe(self) -> tuple[Recipe, Auto | None]:
        """(the recipe, the request of `--student auto` or None). With a request, the recipe's student is the default one.

        Raises UsageError for an invalid recipe.
        """
        from edgetl.commands.build.student import take_auto
        from edgetl.stages.recipe import EFFORTS, make_recipe, merge, read_recipe

        tables: dict[str, dict[str, Any]] = {
            "dataset": {"input_size_px": self.input_size, "skip_bad": self.skip_bad or None},
            "teacher": {"backbone": self.teacher or None, "weights": self.weights or None},
            "student": {
                "backbone": self.student or None,
                "weights": self.weights if self.weights == "none" else None,
            },
            "quantize": {"scheme": self.quantize},
        }
        chosen: dict[str, Any] = {
            name: given
            for name, table in tables.items()
            # An empty table merged over a value that is not a table would hide this fault of the recipe.
            if (given := {key: value for key, value in table.items() if value is not None})
        }
        if self.seed is not None:
            chosen["seed"] = self.seed
        written = read_recipe(self.recipe) if self.recipe else {}
        recipe, auto = take_auto(merge(merge(written, EFFORTS[self.effort]), chosen))
        return make_recipe(recipe), auto


@takes(BuildOptions)
def build(
    options: BuildOptions,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder for the bundle. With several targets, one folder per target in it."),
    ] = Path("out"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--no-overwrite", help="Replace the bundle that is already in --out.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict/--no-strict", help="Exit 8 when a check is inconclusive or unmeasured.")
    ] = False,
    accept_estimates: Annotated[
        bool,
        typer.Option(
            "--accept-estimates/--no-accept-estimates",
            help="Let an estimated latency decide where the target is not this machine. Default: the check is unmeasured.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
) -> None:
    """Train, distil, quantize, export and verify a classifier of PHOTOS for each --target."""
    if dry_run:
        _show_plan(options)
        return
    from edgetl.commands.build import run
    from edgetl.commands.build.view import print_result
    from edgetl.console.progress import make_display, native_chatter_to
    from edgetl.targets.target import load_target

    recipe, auto = options.make_recipe()
    targets = [load_target(name) for name in options.target]
    store = open_store(options.cache)
    store.prepare()
    order = run.Order(recipe, targets, out, overwrite, strict, auto, accept_estimates)
    with native_chatter_to(store.root / "build.log") as console:
        try:
            results = run.build(options.photos, order, store, make_display(console))
        except KeyboardInterrupt:
            console.print("\nInterrupted. Finished stages and epochs are kept: the same command continues from there.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        for result in results:
            if result.failure:
                console.print(f"\n{result.target.name}: {result.failure}", markup=False, soft_wrap=True)
            else:
                print_result(console, result.report, str(result.out))
    if options.as_json:
        print_json({"results": [result.to_json() for result in results]})
    raise typer.Exit(_worst([result.exit_code for result in results]))


def _worst(codes: list[int]) -> int:
    """The exit code for several targets: accuracy before latency, before not proven, before success."""
    return min((code for code in codes if code), default=EXIT_OK)


@takes(BuildOptions)
def plan(options: BuildOptions) -> None:
    """Show what a build would run and what is cached."""
    _show_plan(options)


def _show_plan(options: BuildOptions) -> None:
    from edgetl.commands.build import run
    from edgetl.commands.build.view import plan_table
    from edgetl.targets.target import load_target

    recipe, auto = options.make_recipe()
    store = open_store(options.cache)
    source = run.find_source(options.photos, recipe, store, lambda text: None, fetch=False)
    targets = [load_target(name) for name in options.target]
    recipe, source, choice = run.with_chosen_student(recipe, source, targets, auto)
    plans = [run.plan_for(recipe, one, source) for one in targets]
    if options.as_json:
        chosen = {"student_choice": choice.as_dict()} if choice else {}
        steps = [one.to_json(run.cached_steps(one, store)) for one in plans]
        print_json({"photos": len(source.listing.photos), **chosen, "plans": steps})
        return
    if choice:
        stdout().print(choice.sentence(), markup=False)
    for one in plans:
        stdout().print(plan_table(one, run.cached_steps(one, store)))


def init(
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path("recipe.toml"),
    effort: EffortOption = "standard",
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--no-overwrite", help="Replace the file that is already at --out.")
    ] = False,
) -> None:
    """Write a recipe with every key and its default, to edit and pass to --recipe."""
    from edgetl.core.errors import UsageError
    from edgetl.core.store import write_atomically
    from edgetl.stages.recipe import EFFORTS, make_recipe, to_toml

    if out.exists() and not overwrite:
        raise UsageError(f"{out} already exists.", fix="name another file with --out, or allow it with --overwrite")
    try:
        write_atomically(out, to_toml(make_recipe(EFFORTS[effort])).encode())
    except OSError as error:
        raise UsageError(f"{out} cannot be written.", why=str(error), fix="name another file with --out") from None
    stdout().print(f"{out}: edit it, then `edgetl build PHOTOS --target T --recipe {out}`")
