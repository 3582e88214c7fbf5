"""Backbones: one file a family. A family module offers

NORMALIZATION                      per-channel mean and scale in pixel units: net input = (pixel - mean) / scale
build(backbone, input_size_px)     flat tf_keras functional model, image -> feature map, random weights
first_tuned_layer(backbone)        where the top blocks begin that fine-tuning trains
keras_weights(backbone)            Keras' ImageNet files without the top: {input size: (file name, URL)}

and may offer

width(backbone), select_channels(wide, narrow)    a narrow net's weights from a wider one's channels
from_keras(weights)                               Keras' weights by layer name -> those of this net and this input
"""

from __future__ import annotations

import importlib
import re
from types import ModuleType

FAMILIES = {
    "mobilenetv2": "edgetl.backbones.mobilenetv2",
    "densenet": "edgetl.backbones.densenet",
    "vgg16": "edgetl.backbones.vgg16",
    "xception": "edgetl.backbones.xception",
}


def family_of(backbone: str) -> str:
    """The family of a backbone's name.

    >>> family_of("mobilenetv2-0.35"), family_of("densenet121")
    ('mobilenetv2', 'densenet')
    """
    return re.match("|".join(FAMILIES), backbone)[0]  # type: ignore[index]  # the recipe has checked the name


def load_family(backbone: str) -> ModuleType:
    """The module of a backbone's family; imports TensorFlow."""
    return importlib.import_module(FAMILIES[family_of(backbone)])
