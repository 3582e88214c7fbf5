"""The teacher: the head on cached frozen features, then the top blocks at a low rate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgetl.backbones import load_family
from edgetl.backbones.models import (
    ModelSpec,
    build_classifier,
    freeze_batch_norm,
    load_first_weights,
    save_model,
    set_seeds,
)
from edgetl.backbones.weights import set_backbone_weights
from edgetl.core.store import Artifact
from edgetl.dataset.samples import load_split
from edgetl.stages.context import Context
from edgetl.tasks.photos.batches import evaluation_batches, training_batches
from edgetl.tasks.photos.contract import View
from edgetl.training.head import train_head
from edgetl.training.loop import make_evaluator, train
from edgetl.training.losses import label_loss
from edgetl.training.norm import quicken_batch_norm


def run(options: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Context) -> None:
    """Writes model.json, weights.npz, history.json."""
    set_seeds(options["seed"])
    data = load_split(inputs["dataset"].path, context.photos)
    weights, source = load_first_weights(inputs["weights"].path)
    spec = ModelSpec(options["backbone"], options["input_size_px"], len(data.classes), source)
    model = build_classifier(spec)
    view = View.of(options)
    normalize = spec.normalization.apply
    if weights is not None:
        set_backbone_weights(model, weights, spec.backbone)
        freeze_batch_norm(model)
        if not (context.scratch / "epoch.npz").exists():
            train_head(
                model,
                data.train,
                view,
                normalize,
                epochs=options["head_epochs"],
                smoothing=options["label_smoothing"],
                seed=options["seed"],
                scratch=context.scratch,
                progress=context.progress,
            )
        _freeze_below(model, load_family(spec.backbone).first_tuned_layer(spec.backbone))
    else:
        # From random weights everything is trained, and BatchNorm must learn its statistics on few batches.
        quicken_batch_norm(model)

    def loss(pixels: Any, labels: Any) -> Any:
        return label_loss(labels, model(normalize(pixels), training=True), smoothing=options["label_smoothing"])

    history = train(
        model,
        loss=loss,
        batches=lambda epoch: training_batches(
            data.train,
            view,
            n_classes=len(data.classes),
            batch_size=options["batch_size"],
            augment=options["augment"],
            seed=options["seed"],
            epoch=epoch,
        ),
        steps_per_epoch=max(1, len(data.train) // options["batch_size"]),
        validate=make_evaluator(model, lambda: evaluation_batches(data.validate, view), normalize),
        options=options,
        scratch=context.scratch,
        progress=context.progress,
    )
    save_model(context.out, spec, model)
    (context.out / "history.json").write_text(json.dumps(history.to_json(), indent=1))


def _freeze_below(model: Any, first_tuned: str) -> None:
    for layer in model.layers:
        if layer.name == first_tuned:
            return
        layer.trainable = False
