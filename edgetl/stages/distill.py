"""The student: a smaller net that learns the teacher's logits on the same view, and the labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from edgetl.backbones import load_family
from edgetl.backbones.catalogue import family_of, width_of
from edgetl.backbones.models import (
    ModelSpec,
    build_classifier,
    freeze_batch_norm,
    load_first_weights,
    load_model,
    save_model,
    set_seeds,
)
from edgetl.backbones.weights import set_backbone_weights
from edgetl.core.store import Artifact
from edgetl.dataset.samples import load_split
from edgetl.stages.context import Context
from edgetl.tasks.photos.batches import evaluation_batches, iterate, training_batches
from edgetl.tasks.photos.contract import View
from edgetl.training.head import train_head
from edgetl.training.loop import make_evaluator, train
from edgetl.training.losses import distil_and_label_loss
from edgetl.training.norm import estimate_batch_norm, quicken_batch_norm

_FROM_TEACHER = {
    "select": "the teacher's most important channels, BatchNorm statistics estimated anew",
    "copy": "all of the teacher's weights: it is the same net",
}


def run(options: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Context) -> None:
    """Writes model.json, weights.npz, history.json."""
    set_seeds(options["seed"] + 1)
    data = load_split(inputs["dataset"].path, context.photos)
    teacher_spec, teacher = load_model(inputs["teacher"].path)
    weights, source = load_first_weights(inputs["weights"].path)
    view = View.of(options)
    begins = "weights" if weights is not None else begins_without_weights(options["backbone"], teacher_spec.backbone)
    if begins in _FROM_TEACHER:
        source = {"weights": "teacher", "how": _FROM_TEACHER[begins], "why": source.get("why", "")}
    spec = ModelSpec(options["backbone"], options["input_size_px"], len(data.classes), source)
    student = build_classifier(spec)
    normalize = spec.normalization.apply
    if weights is not None:
        set_backbone_weights(student, weights, spec.backbone)
        freeze_batch_norm(student)
        if not (context.scratch / "epoch.npz").exists():
            train_head(
                student,
                data.train,
                view,
                normalize,
                epochs=options["head_epochs"],
                smoothing=0.0,
                seed=options["seed"] + 1,
                scratch=context.scratch,
                progress=context.progress,
            )
    elif begins == "copy":
        student.set_weights(teacher.get_weights())
        freeze_batch_norm(student)  # as after a weight file: the statistics come from more than this data
    else:
        quicken_batch_norm(student)
        if begins == "select":
            load_family(spec.backbone).select_channels(teacher, student)
            first = (
                normalize(pixels)
                for pixels, _ in iterate(evaluation_batches(data.calibrate(512, options["seed"]), view))
            )
            estimate_batch_norm(student, first)
    context.progress.note(
        f"student begins from {source['weights']} weights" + (f" ({source['from']})" if "from" in source else "")
    )

    def loss(pixels: Any, labels: Any) -> Any:
        wanted = teacher(teacher_spec.normalization.apply(pixels), training=False)
        return distil_and_label_loss(
            wanted,
            student(normalize(pixels), training=True),
            labels,
            temperature=options["temperature"],
            label_weight=options["label_weight"],
        )

    history = train(
        student,
        loss=loss,
        batches=lambda epoch: training_batches(
            data.train,
            view,
            n_classes=len(data.classes),
            batch_size=options["batch_size"],
            augment=options["augment"],
            seed=options["seed"] + 1,
            epoch=epoch,
        ),
        steps_per_epoch=max(1, len(data.train) // options["batch_size"]),
        validate=make_evaluator(student, lambda: evaluation_batches(data.validate, view), normalize),
        options=options,
        scratch=context.scratch,
        progress=context.progress,
    )
    save_model(context.out, spec, student)
    (context.out / "history.json").write_text(json.dumps(history.to_json(), indent=1))


def begins_without_weights(student: str, teacher: str) -> Literal["select", "copy", "random"]:
    """How a student that has no weight file begins."""
    family = load_family(student)
    if family_of(student) == family_of(teacher) and hasattr(family, "select_channels"):
        return "select" if width_of(student) <= width_of(teacher) else "random"
    return "copy" if student == teacher else "random"
