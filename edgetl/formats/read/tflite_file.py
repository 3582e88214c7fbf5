"""Read a TFLite file into a census. It reads the flatbuffer itself, without TensorFlow or a LiteRT interpreter.

Layouts of kernels are those of LiteRT's schema and kernels. Every index is checked before it is used; the exceptions of
the generated reader for a damaged file are in DAMAGE.
"""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgetl.core.words import printable
from edgetl.formats.read.census import (
    LIMITS,
    QUANTIZED,
    WRITE_AS_ONE,
    Bound,
    Census,
    Kernel,
    Malformed,
    Op,
    Tensor,
    channel_use,
    checked_shape,
    make_grid,
    precision_of,
    tensor_bytes,
)

# The exceptions when a flatbuffer with wrong offsets, lengths or types is unpacked.
DAMAGE = (struct.error, ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError, RecursionError)
_DTYPES = {value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
_OPERATORS: dict[int, str] = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")
}
# Op -> the inputs with its data, kernel and bias, and the kernel's axis of output channels.
_KERNELS = {
    "CONV_2D": (0, 1, 2, 0),
    "DEPTHWISE_CONV_2D": (0, 1, 2, 3),
    "FULLY_CONNECTED": (0, 1, 2, 0),
    "TRANSPOSE_CONV": (2, 1, 3, 0),
    "CONV_3D": (0, 1, 2, 4),
}
# These ops multiply too, but the census does not count them.
_UNCOUNTED = {
    "LSTM", "RNN", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN",
    "BIDIRECTIONAL_SEQUENCE_RNN", "CONV_3D_TRANSPOSE", "STABLEHLO_CONVOLUTION", "STABLEHLO_DOT_GENERAL", "CUSTOM",
    "STABLEHLO_CUSTOM_CALL", "STABLEHLO_COMPOSITE", "IF", "WHILE", "CALL",
}  # fmt: skip
_BOUNDS = {"RELU": (0.0, None), "RELU6": (0.0, 6.0), "RELU_0_TO_1": (0.0, 1.0), "RELU_N1_TO_1": (-1.0, 1.0)}
_FUSED = {
    schema.ActivationFunctionType.RELU: "RELU",
    schema.ActivationFunctionType.RELU6: "RELU6",
    schema.ActivationFunctionType.RELU_N1_TO_1: "RELU_N1_TO_1",
}
_MOST = 200_000


def read_tflite(data: bytes) -> Census:
    """The census of the first subgraph. Raises Malformed for a file that is not a TFLite file or contradicts itself."""
    if data[4:8] != b"TFL3":
        raise Malformed("it does not carry TFLite's identifier TFL3 at byte 4")
    try:
        return _Reader(data).census()
    except Malformed:
        raise
    except DAMAGE as error:
        raise Malformed(f"an offset, a length or a type in it is impossible ({printable(str(error))})") from None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.model = schema.ModelT.InitFromPackedBuf(data)
        if not self.model.subgraphs or not self.model.subgraphs[0].operators:
            raise Malformed("it has no ops")
        self.graph = self.model.subgraphs[0]
        self.raw = self.graph.tensors or []
        if len(self.raw) > _MOST or len(self.graph.operators) > _MOST:
            raise Malformed(f"it claims {len(self.raw)} tensors and {len(self.graph.operators)} ops")
        self.notes: list[str] = []
        self.buffers = [self._buffer(index) for index in range(len(self.model.buffers or []))]
        self.constant = [self._is_constant(tensor) for tensor in self.raw]
        # A tensor that depends on constants alone (float16 weights behind DEQUANTIZE) -> the constant it comes from.
        self.source = {index: index for index, constant in enumerate(self.constant) if constant}

    def _buffer(self, index: int) -> Any:
        buffer = self.model.buffers[index]
        if buffer.offset > 1:  # files over 2 GB keep buffers after the flatbuffer
            if buffer.offset + buffer.size > len(self.data):
                raise Malformed(f"buffer {index} ends after the end of the file")
            return np.frombuffer(self.data, np.uint8, buffer.size, buffer.offset)
        return buffer.data if buffer.data is not None and len(buffer.data) else None

    def _is_constant(self, tensor: Any) -> bool:
        if not 0 <= tensor.buffer < max(len(self.buffers), 1):
            raise Malformed(
                f"tensor {printable(tensor.name or b'')!r} names buffer {tensor.buffer} of {len(self.buffers)}"
            )
        if tensor.type not in _DTYPES:
            raise Malformed(f"tensor {printable(tensor.name or b'')!r} has type {tensor.type}, which does not exist")
        if tensor.externalBuffer:
            raise Malformed(f"tensor {printable(tensor.name or b'')!r} is stored in another file", fix=WRITE_AS_ONE)
        return bool(self.buffers) and self.buffers[tensor.buffer] is not None

    def _tensor(self, index: int, seen: set[int]) -> Tensor:
        raw = self.raw[index]
        name, dtype = printable(raw.name or b"") or f"tensor {index}", _DTYPES[raw.type]
        shape = checked_shape(name, raw.shape if raw.shape is not None else ())
        size = tensor_bytes(shape, dtype)
        if self.constant[index]:
            held = len(self.buffers[raw.buffer])
            if size != held and raw.sparsity is None and dtype not in ("string", "resource", "variant"):
                raise Malformed(f"tensor {name!r} is {size} bytes by its shape and type, and its buffer holds {held}")
            # Tensors may share a buffer; its bytes count once.
            size = 0 if raw.buffer in seen else held
            seen.add(raw.buffer)
        made = raw.quantization
        grid = None
        if made is not None and made.scale is not None and len(made.scale) and dtype in LIMITS:
            grid = make_grid(made.scale.tolist(), made.zeroPoint.tolist() if made.zeroPoint is not None else ())
            if grid is None:
                self.notes.append(f"the scale of {name} is not a positive number")
        return Tensor(name, shape, dtype, "weight" if index in self.source else "activation", size, grid)

    def census(self) -> Census:
        codes = [self._code(code) for code in self.model.operatorCodes or []]
        rows = []
        for position, raw in enumerate(self.graph.operators):
            if not 0 <= raw.opcodeIndex < len(codes):
                raise Malformed(f"op {position} is of kind {raw.opcodeIndex} of {len(codes)}")
            inputs = self._indices(raw.inputs, f"op {position}")
            outputs = [index for index in self._indices(raw.outputs, f"op {position}") if index >= 0]
            given = [index for index in inputs if index >= 0]
            if given and outputs and all(index in self.source for index in given):
                self.source.update((index, self.source[given[0]]) for index in outputs)
                rows.append((codes[raw.opcodeIndex], raw, inputs, outputs, True))
            else:
                rows.append((codes[raw.opcodeIndex], raw, inputs, outputs, False))
        seen: set[int] = set()
        self.tensors = [self._tensor(index, seen) for index in range(len(self.raw))]
        ops = tuple(self._op(*row) for row in rows)
        if len(self.model.subgraphs) > 1:
            self.notes.append(
                f"{len(self.model.subgraphs) - 1} more subgraphs (bodies of IF, WHILE or CALL) are not counted"
            )
        ends = [
            self._indices(part, "the list of inputs and outputs") for part in (self.graph.inputs, self.graph.outputs)
        ]
        if not ends[1]:
            raise Malformed("it has no output")
        touched = {index for op in ops for index in (*op.reads, *op.writes)} | set(ends[0]) | set(ends[1])
        tensors = tuple(
            # A folded op's output does not depend on the photo, and its source is already counted.
            tensor if self.constant[index] or index in touched else _unused(tensor)
            for index, tensor in enumerate(self.tensors)
        )
        return Census("tflite", ops, tensors, tuple(ends[0]), tuple(ends[1]), self._metadata(), tuple(self.notes))

    def _code(self, code: Any) -> str:
        # Ops beyond 126 are in builtinCode; older files have only the deprecated field.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        if number not in _OPERATORS:
            raise Malformed(f"it uses op {number}, which this edgetl's LiteRT schema does not know")
        if _OPERATORS[number] == "CUSTOM" and code.customCode:
            return f"CUSTOM {printable(code.customCode, 60)}"
        operator: str = _OPERATORS[number]
        return operator

    def _indices(self, indices: Any, who: str) -> list[int]:
        found = [int(index) for index in (indices if indices is not None else ())]
        if any(not -1 <= index < len(self.raw) for index in found):
            raise Malformed(f"{who} names a tensor outside the {len(self.raw)} of the file")
        return found

    def _op(self, kind: str, raw: Any, inputs: list[int], outputs: list[int], folded: bool) -> Op:
        reads = tuple(dict.fromkeys(index for index in inputs if index >= 0 and index not in self.source))
        name = printable((self.raw[outputs[0]].name or b"").split(b";")[0]) if outputs else kind
        macs, kernel, biases = self._weights(kind, inputs, outputs)
        constants = {self.source[index] for index in inputs if index in self.source}
        dtypes = [self.tensors[index].dtype for index in reads]
        made = [self.tensors[index].dtype for index in outputs]
        precision = precision_of(kind, dtypes, made, kernel.dtype if kernel else None)
        part: Any = "folded" if folded else "convert" if precision == "convert" else "compute"
        return Op(
            name or kind,
            kind,
            precision,
            part,
            0 if folded else macs,
            # Positions and shapes (the pads of a PAD) are not weights.
            sum(self.tensors[index].bytes for index in constants if kernel or self.tensors[index].dtype not in ("int32", "int64")) * (not folded),
            reads,
            () if folded else tuple(outputs),
            kernel,
            self._bound(kind, raw, outputs),
            biases,
        )  # fmt: skip

    def _weights(self, kind: str, inputs: list[int], outputs: list[int]) -> tuple[int | None, Kernel | None, int]:
        if kind == "BATCH_MATMUL" and len(inputs) > 1 and inputs[0] >= 0 and outputs:
            shape = self.tensors[inputs[0]].shape
            return int(np.prod(self.tensors[outputs[0]].shape, dtype=object)) * (shape[-1] if shape else 1), None, 0
        if kind not in _KERNELS:
            return (None if kind.split()[0] in _UNCOUNTED else 0), None, 0
        data, where, bias_at, axis = _KERNELS[kind]
        if len(inputs) <= max(data, where) or min(inputs[data], inputs[where]) < 0 or not outputs:
            raise Malformed(f"a {kind} lacks its data, kernel or output")
        shape = self.tensors[inputs[where]].shape
        elements = int(np.prod(shape, dtype=object))
        if kind == "FULLY_CONNECTED":
            made = int(np.prod(self.tensors[outputs[0]].shape, dtype=object))
            macs = made * (shape[-1] if shape else 1)
        else:
            over = self.tensors[inputs[data] if kind == "TRANSPOSE_CONV" else outputs[0]].shape
            macs = elements * int(np.prod(over[:-1], dtype=object))
        kernel, biases = None, 0
        if inputs[where] in self.source:
            index = self.source[inputs[where]]
            kernel = self._kernel(index, axis)
            if len(inputs) > bias_at and inputs[bias_at] in self.source:
                biases = self._biases_at_limits(self.source[inputs[bias_at]])
        return macs, kernel, biases

    def _kernel(self, index: int, axis: int) -> Kernel:
        tensor, raw = self.tensors[index], self.raw[index]
        channels = tensor.shape[axis] if len(tensor.shape) > axis else 1
        dtype, scales = tensor.dtype, tensor.grid.scales if tensor.grid else 0
        use: tuple[int, int, tuple[int, int] | None] = (0, 0, None)
        if dtype in ("int8", "uint8") and raw.sparsity is None and tensor.grid is not None:
            values = self.buffers[raw.buffer].view(dtype).reshape(tensor.shape).astype(np.int16)
            zero = np.int16(np.clip(tensor.grid.zero_point, -128, 255))
            use = channel_use(channel_peaks(values - zero, axis))
        return Kernel(tensor.name, dtype, tensor.bytes, channels, scales if dtype in QUANTIZED else 0, *use)

    def _biases_at_limits(self, index: int) -> int:
        tensor, raw = self.tensors[index], self.raw[index]
        if tensor.dtype != "int32" or raw.sparsity is not None:
            return 0
        return biases_at_limits(self.buffers[raw.buffer].view(np.int32))

    def _bound(self, kind: str, raw: Any, outputs: list[int]) -> Bound | None:
        name = kind if kind in _BOUNDS else _FUSED.get(getattr(raw.builtinOptions, "fusedActivationFunction", None), "")
        if not name or not outputs or self.tensors[outputs[0]].dtype not in QUANTIZED:
            return None
        return Bound(name, *_BOUNDS[name], outputs[0])

    def _metadata(self) -> dict[str, Any]:
        entries, labels = {}, None
        for entry in (self.model.metadata or [])[:1000]:
            name = printable(entry.name or b"")
            if not 0 <= entry.buffer < len(self.buffers):
                raise Malformed(f"metadata {name!r} names buffer {entry.buffer} of {len(self.buffers)}")
            content = self.buffers[entry.buffer]
            entries[name] = f"{0 if content is None else len(content)} bytes"
            if name == "labels.txt" and content is not None:
                labels = len(content.tobytes().decode("utf-8", "replace").splitlines())
        attached = _attached(self.data)
        for name, lines in attached.items():
            entries[f"attached {name}"] = f"{lines} lines"
            labels = lines if labels is None and "label" in name.lower() else labels
        return {
            "description": printable(self.model.description or b"", 400),
            "schema_version": int(self.model.version),
            "labels": labels,
            "signatures": [printable(one.signatureKey or b"") for one in (self.model.signatureDefs or [])[:100]],
            "entries": entries,
        }


def _unused(tensor: Tensor) -> Tensor:
    return Tensor(tensor.name, tensor.shape, tensor.dtype, "fused", tensor.bytes, tensor.grid)


def _attached(data: bytes) -> dict[str, int]:
    """Text files in the ZIP that TFLite Metadata tools append to a model: name -> lines. Reads at most 1 MB of each."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return {}
    found = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist()[:100]:
                if entry.filename.endswith(".txt"):
                    with archive.open(entry) as file:
                        text = file.read(1 << 20).decode("utf-8", "replace")
                    found[printable(entry.filename)] = len(text.splitlines())
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError) as error:
        found[f"unreadable: {printable(str(error))}"] = 0
    return found


def channel_peaks(values: np.ndarray, axis: int) -> list[int]:
    """max|value| of each index along an axis: the part of its grid that a weight channel uses."""
    if not values.size:
        return []
    if values.ndim <= axis:
        return [int(np.abs(values).max())]
    others = tuple(i for i in range(values.ndim) if i != axis % values.ndim)
    return [int(peak) for peak in np.abs(values).max(axis=others)]


def biases_at_limits(bias: np.ndarray) -> int:
    """How many int32 biases are at the limits of their range, which usually means that they were clipped."""
    limits = np.iinfo(np.int32)
    return int(np.count_nonzero((bias == limits.max) | (bias == limits.min)))
