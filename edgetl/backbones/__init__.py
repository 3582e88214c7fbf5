"""Backbones: one file per family. A family module offers

NORMALIZATION                      per-channel mean and scale in pixel units: net input = (pixel - mean) / scale
build(backbone, input_size_px)     flat tf_keras functional model, image -> feature map, random weights
first_tuned_layer(backbone)        the first layer of the top blocks, which fine-tuning trains

and may offer

WEIGHTS_URL                        the folder of Keras' ImageNet weights for download, with a slash at the end
select_channels(wide, narrow)      sets a narrow net's weights from channels of a wider net
from_keras(weights)                Keras' weights by layer name -> the weights for this net and its input
"""

from __future__ import annotations

import importlib
from types import ModuleType

from edgetl.backbones.catalogue import FAMILIES, family_of


def load_family(backbone: str) -> ModuleType:
    """The module of a backbone's family; imports TensorFlow."""
    return importlib.import_module(FAMILIES[family_of(backbone)].module)
