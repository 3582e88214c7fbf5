"""Types of what runtimes report about themselves and about a model. Light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from edgetl.formats.read.records import RuntimeRow


class BackendState(TypedDict):
    """A backend on this machine. version: of its library, "" if it is not installed. device: of a ready backend, otherwise
    "". simulated: whether the device is a program on the CPU. reason: why it is not ready, and the fix; "" if it is."""

    available: bool
    version: str
    device: str
    simulated: bool
    reason: str


class OpTime(TypedDict):
    """The time of one operator in a run. op: the executor's name for its type. name: of the file's tensor or node that it
    computes, "" if unknown."""

    op: str
    name: str
    ms: float
    executor: str


class DeviceShares(TypedDict):
    """Shares of one kind of device, 0 to 1. macs: None where they are not counted."""

    ops: float
    macs: float | None


class PlacementJson(TypedDict):
    """A Placement (runtimes.placement) as JSON. shares: kind of device -> its shares."""

    ops: Mapping[str, int]
    devices: Mapping[str, str]
    macs: Mapping[str, int] | None
    unknown: int
    shares: dict[str, DeviceShares]


class OptimizedGraph(RuntimeRow):
    """ONNX Runtime's graph after its optimizations: numbers of ops. Without them if the file is refused."""

    integer_ops: NotRequired[int]
    qlinear_conv: NotRequired[int]
    float_conv: NotRequired[int]
    batch_normalization: NotRequired[int]
    quantize_linear: NotRequired[int]
    dequantize_linear: NotRequired[int]
    transpose: NotRequired[int]


class TensorDetails(TypedDict):
    """What LiteRT's Interpreter reports about a tensor, as far as it is used. quantization: (scale, zero point), (0.0, 0) for
    floats. shape and shape_signature (-1 for a free size): int32 arrays; dtype: a NumPy scalar type."""

    index: int
    name: str
    shape: Sequence[int]
    shape_signature: Sequence[int]
    dtype: Any
    quantization: tuple[float, int]


class OpDetails(TypedDict):
    """What LiteRT's Interpreter reports about an op. inputs, outputs: indices of tensors."""

    index: int
    op_name: str
    inputs: Sequence[int]
    outputs: Sequence[int]


class NodeArguments(TypedDict):
    """The part of a profile event that names the op and the execution provider."""

    op_name: str
    provider: str


class NodeEvent(TypedDict):
    """One run of one node in ONNX Runtime's profile. dur: microseconds."""

    name: str
    dur: int
    args: NodeArguments


class ProbeReply(TypedDict):
    """What the child process of litert_probe answers. See litert_probe.Found."""

    opened: bool
    why: str
    load_errors: list[str]
