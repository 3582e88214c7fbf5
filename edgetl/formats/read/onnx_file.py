"""Read an ONNX file into a census. Only the protobuf is read: a model with data in other files is
refused.

In the QDQ form, quantization is written around an op: DequantizeLinear before it, QuantizeLinear after it. An op counts as
int8 if all its activations and weights come from the first and its result goes to the second. A Relu or Clip in between is
part of it only if the grid ends where the activation would, because only then can a runtime remove it. The tensors in
between are "fused": a runtime that fuses the op never computes them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from edgetl.core.words import printable
from edgetl.formats.read.census import (
    LIMITS,
    QUANTIZED,
    WRITE_AS_ONE,
    Bound,
    Census,
    Grid,
    Kernel,
    Malformed,
    Op,
    Tensor,
    channel_use,
    make_grid,
    precision_of,
    tensor_bytes,
)
from edgetl.formats.read.onnx_graph import Links, external_data
from edgetl.formats.read.onnx_shapes import tensor_types
from edgetl.formats.read.tflite_file import biases_at_limits, channel_peaks

# The exceptions for a protobuf that parses but has wrong shapes, types or attributes.
DAMAGE = (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError, RecursionError)
# Op -> the inputs with its data, kernel and bias, and the kernel's axis of output channels.
KERNELS = {
    "Conv": (0, 1, 2, 0),
    "ConvTranspose": (0, 1, 2, 1),
    "ConvInteger": (0, 1, -1, 0),
    "QLinearConv": (0, 3, 8, 0),
    "Gemm": (0, 1, 2, 1),
    "MatMul": (0, 1, -1, -1),
    "MatMulInteger": (0, 1, -1, -1),
    "QLinearMatMul": (0, 3, -1, -1),
    "QGemm": (0, 3, 6, 1),
    "DynamicQuantizeMatMul": (0, 1, 4, -1),
    "MatMulIntegerToFloat": (0, 1, 6, -1),
}
_UNCOUNTED = {
    "LSTM",
    "GRU",
    "RNN",
    "Einsum",
    "Attention",
    "QAttention",
    "DeformConv",
    "If",
    "Loop",
    "Scan",
    "MatMulNBits",
}
_MOVES = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice", "Split", "Concat"}
_MOST = 200_000


def read_onnx(data: bytes) -> Census:
    """The census of the main graph. Raises Malformed for a file that is not an ONNX model, contradicts itself or has no data."""
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise Malformed(f"it is not an ONNX protobuf, or was cut short ({printable(str(error))})") from None
    if model.ir_version <= 0 or not model.opset_import or not model.graph.node or not model.graph.output:
        raise Malformed("it has no ONNX version, operator set, nodes or outputs")
    if len(model.graph.node) > _MOST or len(model.graph.initializer) > _MOST:
        raise Malformed(f"it claims {len(model.graph.node)} nodes and {len(model.graph.initializer)} initializers")
    outside = external_data(model)
    if outside:
        more = f" and {len(outside) - 1} more" if len(outside) > 1 else ""
        raise Malformed(
            f"tensor {outside[0][0]!r}{more} is stored in another file, {outside[0][1]!r}", fix=WRITE_AS_ONE
        )
    try:
        return _Reader(model).census()
    except Malformed:
        raise
    except DAMAGE as error:
        raise Malformed(f"a shape, a type or an attribute in it is impossible ({printable(str(error))})") from None


class _Reader:
    def __init__(self, model: Any) -> None:
        self.notes: list[str] = []
        self.model = model
        self.graph = model.graph
        self.links = Links(model.graph)
        types, notes = tensor_types(model)
        self.notes += notes
        self.types = {name: (shape, _dtype(kind)) for name, (shape, kind) in types.items()}
        for name, constant in self.links.constants.items():
            self.types[name] = (tuple(constant.dims), _dtype(constant.data_type))
        self.grids: dict[str, Grid] = {}
        self.indices: dict[str, int] = {}
        self.used: set[str] = set()

    def shape(self, name: str) -> tuple[int, ...] | None:
        return self.types.get(name, (None, ""))[0]

    def dtype(self, name: str) -> str:
        return self.types.get(name, (None, "unknown"))[1]

    def array(self, name: str) -> np.ndarray | None:
        """A stored constant's values."""
        return numpy_helper.to_array(self.links.constants[name]) if name in self.links.constants else None

    def census(self) -> Census:
        self._find_grids()
        self.int8 = {position for position, node in enumerate(self.graph.node) if self._is_int8(position, node)}
        self.dropped = {
            self.links.readers[node.output[0]][0]
            for position, node in enumerate(self.graph.node)
            if position in self.int8 and self._activation_after(node) is not None
        }
        self.names = list(dict.fromkeys(name for name in self._all_names() if name))
        self.indices = {name: index for index, name in enumerate(self.names)}
        ops = tuple(self._op(position, node) for position, node in enumerate(self.graph.node))
        ends = [
            tuple(self.indices[value.name] for value in part if value.name not in self.links.constants)
            for part in (self.graph.input, self.graph.output)
        ]
        touched = {self.names[index] for op in ops for index in (*op.reads, *op.writes)}
        touched |= {self.names[index] for end in ends for index in end}
        tensors = tuple(self._tensor(name, name in touched) for name in self.names)
        unknown = sum(self.shape(name) is None for name in touched)
        if unknown:
            self.notes.append(f"the shapes of {unknown} tensors are not known: they count as 0 bytes")
        return Census("onnx", ops, tensors, ends[0], ends[1], self._metadata(), tuple(self.notes))

    def _all_names(self) -> list[str]:
        names = [value.name for value in [*self.graph.input, *self.graph.output]]
        for node in self.graph.node:
            names += [*node.input, *node.output]
        return names

    def _tensor(self, name: str, touched: bool) -> Tensor:
        shape, dtype = self.shape(name) or (), self.dtype(name)
        stored = name in self.links.constants
        return Tensor(
            printable(name),
            shape,
            dtype,
            "weight" if stored else "activation" if touched else "fused",
            tensor_bytes(shape, dtype) if stored or self.shape(name) is not None else 0,
            self.grids.get(name),
        )

    # Which ops are int8.

    def _find_grids(self) -> None:
        for node in self.graph.node:
            if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 2:
                continue
            scale = self.array(node.input[1])
            if scale is None:
                continue
            zero = self.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
            name = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
            zeros = zero.ravel().tolist() if zero is not None and zero.dtype.kind in "iu" else []
            with np.errstate(invalid="ignore"):  # make_grid refuses a NaN
                made = make_grid(scale.astype(np.float64).ravel().tolist(), zeros)
            if made is None:
                self.notes.append(f"the scale of {printable(name)} is not a positive number")
            else:
                self.grids[name] = made
        # Ops that only move values have the same grid on both sides, so an integer input has the grid after its Transpose.
        moving = [node for node in self.graph.node if node.op_type in _MOVES and node.input and node.output]
        for node in (*moving, *reversed(moving)):
            sources = node.input if node.op_type == "Concat" else node.input[:1]
            ends = [name for name in (*sources, *node.output) if self.dtype(name) in QUANTIZED]
            known = next((self.grids[end] for end in ends if end in self.grids and self.grids[end].scales == 1), None)
            if known is not None:
                for end in ends:
                    self.grids.setdefault(end, known)

    def _is_int8(self, position: int, node: Any) -> bool:
        links = self.links
        if position in links.folded or node.op_type in ("QuantizeLinear", "DequantizeLinear") or not node.output:
            return False
        needed = [name for name in node.input if name and (name not in links.constant or node.op_type in KERNELS)]
        moving = [name for name in needed if name not in links.constant]
        if not moving or not all(links.maker_type(name) == "DequantizeLinear" for name in needed):
            return False
        return self._goes_to_q(node.output[0]) or self._activation_after(node) is not None

    def _goes_to_q(self, name: str) -> bool:
        readers = self.links.readers.get(name, [])
        return bool(readers) and name not in self.links.outputs and all(
            self.graph.node[reader].op_type == "QuantizeLinear" for reader in readers
        )  # fmt: skip

    def _activation_after(self, node: Any) -> Any:
        """The Relu or Clip after an op that the grid makes redundant; None if there is none."""
        readers = self.links.readers.get(node.output[0], [])
        if len(readers) != 1 or node.output[0] in self.links.outputs or node.op_type in ("Relu", "Clip"):
            return None
        after = self.graph.node[readers[0]]
        bound = self._bound_of(after)
        if bound is None or not self._goes_to_q(after.output[0]):
            return None
        ends = self._range_after(after.output[0])
        if ends is None:
            return None
        low, high, step = ends
        # Half a step is the rounding of the zero point.
        fits = (bound[0] is None or low >= bound[0] - step / 2) and (bound[1] is None or high <= bound[1] + step / 2)
        return after if fits else None

    def _range_after(self, name: str) -> tuple[float, float, float] | None:
        """low, high and step of the grid that a float tensor is quantized on."""
        made = self.graph.node[self.links.readers[name][0]].output[0]
        grid, dtype = self.grids.get(made), self.dtype(made)
        if grid is None or dtype not in LIMITS:
            return None
        low, high = ((end - grid.zero_point) * grid.scale for end in LIMITS[dtype])
        return low, high, grid.scale

    def _bound_of(self, node: Any) -> tuple[float | None, float | None] | None:
        """The limits of an activation node; None for other nodes and for limits that are not constants."""
        if node.op_type == "Relu":
            return 0.0, None
        if node.op_type != "Clip":
            return None
        found: list[float | None] = []
        for position, key in ((1, "min"), (2, "max")):
            name = node.input[position] if len(node.input) > position else ""
            value = self.array(name)
            if name and (value is None or value.size != 1):
                return None
            given = next((attribute.f for attribute in node.attribute if attribute.name == key), None)
            number = float(value.ravel()[0]) if value is not None else given
            found.append(number if number is not None and math.isfinite(number) else None)
        return found[0], found[1]

    # Rows.

    def _op(self, position: int, node: Any) -> Op:
        name = printable(node.name or (node.output[0] if node.output else "")) or node.op_type
        kind = printable(f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type, 60)
        if position in self.links.folded:
            return Op(name, kind, "index", "folded")
        reads = [one for one in node.input if one and one not in self.links.constant]
        writes = [one for one in node.output if one]
        bound = self._bound(node)
        if position in self.dropped or self._is_fused(position, node):
            return Op(name, kind, "int8", "fused", bound=bound)
        if position in self.int8:
            reads = [self.graph.node[self.links.maker[one]].input[0] for one in reads]
            last = self._activation_after(node)
            made = (last if last is not None else node).output[0]
            writes = [out for reader in self.links.readers[made] for out in self.graph.node[reader].output]
            writes += [one for one in node.output[1:] if one]
        macs, kernel, weight_bytes, biases = self._weights(node)
        precision = precision_of(
            node.op_type, map(self.dtype, reads), map(self.dtype, writes), kernel.dtype if kernel else None
        )
        return Op(
            name,
            kind,
            precision,
            "convert" if precision == "convert" else "compute",
            macs,
            weight_bytes,
            tuple(self.indices[one] for one in dict.fromkeys(reads)),
            tuple(self.indices[one] for one in dict.fromkeys(writes)),
            kernel,
            bound,
            biases,
        )

    def _is_fused(self, position: int, node: Any) -> bool:
        """Whether a Q or DQ has only int8 ops after or before it."""
        if node.op_type == "DequantizeLinear":
            readers = self.links.readers.get(node.output[0], [])
            return (
                bool(readers) and node.output[0] not in self.links.outputs and all(one in self.int8 for one in readers)
            )
        return node.op_type == "QuantizeLinear" and self.links.maker.get(node.input[0], -1) in self.int8 | self.dropped

    def _bound(self, node: Any) -> Bound | None:
        bound = self._bound_of(node)
        if bound is None or not self._goes_to_q(node.output[0]) or bound == (None, None):
            return None
        made = self.graph.node[self.links.readers[node.output[0]][0]].output[0]
        limits = ", ".join("" if end is None else f"{end:g}" for end in bound)
        return Bound("Relu" if node.op_type == "Relu" else f"Clip({limits})", *bound, self.indices[made])

    def _weights(self, node: Any) -> tuple[int | None, Kernel | None, int, int]:
        """MACs, kernel, bytes of the stored constants it reads, biases at int32's limits."""
        stored = [one for one in map(self.links.stored, node.input) if one is not None]
        heavy = node.op_type in KERNELS
        size = sum(tensor_bytes(self.shape(one) or (), self.dtype(one)) for one in dict.fromkeys(stored) if heavy or self.dtype(one) not in ("int32", "int64"))  # fmt: skip
        if not heavy:
            return (None if node.op_type in _UNCOUNTED else 0), None, size, 0
        _, where, bias_at, axis = KERNELS[node.op_type]
        if len(node.input) <= where or not node.output:
            raise Malformed(f"a {node.op_type} lacks its kernel or output")
        if node.op_type in ("Gemm", "QGemm") and _attribute(node, "transB"):
            axis = 0
        bias = self.links.stored(node.input[bias_at]) if 0 < bias_at < len(node.input) else None
        biases = self.array(bias) if bias is not None and self.dtype(bias) == "int32" else None
        kernel = self._kernel(node, where, axis)
        return self.macs(node), kernel, size, biases_at_limits(biases) if biases is not None else 0

    def macs(self, node: Any) -> int | None:
        """Multiply-accumulates of a node with a kernel; None where shapes are unknown."""
        data, where, _, _ = KERNELS[node.op_type]
        kernel, made, given = (self.shape(name) for name in (node.input[where], node.output[0], node.input[data]))
        if kernel is None or made is None or given is None:
            return None
        if "Conv" in node.op_type:
            over = given if node.op_type == "ConvTranspose" else made
            return math.prod(kernel) * math.prod((*over[:1], *over[2:]))
        inner = given[0] if node.op_type in ("Gemm", "QGemm") and _attribute(node, "transA") else (given[-1] if given else 1)  # fmt: skip
        return math.prod(made) * inner

    def _kernel(self, node: Any, where: int, axis: int) -> Kernel | None:
        stored = self.links.stored(node.input[where])
        if stored is None:
            return None
        shape, dtype = self.shape(stored) or (), self.dtype(stored)
        channels = shape[axis] if -len(shape) <= axis < len(shape) else 1
        size = tensor_bytes(shape, dtype)
        grid, zero = self._kernel_grid(node, where)
        use: tuple[int, int, tuple[int, int] | None] = (0, 0, None)
        if dtype in ("int8", "uint8") and stored == (self.links.raw(node.input[where])):
            values = self.array(stored)
            assert values is not None
            centre = values.astype(np.int16) - np.int16(zero)
            use = channel_use(channel_peaks(centre, axis % max(len(shape), 1)))
        return Kernel(printable(stored), dtype, size, channels, (grid or 0) if dtype in QUANTIZED else 0, *use)

    def _kernel_grid(self, node: Any, where: int) -> tuple[int | None, int]:
        """The number of scales of a kernel, and its (first) zero point."""
        made = self.links.maker.get(node.input[where])
        source = self.graph.node[made] if made is not None else node
        scale_at, zero_at = (1, 2) if made is not None else (where + 1, where + 2)
        names = [source.input[at] if len(source.input) > at else "" for at in (scale_at, zero_at)]
        if made is None and node.op_type in ("ConvInteger", "MatMulInteger"):
            names = ["", node.input[3] if len(node.input) > 3 else ""]
        scale, zero = (self.array(name) for name in names)
        return (int(scale.size) if scale is not None else 1), int(
            zero.ravel()[0]
        ) if zero is not None and zero.size else 0

    def _metadata(self) -> dict[str, Any]:
        entries = {printable(prop.key): printable(prop.value, 400) for prop in self.model.metadata_props[:1000]}
        labels = next((prop.value for prop in self.model.metadata_props if prop.key == "labels"), None)
        return {
            "description": printable(self.model.doc_string, 400),
            "producer": printable(f"{self.model.producer_name} {self.model.producer_version}".strip()),
            "ir_version": int(self.model.ir_version),
            "opsets": {printable(one.domain or "ai.onnx"): int(one.version) for one in self.model.opset_import},
            "labels": len(labels.splitlines()) if labels is not None else None,
            "entries": entries,
        }


def _attribute(node: Any, name: str) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)


def _dtype(kind: int) -> str:
    if kind == TensorProto.FLOAT:
        return "float32"
    if kind == TensorProto.DOUBLE:
        return "float64"
    return TensorProto.DataType.Name(kind).lower() if kind else "unknown"
