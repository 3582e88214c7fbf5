"""Backbones: one file a family. A family module offers

NORMALIZATION                      per-channel mean and scale in pixel units: net input = (pixel - mean) / scale
build(backbone, input_size_px)     flat tf_keras functional model, image -> feature map, random weights
first_tuned_layer(backbone)        where the top blocks begin that fine-tuning trains

and may offer

WEIGHTS_URL                        the folder that Keras downloads its ImageNet weights from, with a slash at the end
select_channels(wide, narrow)      a narrow net's weights from a wider one's channels
from_keras(weights)                Keras' weights by layer name -> those of this net and this input
"""

from __future__ import annotations

import importlib
from types import ModuleType

from edgetl.backbones.catalogue import FAMILIES, family_of


def load_family(backbone: str) -> ModuleType:
    """The module of a backbone's family; imports TensorFlow."""
    return importlib.import_module(FAMILIES[family_of(backbone)].module)
