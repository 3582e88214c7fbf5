"""Which local file a net's first weights would come from, told without TensorFlow and without the network.

The plan needs it: the file's digest is part of the cache key. edgetl/backbones/weights.py does the rest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from edgetl.errors import MissingError
from edgetl.recipe import ModelOptions
from edgetl.store import file_sha256


def look(model: ModelOptions, input_size_px: int) -> tuple[dict[str, Any], Path | None]:
    """(what goes into the cache key, the local file or None) for a net's first weights.

    Raises MissingError when an explicitly named file is not there.
    """
    if model.weights == "none":
        return {"weights": "none"}, None
    if model.weights == "imagenet":
        file = _in_keras_cache(model.backbone, input_size_px)
        return {
            "weights": "imagenet",
            "local": file.name if file else "",
            "sha256": file_sha256(file) if file else "",
        }, file
    file = Path(model.weights).expanduser()
    if not file.is_file():
        raise MissingError(
            f"There is no weight file {file}.", fix="check the path; --weights takes imagenet, none or a file"
        )
    return {"weights": "file", "file": file.name, "sha256": file_sha256(file)}, file


def keras_models_folder() -> Path:
    """Where Keras keeps weight files: $KERAS_HOME/models, else ~/.keras/models."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models"


def _in_keras_cache(backbone: str, input_size_px: int) -> Path | None:
    """The file of this net for the input size, else the one that `preferred_sizes` puts first."""
    folder = keras_models_folder()
    if not backbone.startswith("mobilenetv2"):  # one file for all sizes
        file = folder / f"{backbone}_weights_tf_dim_ordering_tf_kernels_notop.h5"
        return file if file.is_file() else None
    alpha = float(backbone.split("-")[1])
    pattern = re.compile(rf"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{re.escape(str(alpha))}_(\d+)_no_top\.h5")
    found: Mapping[int, Path] = {
        int(match[1]): file
        for file in (folder.iterdir() if folder.is_dir() else ())
        if (match := pattern.fullmatch(file.name))
    }
    sizes = preferred_sizes(list(found), input_size_px)
    return found[sizes[0]] if sizes else None


def preferred_sizes(sizes: Collection[int], input_size_px: int) -> list[int]:
    """Sizes weights were trained at, best first for this input: the size itself, the next larger ones, then smaller.

    The net is fully convolutional: all of them fit. Larger before nearer, on weak evidence: MobileNetV2 0.35 at 160 px
    on flower_photos came from the weights of 224 px to validation loss 0.330, top-1 0.897 (14 epochs, head first), from
    those of 128 px to 0.333, 0.887 (24 epochs, no head first): as good in fewer epochs, but two things differ.

    >>> preferred_sizes([96, 128, 224], 160)
    [224, 128, 96]
    """
    return sorted(sizes, key=lambda size: (size < input_size_px, abs(size - input_size_px)))
