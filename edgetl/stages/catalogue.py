"""Every fact about a stage that is known without importing it. One entry of STAGES per stage, in the order of a build."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgetl.core.errors import MissingError


@dataclass(frozen=True)
class Use:
    """One step of a build. words: for progress and tables. inputs: the name that the stage uses -> the step that makes it.

    A plan leaves out inputs from steps that it does not have (`quantize` of a float recipe).
    """

    name: str
    words: str
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """module: has `run(options, inputs, context)`. kind: of its artifact. version: increases when its results change.

    libraries: the packages that its results depend on. uses: the steps that run it. machine: "kernels" if results depend
    on the instruction set, "timing" if they depend on the machine itself. table: the recipe's table of its options; ""
    for none. sees_photos: its options also contain how photos are cut to the input. seeded: its results depend on the
    recipe's seed. history: it trains, and writes history.json.
    """

    module: str
    kind: str
    version: int
    libraries: tuple[str, ...]
    uses: tuple[Use, ...]
    machine: Literal["", "kernels", "timing"] = ""
    table: str = ""
    sees_photos: bool = True
    seeded: bool = True
    history: bool = False


_TRAINING = ("tensorflow", "tf-keras", "numpy", "pillow")
_MODELS = {"dataset": "split", "teacher": "finetune", "student": "distill", "quantized": "quantize"}
STAGES: dict[str, Stage] = {
    "split": Stage(
        "edgetl.stages.split",
        "dataset",
        1,
        ("pillow",),
        (Use("split", "check and split the photos"),),
        table="dataset",
        sees_photos=False,
    ),
    "weights": Stage(
        "edgetl.stages.weights",
        "weights",
        1,
        ("numpy",),
        (Use("teacher-weights", "load the teacher's weights"), Use("student-weights", "load the student's weights")),
        sees_photos=False,
        seeded=False,
    ),
    "finetune": Stage(
        "edgetl.stages.finetune",
        "keras-model",
        1,
        _TRAINING,
        (Use("finetune", "fine-tune the teacher", {"dataset": "split", "weights": "teacher-weights"}),),
        "kernels",
        table="finetune",
        history=True,
    ),
    "distill": Stage(
        "edgetl.stages.distill",
        "keras-model",
        1,
        _TRAINING,
        (
            Use(
                "distill",
                "distil the student",
                {"dataset": "split", "teacher": "finetune", "weights": "student-weights"},
            ),
        ),
        "kernels",
        table="distill",
        history=True,
    ),
    "quantize": Stage(
        "edgetl.stages.quantize",
        "quantized-graph",
        7,
        (*_TRAINING, "tensorflow-model-optimization", "ai-edge-litert"),
        (
            Use(
                "quantize",
                "quantize the student",
                {"dataset": "split", "teacher": "finetune", "student": "distill"},
            ),
        ),
        "kernels",
        table="quantize",
        history=True,
    ),
    "export": Stage(
        "edgetl.stages.export",
        "model-files",
        5,
        ("tensorflow", "tf-keras", "tf2onnx", "onnx", "ai-edge-litert", "numpy"),
        (Use("export", "export the model files", _MODELS),),
        table="export",
        sees_photos=False,
        seeded=False,
    ),
    # Named "verify" because existing caches use that name; it measures.
    "verify": Stage(
        "edgetl.stages.measure",
        "measurements",
        4,
        (
            "ai-edge-litert",
            "onnxruntime-gpu",
            "onnxruntime",
            "tensorflow",
            "tf-keras",
            "tensorflow-model-optimization",
            "numpy",
            "pillow",
        ),
        (Use("verify", "measure accuracy, parity and latency", {**_MODELS, "models": "export"}),),
        "timing",
        table="verify",
    ),
}

# The modules of `pip install 'edgetl[build]'`: a build imports each of them somewhere.
_BUILD_MODULES = (
    "tensorflow",
    "tf_keras",
    "tensorflow_model_optimization",
    "tf2onnx",
    "onnx",
    "h5py",
    "jinja2",
    "onnxruntime",
    "ai_edge_litert",
)


def describe_step(name: str) -> str:
    """A step in words; its name where no stage has this step (a report of another version)."""
    return next((use.words for stage in STAGES.values() for use in stage.uses if use.name == name), name)


def libraries() -> list[str]:
    """The packages that any stage depends on, sorted."""
    return sorted({package for stage in STAGES.values() for package in stage.libraries})


def missing_build_modules() -> list[str]:
    """The modules that a build needs and that are not installed. Imports none of them."""
    return [name for name in _BUILD_MODULES if importlib.util.find_spec(name) is None]


def require_build_extra() -> None:
    """Raises MissingError when the packages that only `edgetl build` needs are not installed."""
    missing = missing_build_modules()
    if missing:
        raise MissingError(
            "This edgetl was installed without the packages that `build` needs.",
            why=f"not installed: {', '.join(missing)}",
            fix="pip install 'edgetl[build]'",
        )
