"""Quantization-aware training: fold, measure ranges on calibration photos, train a little with the int8 grid in place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from edgetl.backbones.models import load_model, set_seeds
from edgetl.context import Context
from edgetl.dataset.batches import evaluation_batches, iterate, training_batches
from edgetl.dataset.contract import Normalization, View
from edgetl.dataset.samples import load_split
from edgetl.quantization.fake import all_tensors, fake_quantized, trained_weights
from edgetl.quantization.fold import check_folded, fold
from edgetl.quantization.graph import save_graph
from edgetl.quantization.preflight import preflight
from edgetl.quantization.ranges import Range, estimate_ranges
from edgetl.store import Artifact
from edgetl.training.loop import make_evaluator, train
from edgetl.training.losses import distil_and_label_loss

_BATCH = 32  # calibration photos at a time: all tensors of the net are held for so many


def run(options: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Context) -> None:
    """Writes graph.json, graph.npz, ranges.json, history.json."""
    set_seeds(options["seed"] + 2)
    data = load_split(inputs["dataset"].path, context.photos)
    teacher_spec, teacher = load_model(inputs["teacher"].path)
    spec, student = load_model(inputs["student"].path)
    preflight(student)
    normalize = spec.normalization.apply
    view = View.of(options)
    calibration = data.calibrate(options["calibration"]["photos"], options["seed"])

    def calibration_images() -> Any:
        for pixels, _ in iterate(evaluation_batches(calibration, view, batch_size=_BATCH)):
            yield normalize(pixels)
            context.progress.advance(1, "ranges")

    passes = 1 if options["calibration"]["estimator"] == "minmax" else 2
    context.progress.begin(passes * -(-len(calibration) // _BATCH), unit="calibration batches")
    graph = fold(student)
    fold_error = check_folded(student, graph, next(iter(calibration_images())))
    tensors = tf.function(all_tensors(graph))
    ranges = estimate_ranges(
        graph,
        lambda images: [tensor.numpy() for tensor in tensors(images)],
        calibration_images,
        estimator=options["calibration"]["estimator"],
        input_range=input_range(spec.normalization),
    )
    model = fake_quantized(graph, ranges)
    validate = make_evaluator(model, lambda: evaluation_batches(data.validate, view), normalize)
    before = validate()
    context.progress.note(
        f"ranges of {len(calibration)} calibration photos alone: validation loss {before[0]:.3f}, top-1 {before[1]:.3f}"
    )

    def loss(pixels: Any, labels: Any) -> Any:
        wanted = teacher(teacher_spec.normalization.apply(pixels), training=False)
        return distil_and_label_loss(
            wanted,
            model(normalize(pixels), training=True),
            labels,
            temperature=options["temperature"],
            label_weight=options["label_weight"],
        )

    history = train(
        model,
        loss=loss,
        batches=lambda epoch: training_batches(
            data.train,
            view,
            n_classes=len(data.classes),
            batch_size=options["batch_size"],
            augment=options["augment"],
            seed=options["seed"] + 2,
            epoch=epoch,
        ),
        steps_per_epoch=max(1, len(data.train) // options["batch_size"]),
        validate=validate,
        options=options,
        scratch=context.scratch,
        progress=context.progress,
    )
    save_graph(context.out, graph.with_weights(trained_weights(graph, model)))
    (context.out / "ranges.json").write_text(json.dumps(ranges, indent=1))
    summary = {
        **history.to_json(),
        "before_training": {"validate_loss": before[0], "validate_top1": before[1]},
        "fold_error": fold_error,
        "n_calibrate": len(calibration),
        "estimator": options["calibration"]["estimator"],
    }
    (context.out / "history.json").write_text(json.dumps(summary, indent=1))


def input_range(normalization: Normalization) -> Range:
    """What the contract's input can be, over all channels: from pixel 0 to pixel 255."""
    low, high = (np.float64(normalization.apply(np.full(3, pixel, np.float32))) for pixel in (0.0, 255.0))
    return float(low.min()), float(high.max())
