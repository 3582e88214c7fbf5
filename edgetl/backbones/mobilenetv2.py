"""MobileNetV2 (Sandler et al. 2018) at any width: Keras' own graph, and a narrow net made of a wide one's channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from tf_keras import applications
from tf_keras.src.applications import mobilenet_v2 as keras_source

from edgetl.backbones.catalogue import width_of
from edgetl.tasks.photos.contract import Normalization

# Keras' own scaling is pixel / 127.5 - 1. Its zero is between two pixel values: in int8 every second value would round away
# from its neighbour. With half a grey level less, (pixel - 128) / 127.5, int8 input is exactly the pixel minus 128:
# scale 1/127.5, zero point 0. The difference, 0.004, makes none for ImageNet weights.
NORMALIZATION = Normalization(mean=(128.0, 128.0, 128.0), scale=(127.5, 127.5, 127.5))
WEIGHTS_URL = keras_source.BASE_WEIGHT_PATH


def build(backbone: str, input_size_px: int) -> Any:
    """image float32 [batch, size, size, 3] -> features [batch, size / 32, size / 32, channels]."""
    return applications.MobileNetV2(
        input_shape=(input_size_px, input_size_px, 3), alpha=width_of(backbone), include_top=False, weights=None
    )


def first_tuned_layer(backbone: str) -> str:
    """Blocks from here on are fine-tuned: at width 1.0 they have 62% of the work and 98% of the weights."""
    return "block_6_expand"


# --- a narrow net made of a wide one -------------------------------------------------------------------------------


def select_channels(wide: Any, narrow: Any) -> None:
    """Set the narrow net's weights to the wide net's most important channels, consistently along residual streams.

    wide, narrow: models with Keras' names of MobileNetV2's layers. A channel's importance is the L2 norm of its
    kernel after BatchNorm is folded in (Li et al. 2017, with the scale that BatchNorm adds). BatchNorm statistics are
    copied; they no longer fit, so estimate them again before use. Raises ValueError if the narrow net is wider.
    """
    blocks = ["expanded_conv", *(f"block_{i}" for i in range(1, 17))]
    streams = _streams(narrow, blocks)
    kept = _keep(_stream_importance(wide, streams["Conv1"]), _filters(narrow, "Conv1"))
    _copy_conv(wide, narrow, "Conv1", "bn_Conv1", np.arange(3), kept)
    for block in blocks:
        inside = kept
        if block != "expanded_conv":
            score = _importance(wide, f"{block}_expand", f"{block}_expand_BN") * _importance(
                wide, f"{block}_depthwise", f"{block}_depthwise_BN"
            )
            inside = _keep(score, _filters(narrow, f"{block}_expand"))
            _copy_conv(wide, narrow, f"{block}_expand", f"{block}_expand_BN", kept, inside)
        _copy_depthwise(wide, narrow, f"{block}_depthwise", f"{block}_depthwise_BN", inside)
        if f"{block}_add" not in _names(narrow):
            score = _stream_importance(wide, streams[f"{block}_project"])
            kept = _keep(score, _filters(narrow, f"{block}_project"))
        _copy_conv(wide, narrow, f"{block}_project", f"{block}_project_BN", inside, kept)
    last = _keep(_importance(wide, "Conv_1", "Conv_1_bn"), _filters(narrow, "Conv_1"))
    _copy_conv(wide, narrow, "Conv_1", "Conv_1_bn", kept, last)
    if "logits" in _names(wide) and "logits" in _names(narrow):
        kernel, bias = wide.get_layer("logits").get_weights()
        narrow.get_layer("logits").set_weights([kernel[last], bias])


def _names(model: Any) -> set[str]:
    return {layer.name for layer in model.layers}


def _filters(model: Any, name: str) -> int:
    return int(model.get_layer(name).get_weights()[0].shape[-1])


def _keep(score: Any, count: int) -> np.ndarray:
    if count > len(score):
        raise ValueError(f"{count} channels cannot be selected from {len(score)}")
    return np.sort(np.argsort(-np.asarray(score), kind="stable")[:count])


def _importance(model: Any, conv: str, norm: str) -> np.ndarray:
    """L2 norm of each output channel's folded kernel: [channels]."""
    kernel = model.get_layer(conv).get_weights()[0]
    gamma, _, _, variance = model.get_layer(norm).get_weights()
    rows = kernel[..., 0] if "depthwise" in conv else kernel
    per_channel = np.sqrt((rows.reshape(-1, rows.shape[-1]) ** 2).sum(axis=0))
    return np.asarray(per_channel * np.abs(gamma) / np.sqrt(variance + model.get_layer(norm).epsilon))


def _streams(model: Any, blocks: list[str]) -> dict[str, list[str]]:
    """For each convolution that starts a residual stream: the convolutions whose outputs are added in it, itself first."""
    opener = "Conv1"
    streams = {opener: [opener]}
    for block in blocks:
        project = f"{block}_project"
        if f"{block}_add" in _names(model):
            streams[opener].append(project)
        else:
            opener = project
            streams[opener] = [opener]
    return streams


def _stream_importance(wide: Any, convs: list[str]) -> np.ndarray:
    """Summed over a stream's convolutions. A narrow net can have a residual where the wide net's widths differ: then only
    the channels that all of them have can be kept."""
    scores = [_importance(wide, conv, "bn_Conv1" if conv == "Conv1" else f"{conv}_BN") for conv in convs]
    shared = min(len(score) for score in scores)
    return np.asarray(np.sum([score[:shared] for score in scores], axis=0))


def _copy_norm(wide: Any, narrow: Any, norm: str, outputs: np.ndarray) -> None:
    narrow.get_layer(norm).set_weights([weights[outputs] for weights in wide.get_layer(norm).get_weights()])


def _copy_conv(wide: Any, narrow: Any, conv: str, norm: str, inputs: np.ndarray, outputs: np.ndarray) -> None:
    kernel = wide.get_layer(conv).get_weights()[0]
    narrow.get_layer(conv).set_weights([kernel[:, :, inputs][..., outputs]])
    _copy_norm(wide, narrow, norm, outputs)


def _copy_depthwise(wide: Any, narrow: Any, conv: str, norm: str, channels: np.ndarray) -> None:
    kernel = wide.get_layer(conv).get_weights()[0]
    narrow.get_layer(conv).set_weights([kernel[:, :, channels]])
    _copy_norm(wide, narrow, norm, channels)
