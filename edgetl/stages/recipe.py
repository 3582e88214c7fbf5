"""Recipe: what to build. One frozen options class per stage; unknown keys are refused.

The reasons for defaults are beside them, from runs on flower_photos (3000 photos of 5 classes, 2398 of them for training,
2 cores): `edgetl build flower_photos --target raspberry-pi-4 --recipe R`, where R sets the keys that differ.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from edgetl.backbones.catalogue import FAMILIES, canonical, family_of
from edgetl.core.errors import UsageError
from edgetl.core.validation import explain_validation

Fraction = Annotated[float, Field(ge=0, lt=1)]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DatasetOptions(_Options):
    """How photos are read and split. The fractions apply where the data has no split of its own."""

    input_size_px: Annotated[int, Field(ge=32, le=512, multiple_of=32)] = 192
    # stretch: the photo is squeezed to a square, so the net sees both of its ends (a traffic light's red lamp is at its
    # top). crop: the middle square; shapes keep their proportions.
    resize: Literal["stretch", "crop"] = "stretch"
    # Random crops make objects larger in training than in whole photos; cutting a sixteenth off each edge compensates for
    # that (Touvron et al. 2019 call it the train-test discrepancy). On flower_photos' validation photos the same student
    # went from loss 0.286, top-1 0.917 with 1.0 to 0.268, 0.933 with 0.9 and 0.262, 0.927 with 0.85.
    centre_fraction: Annotated[float, Field(gt=0.5, le=1)] = 0.875
    validate_fraction: Fraction = 0.1
    test_fraction: Fraction = 0.1
    skip_bad: bool = False

    @model_validator(mode="after")
    def _leaves_photos_to_train_on(self) -> DatasetOptions:
        held_out = self.validate_fraction + self.test_fraction
        if held_out >= 1:
            raise ValueError(
                f"validate_fraction and test_fraction add up to {held_out:g}: no photos are left to train on"
            )
        return self


class AugmentOptions(_Options):
    """Random views of the training photos. A strength of 0 (or False) switches that change off."""

    flip: bool = True
    # The smallest share of the photo's area that a random crop keeps; the aspect ratio is drawn from 3/4 to 4/3.
    crop_min_area: Annotated[float, Field(gt=0, le=1)] = 0.5
    rotate_degrees: Annotated[float, Field(ge=0, le=45)] = 10.0
    # Brightness, contrast and saturation are each scaled by a factor drawn from [1 - colour, 1 + colour].
    colour: Annotated[float, Field(ge=0, lt=1)] = 0.2
    # Each photo is blended with another one, at an opacity drawn from [0, mix].
    mix: Annotated[float, Field(ge=0, le=1)] = 0.0


class ModelOptions(_Options):
    """Which net, and where its first weights come from.

    weights: "imagenet" (Keras' cache or download, otherwise the package index), "none" (random; for a MobileNetV2 student
    of a MobileNetV2 teacher: channels selected from the teacher; for a student of the same net as the teacher: the
    teacher's own), or the path of a .h5 or .pth file.
    """

    backbone: str
    weights: str = "imagenet"

    @field_validator("backbone")
    @classmethod
    def _one_spelling(cls, backbone: str) -> str:
        """mobilenetv2-1, -1.0 and -1.00 are the same net: one cache key, one weight file."""
        return canonical(backbone)


class TrainingOptions(_Options):
    """One training stage. The learning rate is for Adam; its schedule is linear warm-up, then cosine to zero."""

    epochs: Annotated[int, Field(ge=1, le=1000)]
    batch_size: Annotated[int, Field(ge=2, le=1024)] = 32
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    # Training stops after so many epochs without a better validation loss; the best weights are always kept.
    patience: Annotated[int, Field(ge=1)] = 6
    augment: AugmentOptions = AugmentOptions()


class FinetuneOptions(TrainingOptions):
    """The teacher: first its head, on cached frozen features, then its top blocks."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 10
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 3e-4
    head_epochs: Annotated[int, Field(ge=1, le=1000)] = 40
    label_smoothing: Fraction = 0.1


class DistillOptions(TrainingOptions):
    """The student, trained on the teacher's logits for the same view.

    Measured on flower_photos at 160 px, MobileNetV2 0.35, a teacher of validation top-1 0.913, 300 validation photos (a
    standard error of 1.8 points). Schedules differ and some runs were stopped early, so this is only a rough ranking:

    | starts from | rate, epochs run of planned | loss | validation loss, top-1 |
    |---|---|---|---|
    | 128 px | 7e-4, 24 of 24 | temperature 4, label_weight 0.3 | 0.333, 0.887 |
    | 128 px | 5e-4, 7 of 8 | labels alone | 0.386, 0.860 |
    | 128 px | 5e-4, 8 of 12 | temperature 4, label_weight 0.3, mix 0.5 | 0.437, 0.853 |
    | 128 px | 5e-4, 8 of 12 | temperature 2, label_weight 0.1, mix 0.5 | 0.448, 0.857 |
    | 224 px | 5e-4, 5 of 8 | temperature 4, label_weight 0.3 | 0.352, 0.893 |
    | 224 px, head first | 5e-4, 14 of 14 | temperature 4, label_weight 0.3 | 0.330, 0.897 |
    """

    epochs: Annotated[int, Field(ge=1, le=1000)] = 20
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 5e-4
    # The head alone is trained first, on frozen features; only where the student starts from trained weights.
    head_epochs: Annotated[int, Field(ge=1, le=1000)] = 40
    temperature: Annotated[float, Field(gt=0)] = 4.0
    label_weight: Annotated[float, Field(ge=0, le=1)] = 0.3


class QuantizeOptions(TrainingOptions):
    """How the student is quantized; epochs and learning rate are those of quantization-aware training.

    scheme: "ptq": ranges from the calibration photos, with biases corrected where that is closer to float, and channels
    equalized if that is not enough. "qat": trained with the grids in place. "auto": in order of cost, the first that keeps
    the target's accuracy budget on the validation photos: ptq, corrections, qat, 16-bit activations, the most sensitive
    layers in float. "none": float files only.

    Measured on flower_photos' 300 validation photos with one MobileNetV2 0.35 student at 192 px (top-1 0.900 in float),
    with the int8 TFLite file; one run each, so small differences mean nothing:

    | way | same label as float | divergence from float, nats |
    |---|---|---|
    | ptq, mse (minmax; percentile; entropy) | 98.0% (97.7; 97.3; 81.7) | 0.0053 (0.0054; 0.0059; 0.556) |
    | ptq, mse, biases corrected (minmax; percentile) | 99.0% (99.3; 98.3) | 0.0016 (0.0016; 0.0015) |
    | ptq, int16 activations | 98.3% | 0.0045 |
    | qat 2 epochs, guide student, temperature 1, ranges trained fast | 99.3% | 0.0013 |
    | the same, temperature 4 | 99.0% | 0.0012 |
    | the same, ranges trained slowly (the default) | 99.3% | 0.0011 |
    | the same, ranges fixed | 99.0% | 0.0010 |
    | qat 2 epochs, guide teacher, label_weight 0.3, ranges fixed | 98.0% | 0.0030 |
    """

    scheme: Literal["auto", "ptq", "qat", "none"] = "qat"
    # The probabilities that QAT is trained on: the float student's, so that the files answer as it does, or the teacher's.
    guide: Literal["student", "teacher"] = "student"
    # Train the ranges together with the weights; otherwise they stay as calibration set them.
    train_ranges: bool = True
    epochs: Annotated[int, Field(ge=1, le=1000)] = 2
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 2e-5
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.3
    temperature: Annotated[float, Field(gt=0)] = 4.0
    label_weight: Annotated[float, Field(ge=0, le=1)] = 0.0


class CalibrationOptions(_Options):
    """Which training photos the activation ranges are measured on, and how."""

    photos: Annotated[int, Field(ge=1, le=100_000)] = 256
    # "best" (what scheme "auto" always does): try all of them, and use the one with the smallest divergence of its file
    # from the float student on the calibration photos.
    estimator: Literal["minmax", "percentile", "mse", "entropy", "best"] = "mse"


class ExportOptions(_Options):
    """Which files a build writes. The int8 files are always among them: most targets are judged by them."""

    # tf2onnx writes 18 at most; every ONNX Runtime since 1.12 reads 17 with IR version 8.
    opset: Literal[17] = 17


class VerifyOptions(_Options):
    """How latency is measured: runs after warm-up, each timed alone. With fewer than 30 runs, even the largest time is too
    often below the 90th percentile for a 95% interval."""

    warmup_runs: Annotated[int, Field(ge=1)] = 20
    runs: Annotated[int, Field(ge=30)] = 200
    threads: Annotated[int, Field(ge=1, le=256)] = 1


class Recipe(_Options):
    """Everything that decides what is built. Together with the photos and the target it decides the result."""

    dataset: DatasetOptions = DatasetOptions()
    teacher: ModelOptions = ModelOptions(backbone="mobilenetv2-1.0")
    student: ModelOptions = ModelOptions(backbone="mobilenetv2-0.35")
    finetune: FinetuneOptions = FinetuneOptions()
    distill: DistillOptions = DistillOptions()
    quantize: QuantizeOptions = QuantizeOptions()
    calibration: CalibrationOptions = CalibrationOptions()
    export: ExportOptions = ExportOptions()
    verify: VerifyOptions = VerifyOptions()
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0

    @model_validator(mode="after")
    def _nets_can_be_built(self) -> Recipe:
        for role, options in (("teacher", self.teacher), ("student", self.student)):
            smallest = FAMILIES[family_of(options.backbone)].smallest_px
            if self.dataset.input_size_px < smallest:
                raise ValueError(
                    f"{role}.backbone {options.backbone!r} needs an input of {smallest} pixels or more, but "
                    f"dataset.input_size_px is {self.dataset.input_size_px}"
                )
        return self


# What `--effort` changes. "quick" is for trying out a folder of photos and for tests of the whole build, not for results.
EFFORTS: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {
        "finetune": {"epochs": 1, "head_epochs": 5},
        "distill": {"epochs": 2, "head_epochs": 5},
        "quantize": {"epochs": 1},
        "calibration": {"photos": 64},
        "verify": {"runs": 50},
    },
    "standard": {},
    "thorough": {"finetune": {"epochs": 20}, "distill": {"epochs": 60, "patience": 12}, "quantize": {"epochs": 5}},
}


def merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `change`, merged table by table; neither argument is changed.

    >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
    {'a': {'x': 1, 'y': 3}}
    """
    merged = dict(base)
    for key, value in change.items():
        merged[key] = (
            merge(merged[key], value) if isinstance(value, dict) and isinstance(merged.get(key), dict) else value
        )
    return merged


def read_recipe(path: Path) -> dict[str, Any]:
    """The tables of a recipe file, unvalidated. Raises UsageError if it cannot be parsed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"The recipe {path} cannot be read.", why=str(error)) from None


def make_recipe(*layers: dict[str, Any]) -> Recipe:
    """A recipe from layers; later ones win. Raises UsageError that names every fault."""
    data: dict[str, Any] = {}
    for layer in layers:
        data = merge(data, layer)
    try:
        return Recipe.model_validate(_with_backbone_defaults(data))
    except ValidationError as error:
        raise UsageError(
            "The recipe is not valid.",
            why=explain_validation(error, Recipe),
            fix="edgetl/stages/recipe.py documents every key; `edgetl init` writes one to edit",
        ) from None


def _with_backbone_defaults(data: dict[str, Any]) -> dict[str, Any]:
    """Give a table without a backbone the recipe's default: ModelOptions itself has none."""
    filled = dict(data)
    for role, backbone in (("teacher", "mobilenetv2-1.0"), ("student", "mobilenetv2-0.35")):
        if isinstance(filled.get(role), dict):
            filled[role] = {"backbone": backbone, **filled[role]}
    return filled


def to_toml(recipe: Recipe) -> str:
    """The recipe as TOML that read_recipe and make_recipe turn back into the same recipe."""
    lines = [f"seed = {recipe.seed}"]

    def table(name: str, values: dict[str, Any]) -> None:
        lines.append(f"\n[{name}]")
        nested = {key: value for key, value in values.items() if isinstance(value, dict)}
        lines.extend(f"{key} = {_toml_value(value)}" for key, value in values.items() if key not in nested)
        for key, value in nested.items():
            table(f"{name}.{key}", value)

    for name, values in recipe.model_dump().items():
        if isinstance(values, dict):
            table(name, values)
    return "\n".join(lines) + "\n"


def _toml_value(value: str | bool | int | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are valid in TOML; DEL is the only character that JSON leaves unescaped and TOML does not allow.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
