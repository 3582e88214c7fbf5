"""The float32 ONNX file: tf2onnx on the folded graph, with fixed names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
import tensorflow as tf
import tf2onnx

from edgetl.graph.graph import Graph
from edgetl.graph.preactivation import with_convolved_shifts
from edgetl.graph.rebuild import rebuild


def write_onnx_float(graph: Graph, *, opset: int, description: str, metadata: Mapping[str, str]) -> Any:
    """The model: `image` float32 [1, h, w, 3], normalized -> `probabilities` float32 [1, classes]."""
    model = rebuild(with_convolved_shifts(graph))
    signature = [tf.TensorSpec(graph.input.shape, tf.float32, name="image")]
    function = tf.function(lambda image: tf.nn.softmax(model(image, training=False)), input_signature=signature)
    proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=opset)
    _rename(proto.graph, proto.graph.input[0].name, "image")
    _rename(proto.graph, proto.graph.output[0].name, "probabilities")
    proto.doc_string, proto.producer_name = description, "edgetl"
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _rename(graph: Any, old: str, new: str) -> None:
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.name == old:
            value.name = new
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
