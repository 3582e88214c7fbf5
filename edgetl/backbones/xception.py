"""Xception (Chollet 2017): Keras' own graph, with fixed names for the layers that Keras numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tf_keras import applications, layers, models
from tf_keras.src.applications import xception as keras_source

from edgetl.tasks.photos.contract import Normalization

# Keras' pixel / 127.5 - 1 less half a grey level: int8 input is the pixel minus 128 (the reason is in mobilenetv2.py).
NORMALIZATION = Normalization(mean=(128.0, 128.0, 128.0), scale=(127.5, 127.5, 127.5))
WEIGHTS_URL = keras_source.TF_WEIGHTS_PATH_NO_TOP.rpartition("/")[0] + "/"
# Output channels of the four convolutions beside the separable ones -> the block that each bridges.
_RESIDUALS = {128: "block2", 256: "block3", 728: "block4", 1024: "block13"}


def build(backbone: str, input_size_px: int) -> Any:
    """image float32 [batch, size, size, 3] -> features [batch, ~size / 32, ~size / 32, 2048].

    Keras calls some layers conv2d_4 or add_11, by how many it has made in this process. Here every name is the same in
    every process, because they become names of tensors in the files.
    """
    net = applications.Xception(input_shape=(input_size_px, input_size_px, 3), include_top=False, weights=None)
    blocks = {kind: iter(_RESIDUALS.values()) for kind in (layers.Conv2D, layers.BatchNormalization)}
    blocks[layers.Add] = (f"block{i}" for i in range(2, 14))
    endings = {layers.Conv2D: "residual", layers.BatchNormalization: "residual_bn", layers.Add: "add"}

    def named(layer: Any) -> Any:
        config = layer.get_config()
        if type(layer) in blocks and not layer.name.startswith("block"):
            config["name"] = f"{next(blocks[type(layer)])}_{endings[type(layer)]}"
        return type(layer).from_config(config)

    return models.clone_model(net, clone_function=named)


def first_tuned_layer(backbone: str) -> str:
    """The exit flow, blocks 13 and 14, is fine-tuned."""
    return "block13_sepconv1_act"


def from_keras(weights: Mapping[str, list[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    """Keras' weights by our names. The names of the four residual convolutions and their BatchNorms depend on the version of
    Keras that wrote the file; their shapes do not."""
    ours = {}
    for name, arrays in weights.items():
        block = None if name.startswith("block") else _RESIDUALS.get(arrays[0].shape[-1])
        if block is not None and len(arrays) in (1, 4):
            name = f"{block}_residual" + ("_bn" if len(arrays) == 4 else "")
        ours[name] = arrays
    return ours
