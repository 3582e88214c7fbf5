"""Types of the JSON that `edgetl inspect --json` prints about a model file. Light."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

Place = Literal["input", "middle", "output"]


class KernelRow(TypedDict):
    """The weights of one op. scales: how many; 1 is per tensor, 0 is float. weakest: (channel, largest absolute integer)."""

    dtype: str
    bytes: int
    scales: int
    channels: int
    zero_channels: int
    weak_channels: int
    weakest: tuple[int, int] | None


class Work(TypedDict):
    """The work of one op. part: "compute", "convert", "fused", "folded", ...; macs: None if unknown. bytes_moved: weights and activations, each
    once."""

    precision: str
    part: str
    macs: int | None
    weight_bytes: int
    bytes_moved: int


class OpRow(Work):
    """One op, in the file's order. reads, writes: types of its tensors."""

    name: str
    type: str
    reads: list[str]
    writes: list[str]
    kernel: KernelRow | None
    activation: str | None
    biases_at_limits: int


class EndpointRow(TypedDict):
    """An input or output. range: of the real numbers that its grid covers; scale, zero_point and range are None for floats."""

    name: str
    shape: list[int]
    dtype: str
    scale: float | None
    zero_point: int | None
    range: tuple[float, float] | None


class TypeRow(TypedDict):
    """All ops of one type. precisions: what they compute in -> how many."""

    type: str
    count: int
    precisions: dict[str, int]
    macs: int
    weight_bytes: int


class TensorsRow(TypedDict):
    """All tensors of one use and type."""

    use: str
    dtype: str
    count: int
    bytes: int


class IslandRow(TypedDict):
    """Float ops that hand floats to each other in a quantized file. float_kernels: how many have float weights."""

    place: Place
    ops: tuple[str, ...]
    types: tuple[str, ...]
    macs: int
    float_kernels: int


# "from" is a keyword.
ConversionRow = TypedDict("ConversionRow", {"op": str, "type": str, "place": Place, "from": str, "to": str})


class WorstKernel(TypedDict):
    """The op with the largest share of channels that use little of their grid. max_abs_q: the largest absolute integer of its weakest channel."""

    op: str
    weak_channels: int
    channels: int
    channel: int
    max_abs_q: int


class WeightsSummary(TypedDict):
    """How weights are quantized. per_channel, per_tensor, float: type of op -> how many."""

    per_channel: dict[str, int]
    per_tensor: dict[str, int]
    float: dict[str, int]
    channels: int
    zero_channels: int
    weak_channels: int
    worst: WorstKernel | None


class WasteRow(TypedDict):
    """One range that an activation function bounds. share: of its grid that the activation cannot reach; shared: its grid also serves an
    adjacent tensor."""

    op: str
    tensor: str
    activation: str
    low: float
    high: float
    share: float
    shared: bool


class RangesSummary(TypedDict):
    """Whether ranges came from calibration. verdict: in words; calibrated: None if no activation function bounds a range."""

    verdict: str
    calibrated: bool | None
    judged: int
    wasting_a_quarter: int
    wasting_any: int
    grids: int
    grids_from_zero: int
    rows: list[WasteRow]


class BiasRow(TypedDict):
    """An op with biases at the limits of int32."""

    op: str
    count: int


class PeakRow(TypedDict):
    """The largest sum of activations that are alive at once, and at which op."""

    bytes: int
    op: str
    type: str


class LeftOp(TypedDict):
    """An op that the runtime's fast kernels do not take."""

    type: str
    op: str


class InputGrid(TypedDict):
    """The type of a model's input. scale, zero_point: of an integer type; real = (q - zero_point) * scale. A scale of 0.0 in
    a file without a bundle means that the file has none."""

    dtype: str
    scale: NotRequired[float]
    zero_point: NotRequired[int]


class RuntimeRow(TypedDict):
    """What a runtime does with the file. refused: its message. LiteRT: ops that XNNPACK takes (delegated) and leaves (left). ONNX Runtime: ops after
    optimization, and the share of MACs in integer ops; unmatched: ops that could not be counted."""

    name: str
    refused: NotRequired[str]
    delegated: NotRequired[int]
    left: NotRequired[list[LeftOp]]
    ops: NotRequired[dict[str, int]]
    fused_share: NotRequired[float | None]
    unmatched: NotRequired[int]


class Findings(TypedDict):
    """Everything that follows from a file's ops and tensors."""

    format: str
    kind: str
    macs: int
    integer_share: float | None
    macs_unknown: list[str]
    inputs: list[EndpointRow]
    outputs: list[EndpointRow]
    ops_by_type: list[TypeRow]
    tensors_by_dtype: list[TensorsRow]
    float_islands: list[IslandRow]
    conversions: list[ConversionRow]
    weights: WeightsSummary
    ranges: RangesSummary
    biases_at_limits: list[BiasRow]
    peak_memory: PeakRow | None
    metadata: dict[str, Any]  # of the two formats, each its own
    notes: list[str]
    ops: list[OpRow]


class Examined(Findings):
    """The same with the file itself and what its runtime does with it."""

    file: str
    bytes: int
    sha256: str
    runtime: RuntimeRow
