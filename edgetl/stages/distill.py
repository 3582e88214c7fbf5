"""The student: a smaller net that learns the teacher's logits on the same view, and the labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from edgetl.backbones import load_family
from edgetl.backbones.catalogue import family_of, width_of
from edgetl.backbones.models import (
    Classifier,
    ModelSpec,
    build_classifier,
    freeze_batch_norm,
    load_first_weights,
    load_model,
    set_seeds,
)
from edgetl.backbones.weights import set_backbone_weights
from edgetl.core.store import Artifact
from edgetl.dataset.samples import load_split
from edgetl.stages.context import Context
from edgetl.tasks.photos.batches import evaluation_batches, iterate
from edgetl.tasks.photos.contract import View
from edgetl.training.fit import FitOptions, Fitting, guided_loss, save_fitted
from edgetl.training.norm import estimate_batch_norm, quicken_batch_norm

# How the weights of a student begin.
Beginning = Literal["weights", "select", "copy", "random"]
_FROM_TEACHER: dict[Beginning, str] = {
    "select": "the teacher's most important channels, BatchNorm statistics estimated anew",
    "copy": "all of the teacher's weights: it is the same net",
}
# Photos that the statistics of selected channels are estimated on.
_STATISTICS_PHOTOS = 512


def run(options: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Context) -> None:
    """Writes model.json, weights.npz, history.json."""
    seed = options["seed"] + 1
    set_seeds(seed)
    data = load_split(inputs["dataset"].path, context.photos)
    teacher_spec, teacher_model = load_model(inputs["teacher"].path)
    teacher = Classifier(teacher_model, teacher_spec.normalization.apply)
    weights, source = load_first_weights(inputs["weights"].path)
    backbone: str = options["backbone"]
    begins = "weights" if weights is not None else begins_without_weights(backbone, teacher_spec.backbone)
    if begins in _FROM_TEACHER:
        source = {"weights": "teacher", "how": _FROM_TEACHER[begins], "why": source.get("why", "")}
    spec = ModelSpec(backbone, options["input_size_px"], len(data.classes), source)
    student = Classifier(build_classifier(spec), spec.normalization.apply)
    fitting = Fitting(data, View.of(options), seed, context.scratch, context.progress)
    if weights is not None:
        set_backbone_weights(student.model, weights, backbone)
        freeze_batch_norm(student.model)
        fitting.fit_head(student, epochs=options["head_epochs"], smoothing=0.0)
    elif begins == "copy":
        student.model.set_weights(teacher.model.get_weights())
        freeze_batch_norm(student.model)  # as after a weight file: the statistics come from more than this data
    else:
        quicken_batch_norm(student.model)
        if begins == "select":
            load_family(backbone).select_channels(teacher.model, student.model)
            _estimate_statistics(student, fitting, options["seed"])
    context.progress.note(
        f"student begins from {source['weights']} weights" + (f" ({source['from']})" if "from" in source else "")
    )
    loss = guided_loss(teacher, student, temperature=options["temperature"], label_weight=options["label_weight"])
    history = fitting.fit(student, loss, FitOptions.of(options))
    save_fitted(context.out, spec, student, history)


def _estimate_statistics(student: Classifier, fitting: Fitting, seed: int) -> None:
    """Set the BatchNorms of selected channels by the first training photos in calibration order."""
    photos = fitting.data.calibrate(_STATISTICS_PHOTOS, seed)
    batches = iterate(evaluation_batches(photos, fitting.view))
    estimate_batch_norm(student.model, (student.normalize(pixels) for pixels, _ in batches))


def begins_without_weights(student: str, teacher: str) -> Literal["select", "copy", "random"]:
    """How a student without a weight file begins."""
    family = load_family(student)
    if family_of(student) == family_of(teacher) and hasattr(family, "select_channels"):
        return "select" if width_of(student) <= width_of(teacher) else "random"
    return "copy" if student == teacher else "random"
