"""A net's first weights: found, fetched, converted, or recorded as not available."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgetl.backbones.models import ModelSpec, build_classifier
from edgetl.backbones.weights import WeightsRequest, missing, obtain
from edgetl.core.store import RETRY, Artifact
from edgetl.graph.fold import preflight
from edgetl.stages.context import Context


def run(options: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Context) -> None:
    """Writes source.json and, when there are weights, weights.npz keyed by "layer/position".

    Raises MissingError when there are no weights and the net needs them (the teacher), and TrainingError for a student
    that cannot be quantized: this is the last stage before anything is trained.
    """
    if not options["needed"]:
        preflight(build_classifier(ModelSpec(options["backbone"], options["input_size_px"], 2)))
    request = WeightsRequest.of(options)
    weights, source = obtain(request, context.local_file, context.cache / "downloads", context.progress.note)
    if weights is None and request.weights != "none" and options["needed"]:
        raise missing(request.backbone, request.input_size_px, source["why"])
    if source.pop("fetch_failed", False):
        (context.out / RETRY).write_text("a download failed: not to be trusted for longer than a day\n")
    if weights is not None:
        arrays = {f"{layer}/{i}": array for layer, parts in weights.items() for i, array in enumerate(parts)}
        np.savez(context.out / "weights.npz", **arrays)  # type: ignore[arg-type]
    (context.out / "source.json").write_text(json.dumps(source, indent=1))
