"""Float TFLite files: TensorFlow's converter on the folded graph, with our names on inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flatbuffers
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from edgetl.graph.graph import Graph
from edgetl.graph.rebuild import rebuild


def probabilities_function(graph: Graph) -> Any:
    """A concrete function: image float32 [1, h, w, 3], normalized -> probabilities float32 [1, classes]."""
    model = rebuild(graph)
    image = tf.TensorSpec(graph.input.shape, tf.float32, name="image")
    return tf.function(
        lambda image: {"probabilities": tf.nn.softmax(model(image, training=False), name="probabilities")}
    ).get_concrete_function(image), model


def write_tflite_float(graph: Graph, *, precision: str, description: str, metadata: Mapping[str, bytes]) -> bytes:
    """The file's bytes. precision: "float32"; "float16" (weights at half size, computed in float32 on CPUs); "dynamic"
    (int8 weights; activations quantized at run time, by the range in each run)."""
    function, model = probabilities_function(graph)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return _named(converter.convert(), description, metadata)


def _named(data: bytes, description: str, metadata: Mapping[str, bytes]) -> bytes:
    """The same model with the tensor names `image` and `probabilities`, a description and metadata buffers."""
    model = schema.ModelT.InitFromPackedBuf(data)
    subgraph = model.subgraphs[0]
    subgraph.tensors[subgraph.inputs[0]].name = b"image"
    subgraph.tensors[subgraph.outputs[0]].name = b"probabilities"
    model.description = description
    for name, content in metadata.items():
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(content, np.uint8)
        entry.name, entry.buffer = name, len(model.buffers)
        model.buffers.append(buffer)
        model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(1 << 22)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
