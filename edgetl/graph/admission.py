"""Which Keras layers have an int8 form in both file formats, and why the others have none.

Settings that the int8 files would silently ignore are refused here: dilation, groups, other activations, other axes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tf_keras import Model, Sequential, layers

from edgetl.core.errors import TrainingError

# At inference these return their input.
REMOVED = (layers.Dropout, layers.SpatialDropout2D, layers.GaussianDropout, layers.GaussianNoise)


def refuse_unquantizable(model: Any) -> None:
    """Raises TrainingError naming all layers of a Keras model that have no int8 form, each with its reason. Trains nothing."""
    if _is_keras_3(model) or any(_is_keras_3(layer) for layer in getattr(model, "layers", ())):
        raise TrainingError(
            "The net is made of Keras 3 objects.",
            why="quantization-aware training (TFMOT) works only with tf_keras, which is Keras 2",
            fix="build the net from tf_keras.layers, with TF_USE_LEGACY_KERAS=1 set before TensorFlow is imported",
        )
    if not isinstance(model, Model) or isinstance(model, Sequential) or not model._is_graph_network:
        raise TrainingError(
            f"The net is a {type(model).__name__}, and only functional models can be quantized.",
            why="it has no graph of its layers",
            fix="use tf_keras.Model(inputs, outputs); for a Sequential, tf_keras.Model(net.inputs, net.outputs)",
        )
    faults = [(layer, why) for layer in model.layers if (why := why_not(layer)) is not None]
    lines = [f"{layer.name} ({type(layer).__name__}): {why}" for layer, why in faults]
    images = [layer.name for layer in model.layers if isinstance(layer, layers.InputLayer)]
    if len(images) != 1 or len(model.outputs) != 1:
        lines.append(
            f"the net has {len(images)} inputs and {len(model.outputs)} outputs; one image and its logits are needed"
        )
    elif len(model.output.shape) != 2:
        lines.append(f"the net's output has {len(model.output.shape)} axes; logits are [batch, classes]")
    if lines:
        raise TrainingError(
            f"{len(lines)} layers of the net cannot be quantized."
            if len(lines) > 1
            else "A layer of the net cannot be quantized.",
            why="\n       ".join(lines),
            fix="use a backbone of this tool, or change these layers; edgetl/graph/admission.py lists those that can be quantized",
        )


def why_not(layer: Any) -> str | None:
    """Why a layer has no int8 form; None if it has one."""
    if isinstance(layer, Model):
        return "it is a model inside the model; call its layers on the tensors one by one, so that the net is flat"
    # The exact class: a subclass (Conv2DTranspose is a Conv2D) may compute something else.
    check = _CHECKS.get(type(layer))
    if check is None:
        return "it has no int8 form here"
    if len(layer.inbound_nodes) > 1:
        return "it is used more than once; make one layer per use"
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return "its data_format is channels_first; here images are [batch, height, width, channels]"
    return check(layer)


def activation_of(layer: Any) -> str | None:
    """ "none", "relu" or "relu6", also for a layer that is only a ReLU; None for any other activation."""
    if isinstance(layer, layers.ReLU):
        if layer.negative_slope or layer.threshold:
            return None
        limit = layer.max_value
        return "relu" if limit is None else "relu6" if float(limit) == 6.0 else None
    return {"linear": "none", "relu": "relu", "relu6": "relu6"}.get(_name(layer.activation))


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _is_keras_3(thing: Any) -> bool:
    return any(kind.__module__.split(".")[0] == "keras" for kind in type(thing).__mro__)


def _rank(layer: Any) -> int:
    return len(layer.input.shape)


def _activation(layer: Any) -> str | None:
    if activation_of(layer) is None:
        if isinstance(layer, layers.ReLU):
            return "its slope, threshold or max_value is not that of relu or relu6, which have an int8 form"
        hint = "; leave softmax out: the net's output is logits" if _name(layer.activation) == "softmax" else ""
        return f"its activation is {_name(layer.activation)}; relu, relu6 and linear have an int8 form{hint}"
    return None


def _convolution(layer: Any) -> str | None:
    if any(rate != 1 for rate in layer.dilation_rate):
        return f"its dilation_rate is {tuple(layer.dilation_rate)}; 1 has an int8 form here"
    if getattr(layer, "groups", 1) != 1:
        return f"its kernel has {layer.groups} groups; use Conv2D with one group, or DepthwiseConv2D"
    if getattr(layer, "depth_multiplier", 1) not in (1, None):
        return f"its depth_multiplier is {layer.depth_multiplier}; 1 has an int8 form here"
    return _activation(layer)


def _dense(layer: Any) -> str | None:
    if _rank(layer) != 2:
        return f"its input has {_rank(layer)} axes; put GlobalAveragePooling2D before it"
    return _activation(layer)


def _batch_norm(layer: Any) -> str | None:
    if _rank(layer) != 4:
        return "its input is not an image: a BatchNorm is folded into a convolution"
    axis = layer.axis[0] if isinstance(layer.axis, list | tuple) else layer.axis
    return None if axis in (-1, 3) else f"it normalizes axis {axis}; only the last, the channels, has an int8 form"


def _add(layer: Any) -> str | None:
    inputs = layer.input if isinstance(layer.input, list | tuple) else [layer.input]
    if len(inputs) != 2:
        return f"it adds {len(inputs)} tensors; add two at a time"
    if tuple(inputs[0].shape) != tuple(inputs[1].shape):
        return "its two tensors differ in shape"
    return None


def _concatenate(layer: Any) -> str | None:
    inputs = layer.input if isinstance(layer.input, list | tuple) else [layer.input]
    if len(inputs[0].shape) != 4 or layer.axis not in (-1, 3):
        return (
            f"it joins along axis {layer.axis} of {len(inputs[0].shape)}; only the channels of images have an int8 form"
        )
    return None


def _global_pool(layer: Any) -> str | None:
    return "keepdims is True; the logits need [batch, channels]" if layer.keepdims else None


def _nothing(layer: Any) -> None:
    return None


_CHECKS: dict[type, Callable[[Any], str | None]] = {
    layers.InputLayer: _nothing,
    layers.Conv2D: _convolution,
    layers.DepthwiseConv2D: _convolution,
    layers.SeparableConv2D: _convolution,
    layers.Dense: _dense,
    layers.BatchNormalization: _batch_norm,
    layers.ReLU: _activation,
    layers.Activation: _activation,
    layers.ZeroPadding2D: _nothing,
    layers.MaxPooling2D: _nothing,
    layers.AveragePooling2D: _nothing,
    layers.GlobalAveragePooling2D: _global_pool,
    layers.Add: _add,
    layers.Concatenate: _concatenate,
    **dict.fromkeys(REMOVED, _nothing),
}
