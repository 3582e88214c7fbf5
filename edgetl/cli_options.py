"""The command line's shared arguments and options: one meaning and one help text each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

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
RecipeOption = Annotated[Path | None, typer.Option("--recipe", help="A recipe .toml; `edgetl init` writes one.")]
EffortOption = Annotated[
    Literal["quick", "standard", "thorough"], typer.Option(help="How long to train: quick is for trying things out.")
]
TeacherOption = Annotated[
    str | None,
    typer.Option(help="mobilenetv2-A with A in (0, 1.4], densenet121, densenet169, densenet201, vgg16 or xception."),
]
StudentOption = Annotated[
    str | None,
    typer.Option(
        help="Any of the backbones a teacher can have. auto: the largest MobileNetV2, in width and input size, that is "
        "estimated to keep to the target's budget."
    ),
]
QuantizeOption = Annotated[
    Literal["auto", "ptq", "qat", "none"] | None,
    typer.Option(
        "--quantize",
        help="ptq: ranges alone. qat: trained with the grids in place (the default). auto: the cheapest that keeps to the budget. none: float files only.",
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(help="The teacher's first weights: imagenet, none or a file. 'none' holds for the student, too."),
]
SizeOption = Annotated[int | None, typer.Option("--input-size", help="Pixels, a multiple of 32.")]
SeedOption = Annotated[int | None, typer.Option(help="Another seed, another split and another run.")]
SkipBadOption = Annotated[
    bool,
    typer.Option("--skip-bad/--no-skip-bad", help="Go on without photos that cannot be used; the report lists them."),
]
