"""Findings: conclusions from a census. Pure functions, standard library only.

Which ops compute in float, which ranges waste their grid, which channels use little of theirs, how much memory the
activations need. `findings` puts all of it into rows for JSON and tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

from edgetl.formats.read.census import FLOATS, QUANTIZED, Census, Op, Tensor, computes_on_floats, computes_on_integers
from edgetl.formats.read.records import (
    ConversionRow,
    EndpointRow,
    Findings,
    IslandRow,
    KernelRow,
    PeakRow,
    Place,
    RangesSummary,
    TensorsRow,
    TypeRow,
    WasteRow,
    WeightsSummary,
)

# A calibrated range ends where the activation's values end; half a grid below 0 is TFMOT's [-6, 6] at a ReLU6. A quarter
# is between the two: no estimator gives that.
MUCH_WASTE = 0.25
# Ops whose output must have their input's grid (TFLite's quantization specification): a range may come from them.
_SAME_SCALE = ("CONCATENATION", "PAD", "PADV2", "MAX_POOL_2D", "AVERAGE_POOL_2D", "Concat", "Pad", "MaxPool", "AveragePool")  # fmt: skip


@dataclass(frozen=True)
class Island:
    """Float ops that hand floats to each other. place: "middle" with grids on both sides, otherwise "input" or "output".
    float_kernels: ops with float weights."""

    place: Place
    ops: tuple[str, ...]
    types: tuple[str, ...]
    macs: int
    float_kernels: int


@dataclass(frozen=True)
class Waste:
    """share: of the grid that the activation cannot reach. shared: the grid also serves an adjacent tensor."""

    op: str
    tensor: str
    activation: str
    low: float
    high: float
    share: float
    shared: bool


@dataclass(frozen=True)
class PeakMemory:
    """bytes: the largest sum of activations alive at once; op: where."""

    bytes: int
    op: str
    type: str


def wasted_share(low: float, high: float, step: float, bound: tuple[float | None, float | None]) -> float:
    """Share of the grid [low, high] that an activation cannot reach; up to one step per side is rounding, not waste.

    >>> wasted_share(-6.0, 6.0, 12 / 255, (0.0, 6.0))
    0.5
    >>> wasted_share(0.0, 5.9, 5.9 / 255, (0.0, 6.0))
    0.0
    """
    below = bound[0] - low if bound[0] is not None else 0.0
    above = high - bound[1] if bound[1] is not None else 0.0
    past = sum(min(excess, high - low) for excess in (below, above) if excess > step)
    return min(past / (high - low), 1.0) if high > low else 0.0


def wastes(census: Census) -> list[Waste]:
    """One row for each range that an activation function bounds, in order of the ops."""
    readers: dict[int, list[Op]] = {}
    for op in census.ops:
        for index in op.reads:
            readers.setdefault(index, []).append(op)
    rows = []
    for op in census.ops:
        if op.bound is None:
            continue
        tensor = census.tensors[op.bound.tensor]
        ends = tensor.real_range()
        if ends is None or tensor.grid is None:
            continue
        share = wasted_share(*ends, tensor.grid.scale, (op.bound.low, op.bound.high))
        shared = any(
            census.tensors[index].grid == tensor.grid
            for reader in readers.get(op.bound.tensor, ())
            if reader.type in _SAME_SCALE
            for index in reader.writes
        )
        rows.append(Waste(op.name, tensor.name, op.bound.activation, *ends, share, shared))
    return rows


def _sides(census: Census, *, grids: bool = False) -> tuple[list[bool], list[bool]]:
    """For each op: whether a quantized op is before it, and whether one is after it. grids: Quantize and Dequantize count as well."""
    counts = [computes_on_integers(op) or (grids and op.part == "convert") for op in census.ops]
    maker = {index: position for position, op in enumerate(census.ops) for index in op.writes}
    before, after = [False] * len(census.ops), [False] * len(census.ops)
    sources = [[maker[index] for index in op.reads if maker.get(index, position) < position] for position, op in enumerate(census.ops)]  # fmt: skip
    for position, found in enumerate(sources):
        before[position] = any(before[source] or counts[source] for source in found)
    for position in range(len(sources) - 1, -1, -1):
        for source in sources[position]:
            after[source] |= after[position] or counts[position]
    return before, after


def _place(before: bool, after: bool) -> Place:
    if before and after:
        return "middle"
    return "output" if before else "input"


def float_islands(census: Census) -> list[Island]:
    """Runs of float ops in a file that has quantized tensors; empty for a float file."""
    if not any(computes_on_integers(op) or op.part == "convert" for op in census.ops):
        return []
    before, after = _sides(census, grids=True)
    maker = {index: position for position, op in enumerate(census.ops) if computes_on_floats(op) for index in op.writes}
    leader: dict[int, int] = {position: position for position, op in enumerate(census.ops) if computes_on_floats(op)}

    def find(position: int) -> int:
        while leader[position] != position:
            leader[position] = leader[leader[position]]
            position = leader[position]
        return position

    for position in list(leader):
        for index in census.ops[position].reads:
            if index in maker:
                first, second = sorted((find(maker[index]), find(position)))
                leader[second] = first
    runs: dict[int, list[int]] = {}
    for position in leader:
        runs.setdefault(find(position), []).append(position)
    return [
        Island(
            _place(any(before[i] for i in run), any(after[i] for i in run)),
            tuple(census.ops[i].name for i in run),
            tuple(census.ops[i].type for i in run),
            sum(census.ops[i].macs or 0 for i in run),
            sum(kernel is not None and not kernel.scales for kernel in (census.ops[i].kernel for i in run)),
        )
        for run in runs.values()
    ]


def conversions(census: Census) -> list[ConversionRow]:
    """Quantize and Dequantize ops that run: where they are and between which types they convert.

    A change of grid (int8 to int8) computes on integers; it is listed because it takes a pass over the tensor.
    """
    before, after = _sides(census)
    rows: list[ConversionRow] = []
    for position, op in enumerate(census.ops):
        requantizes = op.part == "compute" and op.type == "QUANTIZE"
        if op.part != "convert" and not requantizes:
            continue
        kinds = [[census.tensors[index].dtype for index in side] for side in (op.reads, op.writes)]
        rows.append(
            {
                "op": op.name,
                "type": op.type,
                "place": _place(before[position], after[position]),
                "from": kinds[0][0] if kinds[0] else "",
                "to": kinds[1][0] if kinds[1] else "",
            }
        )
    return rows


def peak_memory(census: Census) -> PeakMemory | None:
    """The largest sum of activations alive at once, in the file's order of ops; None without ops.

    A tensor lives from the op that makes it to the last that reads it, inputs from the first op, outputs to the last.
    A lower bound for the arena of a runtime that neither reorders ops nor computes in place: alignment and scratch memory are added.
    """
    running = [op for op in census.ops if op.part in ("compute", "convert")]
    if not running:
        return None
    last = {index: position for position, op in enumerate(running) for index in (*op.reads, *op.writes)}
    for index in census.outputs:
        last[index] = len(running)
    dying: dict[int, list[int]] = {}
    for index, position in last.items():
        dying.setdefault(position, []).append(index)
    alive = {index for index in census.inputs if census.tensors[index].use == "activation"}
    size = sum(census.tensors[index].bytes for index in alive)
    peak = PeakMemory(-1, "", "")
    for position, op in enumerate(running):
        born = set(op.writes) - alive
        size += sum(census.tensors[index].bytes for index in born)
        alive |= born
        if size > peak.bytes:
            peak = PeakMemory(size, op.name, op.type)
        gone = alive.intersection(dying.get(position, ()))
        size -= sum(census.tensors[index].bytes for index in gone)
        alive -= gone
    return peak


def integer_share(census: Census) -> float | None:
    """Share of the MACs in ops with integer activations; None without MACs."""
    total = sum(op.macs or 0 for op in census.ops)
    return sum(op.macs or 0 for op in census.ops if computes_on_integers(op)) / total if total else None


def kind_of(census: Census) -> str:
    """A description of the file's quantization in a few words."""
    quantized = [op for op in census.ops if computes_on_integers(op)]
    floats = [op for op in census.ops if computes_on_floats(op)]
    kernels = {op.kernel.dtype for op in floats if op.kernel is not None}
    islands = float_islands(census)
    middle = sum(island.place == "middle" for island in islands)
    between = f"{middle} float island{'' if middle == 1 else 's'} between quantized tensors"
    if not quantized and not islands:
        if kernels & set(QUANTIZED):
            return "float file with integer weights (dynamic range): every activation is float"
        return "float file" + (", float16 weights" if kernels == {"float16"} else "")
    if any(op.type == "DynamicQuantizeLinear" for op in census.ops):
        return "float activations put on grids at run time (dynamic quantization)"
    share = integer_share(census)
    if not quantized or (share is not None and share < 0.5):
        return f"mostly float: {between}"
    name = "int16 activations" if any(op.precision == "int16" for op in quantized) else "int8"
    if middle:
        return f"{name} with {between}"
    if islands:
        return f"{name}, float at its {' and '.join(sorted({island.place for island in islands}))}"
    ends = [
        verb
        for verb, indices in (("takes", census.inputs), ("gives", census.outputs))
        if any(census.tensors[index].dtype in FLOATS for index in indices)
    ]
    return f"{name} throughout" + (f", {' and '.join(ends)} floats" if ends else "")


def by_type(ops: Sequence[Op]) -> list[TypeRow]:
    """Rows of type, count, precisions, MACs and weight bytes; most MACs first."""
    rows: dict[str, TypeRow] = {}
    for op in ops:
        row = rows.setdefault(op.type, {"type": op.type, "count": 0, "precisions": {}, "macs": 0, "weight_bytes": 0})  # fmt: skip
        row["count"] += 1
        kind = op.precision if op.part in ("compute", "convert") else op.part
        row["precisions"][kind] = row["precisions"].get(kind, 0) + 1
        row["macs"] += op.macs or 0
        row["weight_bytes"] += op.weight_bytes
    return sorted(rows.values(), key=lambda row: (-row["macs"], -row["count"], row["type"]))


def tensors_by_dtype(tensors: Sequence[Tensor]) -> list[TensorsRow]:
    """Rows of use, dtype, count and bytes; weights separate from activations."""
    counts: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for tensor in tensors:
        if tensor.use != "fused":
            counts[tensor.use, tensor.dtype] += 1
            sizes[tensor.use, tensor.dtype] += tensor.bytes
    return [
        {"use": use, "dtype": dtype, "count": count, "bytes": sizes[use, dtype]}
        for (use, dtype), count in sorted(counts.items(), key=lambda item: (item[0][0], -sizes[item[0]]))
    ]


def weights_summary(census: Census) -> WeightsSummary:
    """How kernels are quantized, how many channels use little of their grid, and the worst op."""
    kernels = [(op, op.kernel) for op in census.ops if op.kernel is not None]
    quantized = [(op, kernel) for op, kernel in kernels if kernel.scales]
    per_channel = [(op, kernel) for op, kernel in quantized if kernel.scales > 1]
    worst = max(
        (pair for pair in quantized if pair[1].weakest is not None),
        key=lambda pair: (pair[1].weak_channels / max(pair[1].channels, 1), -(pair[1].weakest or (0, 0))[1]),
        default=None,
    )
    # A kernel of one channel has one scale either way.
    per_tensor = [(op, kernel) for op, kernel in quantized if kernel.scales == 1 and kernel.channels > 1]
    summary: WeightsSummary = {
        "per_channel": dict(Counter(op.type for op, _ in per_channel)),
        "per_tensor": dict(Counter(op.type for op, _ in per_tensor)),
        "float": dict(Counter(op.type for op, kernel in kernels if not kernel.scales)),
        "channels": sum(kernel.channels for _, kernel in quantized),
        "zero_channels": sum(kernel.zero_channels for _, kernel in quantized),
        "weak_channels": sum(kernel.weak_channels for _, kernel in quantized),
        "worst": None,
    }
    if worst is not None and worst[1].weakest is not None:
        op, kernel = worst
        channel, peak = worst[1].weakest
        summary["worst"] = {
            "op": op.name,
            "weak_channels": kernel.weak_channels,
            "channels": kernel.channels,
            "channel": channel,
            "max_abs_q": peak,
        }
    return summary


def ranges_summary(census: Census) -> RangesSummary:
    """Ranges that an activation function bounds: how many waste how much, and a verdict in words."""
    rows = wastes(census)
    much = [row for row in rows if row.share > MUCH_WASTE]
    own = [row for row in much if not row.shared]
    grids = [tensor.real_range() for tensor in census.tensors if tensor.use == "activation" and tensor.grid is not None]
    from_zero = sum(1 for ends in grids if ends is not None and ends[0] == 0.0)
    if not rows:
        said = f"no activation op bounds a quantized range; {from_zero} of {len(grids)} grids begin at 0 and clip there"
    elif len(own) * 4 >= len(rows):
        said = f"{len(own)} of {len(rows)} activation ranges waste more than a quarter of their grid: ranges did not come from calibration"
    elif much:
        said = f"{len(much)} of {len(rows)} activation ranges waste{'s' if len(much) == 1 else ''} more than a quarter of the grid"
    else:
        said = f"no activation range of {len(rows)} wastes more than a quarter of its grid"
    return {
        "verdict": said,
        "calibrated": None if not rows else len(own) * 4 < len(rows),
        "judged": len(rows),
        "wasting_a_quarter": len(much),
        "wasting_any": sum(row.share > 0 for row in rows),
        "grids": len(grids),
        "grids_from_zero": from_zero,
        "rows": [cast("WasteRow", asdict(row)) for row in rows],
    }


def _endpoint(tensor: Tensor) -> EndpointRow:
    grid = tensor.grid
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "scale": grid.scale if grid else None,
        "zero_point": grid.zero_point if grid else None,
        "range": tensor.real_range() if tensor.dtype not in FLOATS else None,
    }


def findings(census: Census) -> Findings:
    """All findings of a census."""
    peak = peak_memory(census)
    dtypes = [tensor.dtype for tensor in census.tensors]
    return {
        "format": census.format,
        "kind": kind_of(census),
        "macs": sum(op.macs or 0 for op in census.ops),
        "integer_share": integer_share(census),
        "macs_unknown": sorted({op.type for op in census.ops if op.macs is None}),
        "inputs": [_endpoint(census.tensors[index]) for index in census.inputs],
        "outputs": [_endpoint(census.tensors[index]) for index in census.outputs],
        "ops_by_type": by_type(census.ops),
        "tensors_by_dtype": tensors_by_dtype(census.tensors),
        "float_islands": [cast("IslandRow", asdict(island)) for island in float_islands(census)],
        "conversions": conversions(census),
        "weights": weights_summary(census),
        "ranges": ranges_summary(census),
        "biases_at_limits": [{"op": op.name, "count": op.biases_at_limits} for op in census.ops if op.biases_at_limits],
        "peak_memory": cast("PeakRow", asdict(peak)) if peak else None,
        "metadata": census.metadata,
        "notes": list(census.notes),
        "ops": [
            {
                "name": op.name,
                "type": op.type,
                "precision": op.precision,
                "part": op.part,
                "reads": [dtypes[index] for index in op.reads],
                "writes": [dtypes[index] for index in op.writes],
                "macs": op.macs,
                "weight_bytes": op.weight_bytes,
                "bytes_moved": op.weight_bytes + sum(census.tensors[index].bytes for index in (*op.reads, *op.writes)),
                "kernel": cast("KernelRow", asdict(op.kernel)) if op.kernel else None,
                "activation": op.bound.activation if op.bound else None,
                "biases_at_limits": op.biases_at_limits,
            }
            for op in census.ops
        ],
    }
