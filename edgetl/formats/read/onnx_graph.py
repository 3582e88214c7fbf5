"""The wiring of an ONNX graph: which node writes or reads a tensor, which tensors are constant, and which are stored in
other files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onnx import TensorProto

from edgetl.core.words import printable
from edgetl.formats.read.census import Malformed


class Links:
    """maker, readers: tensor name -> positions of nodes. constants: name -> the value in the file. constant: names of tensors
    that depend on constants alone. folded: positions of the nodes that compute those."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.outputs = {value.name for value in graph.output}
        self.constants: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
        self.maker: dict[str, int] = {}
        self.readers: dict[str, list[int]] = {}
        self.folded: set[int] = set()
        self.constant: set[str] = set(self.constants)
        for position, node in enumerate(graph.node):
            for name in node.input:
                if name:
                    self.readers.setdefault(name, []).append(position)
            given = [name for name in node.input if name]
            if node.op_type == "Constant" or (given and all(name in self.constant for name in given)):
                self.folded.add(position)
                self.constant.update(node.output)
            for name in node.output:
                if name in self.maker:
                    raise Malformed(f"tensor {printable(name)!r} is written twice")
                if name:
                    self.maker[name] = position
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value" and node.output:
                    self.constants[node.output[0]] = attribute.t

    def maker_type(self, name: str) -> str:
        """The op that writes a tensor; "" for inputs and constants."""
        return self.graph.node[self.maker[name]].op_type if name in self.maker else ""

    def raw(self, name: str) -> str:
        """The tensor before a DequantizeLinear; otherwise the tensor itself."""
        return self.graph.node[self.maker[name]].input[0] if self.maker_type(name) == "DequantizeLinear" else name

    def stored(self, name: str) -> str | None:
        """The stored constant that a constant tensor comes from, through Q, DQ and other folded nodes; None if there is none."""
        for _ in range(len(self.graph.node) + 1):
            if name in self.constants:
                return name
            if name not in self.constant or not self.graph.node[self.maker[name]].input:
                return None
            name = self.graph.node[self.maker[name]].input[0]
        return None


def external_data(model: Any) -> list[tuple[str, str]]:
    """Names and locations of all tensors whose data is in another file: initializers, sparse ones, attributes, subgraphs
    and functions."""
    found = []
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
            found.append((printable(tensor.name), printable(location)))
    return found


def _tensors(model: Any) -> Iterator[Any]:
    graphs, nodes = [model.graph], [node for function in model.functions for node in function.node]
    for training in model.training_info:
        graphs += [training.initialization, training.algorithm]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes += graph.node
            continue
        for attribute in nodes.pop().attribute:
            yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            graphs += attribute.graphs
            if attribute.HasField("g"):
                graphs.append(attribute.g)
    for function in model.functions:
        for attribute in function.attribute_proto:
            yield attribute.t
            yield from attribute.tensors
