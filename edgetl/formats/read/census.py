"""Census: the contents of a model file as plain rows, for both formats. Standard library only: the command line renders
it without NumPy or a framework."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Precision = Literal["int8", "int16", "float32", "float16", "float64", "hybrid", "convert", "index"]
# compute: runs for every photo. convert: runs, and only changes how numbers are stored. folded: depends on constants
# alone, so a runtime does it once. fused: part of a quantized op beside it (the Q and DQ of an ONNX file).
Part = Literal["compute", "convert", "folded", "fused"]
Use = Literal["weight", "activation", "fused"]
FLOATS = ("float32", "float16", "float64", "bfloat16")
QUANTIZED = ("int8", "uint8", "int16", "uint16", "int4", "uint4", "int2")
CONVERSIONS = ("QUANTIZE", "DEQUANTIZE", "CAST", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast")
# These ops read a tensor's shape but none of its values.
_SHAPE_READERS = ("SHAPE", "RANK", "Shape", "Size")
BITS = {
    "float64": 64, "int64": 64, "uint64": 64, "complex64": 64, "complex128": 128, "float32": 32, "int32": 32, "uint32": 32,
    "float16": 16, "bfloat16": 16, "int16": 16, "uint16": 16, "int8": 8, "uint8": 8, "bool": 8,
    "float8_e4m3fn": 8, "float8_e5m2": 8, "int4": 4, "uint4": 4, "int2": 2,
}  # fmt: skip
LIMITS = {
    "int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535),
    "int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "int32": (-(2**31), 2**31 - 1),
}  # fmt: skip
# An int8 channel whose largest weight is below 16 of 127 steps has lost three of its seven bits.
WEAK_PEAK = 16
WRITE_AS_ONE = "write the model as one file that contains its tensors"


class Malformed(ValueError):
    """The file contradicts itself or its format; the message says where, and `fix` says what to do."""

    def __init__(self, message: str, *, fix: str = "export it or copy it again") -> None:
        super().__init__(message)
        self.fix = fix


@dataclass(frozen=True)
class Grid:
    """real = (q - zero_point) * scale. scales: their number; scale and zero_point are the first ones."""

    scale: float
    zero_point: int
    scales: int = 1


@dataclass(frozen=True)
class Tensor:
    """bytes: the size of its elements; for a constant, its size in the file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    use: Use
    bytes: int
    grid: Grid | None = None

    def real_range(self) -> tuple[float, float] | None:
        """The real numbers that the grid covers; None without one."""
        if self.grid is None or self.dtype not in LIMITS:
            return None
        low, high = LIMITS[self.dtype]
        return (low - self.grid.zero_point) * self.grid.scale, (high - self.grid.zero_point) * self.grid.scale


@dataclass(frozen=True)
class Kernel:
    """The weights of one op. scales: 0 for floats, 1 per tensor, otherwise one per channel.

    zero_channels: all weights 0. weak_channels: not all 0, and max|q| < WEAK_PEAK. weakest: the channel of smallest
    max|q| among those, and that maximum.
    """

    tensor: str
    dtype: str
    bytes: int
    channels: int
    scales: int
    zero_channels: int = 0
    weak_channels: int = 0
    weakest: tuple[int, int] | None = None


@dataclass(frozen=True)
class Bound:
    """An activation function and the tensor on a grid that it bounds. low, high: None where there is no limit."""

    activation: str
    low: float | None
    high: float | None
    tensor: int


@dataclass(frozen=True)
class Op:
    """reads, writes: indices of the activations it really touches (an ONNX int8 op: the tensors before DQ and after Q).

    macs is None for a type of op that multiplies but is not counted here.
    """

    name: str
    type: str
    precision: Precision
    part: Part
    macs: int | None = 0
    weight_bytes: int = 0
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    kernel: Kernel | None = None
    bound: Bound | None = None
    biases_at_limits: int = 0


@dataclass(frozen=True)
class Census:
    """ops in execution order. inputs, outputs: indices of tensors. notes: what was left out or assumed."""

    format: Literal["tflite", "onnx"]
    ops: tuple[Op, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def tensor_bytes(shape: Sequence[int], dtype: str) -> int:
    """Bytes of a dense tensor; 0 for types without a fixed size (strings, resources).

    >>> tensor_bytes((1, 3, 3), "float32"), tensor_bytes((5,), "int4")
    (36, 3)
    """
    return (math.prod(shape) * BITS.get(dtype, 0) + 7) // 8


def precision_of(kind: str, reads: Iterable[str], writes: Iterable[str], kernel: str | None) -> Precision:
    """The precision that an op computes in, from the types of its activations and of its kernel.

    hybrid: float activations, integer weights. convert: changes the type and computes nothing. index: shapes, positions
    or booleans instead of values.

    >>> precision_of("CONV_2D", ["int8"], ["int8"], "int8"), precision_of("Gemm", ["float32"], ["float32"], "int8")
    ('int8', 'hybrid')
    """
    read = [dtype for dtype in reads if dtype in FLOATS + QUANTIZED]
    found = read + [dtype for dtype in writes if dtype in FLOATS + QUANTIZED]
    floats = [dtype for dtype in found if dtype in FLOATS]
    if kind in CONVERSIONS and floats:
        return "convert"
    if not found or kind in _SHAPE_READERS:
        # ONNX's shape inference knows no types after ONNX Runtime's own ops; the names of the ops show their types.
        return "int8" if kind.startswith(("QLinear", "QGemm")) else "index"
    if len(floats) < len(found) and not (read and read[0] in FLOATS):
        return "int16" if any(dtype.endswith("int16") for dtype in found) else "int8"
    if kernel in QUANTIZED:
        return "hybrid"
    if "float32" in floats:
        return "float32"
    return "float64" if "float64" in floats else "float16"


def computes_on_floats(op: Op) -> bool:
    """Whether an op computes on float activations."""
    return op.part == "compute" and op.precision in ("float32", "float16", "float64", "hybrid")


def computes_on_integers(op: Op) -> bool:
    """Whether an op computes on integer activations."""
    return op.part == "compute" and op.precision in ("int8", "int16")


def channel_use(peaks: Sequence[int]) -> tuple[int, int, tuple[int, int] | None]:
    """zero_channels, weak_channels and weakest of a Kernel. peaks: max|q - zero point| of each output channel.

    >>> channel_use([127, 0, 9, 15, 16])
    (1, 2, (2, 9))
    """
    weak = [(peak, channel) for channel, peak in enumerate(peaks) if 0 < peak < WEAK_PEAK]
    weakest = (min(weak)[1], min(weak)[0]) if weak else None
    return sum(peak == 0 for peak in peaks), len(weak), weakest


_LARGEST_SCALE = 3.5e38  # float32's
# Far beyond any image net; below it, bytes and MACs are exact in a float and readable.
_MOST_AXES, _MOST_ELEMENTS = 16, 2**48


def checked_shape(name: str, sizes: Iterable[int]) -> tuple[int, ...]:
    """The shape of a tensor as a file states it. Raises Malformed for one that does not fit into any memory."""
    shape = tuple(int(size) for size in sizes)
    if any(size < 0 for size in shape):
        raise Malformed(f"tensor {name!r} has the shape {list(shape)[:_MOST_AXES]}")
    if len(shape) > _MOST_AXES:
        raise Malformed(f"tensor {name!r} has {len(shape)} axes")
    if math.prod(shape) > _MOST_ELEMENTS:
        raise Malformed(f"tensor {name!r} has more than {_MOST_ELEMENTS} elements by its shape {list(shape)}")
    return shape


def make_grid(scales: Sequence[float], zero_points: Sequence[int]) -> Grid | None:
    """None without scales, or if one is not a positive float32: then there is no grid."""
    if not len(scales) or not all(0 < scale <= _LARGEST_SCALE for scale in scales):
        return None
    return Grid(float(scales[0]), int(zero_points[0]) if len(zero_points) else 0, len(scales))
