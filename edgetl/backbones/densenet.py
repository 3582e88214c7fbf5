"""DenseNet-121, -169 and -201 (Huang et al. 2017): Keras' own graphs."""

from __future__ import annotations

from typing import Any

from tf_keras import applications
from tf_keras.src.applications import densenet as keras_source

from edgetl.tasks.photos.contract import Normalization

# ImageNet's mean and standard deviation, in pixel units (Keras' "torch" mode).
NORMALIZATION = Normalization(mean=(123.675, 116.28, 103.53), scale=(58.395, 57.12, 57.375))
WEIGHTS_URL = keras_source.BASE_WEIGHTS_PATH
_BUILDERS = {
    "densenet121": applications.DenseNet121,
    "densenet169": applications.DenseNet169,
    "densenet201": applications.DenseNet201,
}


def build(backbone: str, input_size_px: int) -> Any:
    """image float32 [batch, size, size, 3] -> features [batch, size / 32, size / 32, channels]."""
    return _BUILDERS[backbone](input_shape=(input_size_px, input_size_px, 3), include_top=False, weights=None)


def first_tuned_layer(backbone: str) -> str:
    """The last dense block and the final BatchNorm are fine-tuned."""
    return "conv5_block1_0_bn"
