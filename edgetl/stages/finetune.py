"""The teacher: the head on cached frozen features, then the top blocks at a low rate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tf_keras import Model, optimizers

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
from edgetl.context import Context
from edgetl.dataset.batches import evaluation_batches, iterate, training_batches
from edgetl.dataset.samples import Samples, load_split
from edgetl.store import Artifact
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
    views = {"size_px": options["input_size_px"], "resize": options["resize"]}
    normalize = spec.normalization.apply
    if weights is not None:
        set_backbone_weights(model, weights, spec.backbone)
        freeze_batch_norm(model)
        if not (context.scratch / "epoch.npz").exists():
            _train_head(model, data.train, views, normalize, options, context)
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
            n_classes=len(data.classes),
            batch_size=options["batch_size"],
            augment=options["augment"],
            seed=options["seed"],
            epoch=epoch,
            **views,
        ),
        steps_per_epoch=max(1, len(data.train) // options["batch_size"]),
        validate=make_evaluator(model, lambda: evaluation_batches(data.validate, **views), normalize),
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


def _train_head(
    model: Any, samples: Samples, views: dict[str, Any], normalize: Any, options: Mapping[str, Any], context: Context
) -> None:
    """Train the logits layer alone, on pooled features that are computed once and kept in a file, never in memory whole."""
    pooled = tf.function(lambda pixels: tf.reduce_mean(features(normalize(pixels), training=False), axis=[1, 2]))
    features = Model(model.input, model.get_layer("pooled").input)
    width = int(model.get_layer("pooled").output.shape[-1])
    context.progress.begin(len(samples), unit="photos")
    cached = np.lib.format.open_memmap(
        context.scratch / "features.npy", mode="w+", dtype=np.float32, shape=(len(samples), width)
    )
    at = 0
    for pixels, _ in iterate(evaluation_batches(samples, **views)):
        rows = pooled(pixels).numpy()
        cached[at : at + len(rows)] = rows
        at += len(rows)
        context.progress.advance(len(rows), "frozen features")

    head = model.get_layer("logits")
    optimizer = optimizers.Adam(2e-3)
    optimizer.build(head.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(rows: Any, labels: Any) -> None:
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(
                label_loss(tf.one_hot(labels, head.units), head(rows), smoothing=options["label_smoothing"])
            )
        optimizer.apply_gradients(
            zip(tape.gradient(value, head.trainable_variables), head.trainable_variables, strict=True)
        )

    for epoch in range(options["head_epochs"]):
        order = np.random.default_rng([options["seed"], 1, epoch]).permutation(len(samples))
        for begin in range(0, len(order), 128):
            chosen = np.sort(order[begin : begin + 128])
            step(tf.constant(cached[chosen]), tf.constant(samples.labels[chosen]))
    del cached
    (context.scratch / "features.npy").unlink()
