"""The teacher: the head on cached frozen features, then the top blocks at a low rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgetl.backbones import load_family
from edgetl.backbones.models import (
    Classifier,
    ModelSpec,
    build_classifier,
    freeze_batch_norm,
    load_first_weights,
    set_seeds,
)
from edgetl.backbones.weights import set_backbone_weights
from edgetl.core.store import Artifact
from edgetl.dataset.samples import load_split
from edgetl.stages.context import Context
from edgetl.tasks.photos.contract import View
from edgetl.training.fit import FitOptions, Fitting, save_fitted
from edgetl.training.losses import label_loss
from edgetl.training.norm import quicken_batch_norm


def run(options: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Context) -> None:
    """Writes model.json, weights.npz, history.json."""
    set_seeds(options["seed"])
    data = load_split(inputs["dataset"].path, context.photos)
    weights, source = load_first_weights(inputs["weights"].path)
    spec = ModelSpec(options["backbone"], options["input_size_px"], len(data.classes), source)
    model = build_classifier(spec)
    teacher = Classifier(model, spec.normalization.apply)
    fitting = Fitting(data, View.of(options), options["seed"], context.scratch, context.progress)
    smoothing: float = options["label_smoothing"]
    if weights is not None:
        set_backbone_weights(model, weights, spec.backbone)
        freeze_batch_norm(model)
        fitting.fit_head(teacher, epochs=options["head_epochs"], smoothing=smoothing)
        _freeze_below(model, load_family(spec.backbone).first_tuned_layer(spec.backbone))
    else:
        # From random weights everything is trained, and BatchNorm must learn its statistics from few batches.
        quicken_batch_norm(model)

    def loss(pixels: Any, labels: Any) -> Any:
        return label_loss(labels, teacher.logits(pixels, training=True), smoothing=smoothing)

    history = fitting.fit(teacher, loss, FitOptions.of(options))
    save_fitted(context.out, spec, teacher, history)


def _freeze_below(model: Any, first_tuned: str) -> None:
    for layer in model.layers:
        if layer.name == first_tuned:
            return
        layer.trainable = False
