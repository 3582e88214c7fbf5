"""VGG16 (Simonyan and Zisserman 2015) without its dense layers: Keras' own graph, its weights converted to RGB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tf_keras import applications
from tf_keras.src.applications import vgg16 as keras_source

from edgetl.tasks.photos.contract import Normalization

# Keras gives VGG16 blue, green, red, each minus its own mean ("caffe" mode). One int8 tensor has one zero point: with three
# means the input spans -123.68 .. 151.06, a grid of 1.08 grey levels on which one level in fourteen coincides with its
# neighbour, and an app would need one table per colour. With 128 for all three, int8 input is exactly the pixel minus 128;
# the difference between the means and 128 goes into the first bias when Keras' weights are read (from_keras).
NORMALIZATION = Normalization(mean=(128.0, 128.0, 128.0), scale=(1.0, 1.0, 1.0))
WEIGHTS_URL = keras_source.WEIGHTS_PATH_NO_TOP.rpartition("/")[0] + "/"
_KERAS_MEAN = np.array([123.68, 116.779, 103.939])  # red, green, blue


def build(backbone: str, input_size_px: int) -> Any:
    """image float32 [batch, size, size, 3], RGB -> features [batch, size / 32, size / 32, 512]."""
    return applications.VGG16(input_shape=(input_size_px, input_size_px, 3), include_top=False, weights=None)


def first_tuned_layer(backbone: str) -> str:
    """The last of the five blocks is fine-tuned: 48% of the weights, 9% of the work."""
    return "block5_conv1"


def from_keras(weights: Mapping[str, list[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    """Keras' weights for this input: RGB instead of BGR, pixel - 128 instead of pixel - mean.

    Exact except for the outermost ring of the first convolution's output: its zero padding was the mean colour and is now
    the grey of 128. Weights of another net are returned unchanged: set_backbone_weights refuses them.
    """
    ours = dict(weights)
    first = ours.get("block1_conv1", [])
    if [array.shape for array in first] == [(3, 3, 3, 64), (64,)]:
        kernel = first[0][:, :, ::-1].astype(np.float64)
        shift = np.einsum("hwio,i->o", kernel, 128.0 - _KERAS_MEAN)
        ours["block1_conv1"] = [kernel.astype(np.float32), (first[1] + shift).astype(np.float32)]
    return ours
