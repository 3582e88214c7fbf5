"""Which local file a net's first weights would come from, found without TensorFlow and without the network.

The plan needs it: the file's digest is part of the cache key. edgetl/backbones/weights.py does the rest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from edgetl.backbones.catalogue import FAMILIES, family_of, weight_file
from edgetl.backbones.records import WeightsKey
from edgetl.core.errors import MissingError
from edgetl.core.store import file_sha256


def look(backbone: str, weights: str, input_size_px: int) -> tuple[WeightsKey, Path | None]:
    """(their part of the cache key, the local file or None) for a net's first weights.

    weights: as in a recipe: "imagenet", "none" or a file. Raises MissingError when a file is named that does not exist.
    """
    if weights == "none":
        return {"weights": "none"}, None
    if weights == "imagenet":
        file = _in_keras_cache(backbone, input_size_px)
        return {
            "weights": "imagenet",
            "local": file.name if file else "",
            "sha256": file_sha256(file) if file else "",
        }, file
    file = Path(weights).expanduser()
    if not file.is_file():
        raise MissingError(
            f"There is no weight file {file}.", fix="check the path; --weights takes imagenet, none or a file"
        )
    return {"weights": "file", "file": file.name, "sha256": file_sha256(file)}, file


def keras_models_folder() -> Path:
    """Keras' folder of weight files: $KERAS_HOME/models, or ~/.keras/models without that variable."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models"


def _in_keras_cache(backbone: str, input_size_px: int) -> Path | None:
    """The file of this net for the input size; otherwise the first in the order of `preferred_sizes`."""
    folder = keras_models_folder()
    template = FAMILIES[family_of(backbone)].weights_file
    if not template:
        return None
    # Any size in the folder, including those that Keras does not offer.
    pattern = re.compile(re.escape(weight_file(backbone, "SIZE")).replace("SIZE", r"(\d+)"))
    found: Mapping[int, Path] = {
        int(match[1]) if "{size_px}" in template else 0: file
        for file in (folder.iterdir() if folder.is_dir() else ())
        if (match := pattern.fullmatch(file.name)) and file.is_file()
    }
    sizes = preferred_sizes(list(found), input_size_px)
    return found[sizes[0]] if sizes else None


def preferred_sizes(sizes: Collection[int], input_size_px: int) -> list[int]:
    """Sizes that weights were trained at, the best for this input first: the size itself, the next larger ones, then smaller.

    The net is fully convolutional: all of them fit. Larger before nearer, on weak evidence: MobileNetV2 0.35 at 160 px
    on flower_photos came from the weights of 224 px to validation loss 0.330, top-1 0.897 (14 epochs, head first), from
    those of 128 px to 0.333, 0.887 (24 epochs, no head first): as good in fewer epochs, but two things differ.

    >>> preferred_sizes([96, 128, 224], 160)
    [224, 128, 96]
    """
    return sorted(sizes, key=lambda size: (size < input_size_px, abs(size - input_size_px)))
