"""Published latencies: other people's figures as data, and the conditions under which each was measured.

targets/published_latencies.csv has one row per figure, with its source; the device's chip, core, number of cores and clock
are derived from its published name. targets/published_spreads.csv has the minimum, mean and maximum of the same runs, where
a source gives all three.
"""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from edgetl.backbones.catalogue import backbone_of, net_ops
from edgetl.core.stats import quantile
from edgetl.runtimes.catalogue import Kind
from edgetl.targets.target import Reference, targets_folder

Family = Literal["depthwise", "full"]
REFERENCE_NET, REFERENCE_PX = "mobilenetv2-1.0", 224
# MACs computed while one byte is moved. Depthwise convolutions and additions wait for memory: with 2, the latencies of a
# series of nine MobileNetV2 widths and sizes (Google Pixel, one thread) follow work to the power 0.95 with a scatter of
# 2.1%; with 0 (MACs alone) the power is 0.86 and the scatter 4.2%, with 4 they are 1.08 and 6.1%. Used where a target
# publishes no peaks.
MACS_PER_BYTE = 2.0
# "All big cores", in a table that does not give their number: the fast cluster of the chip.
_BIG_CORES = {"snapdragon-821": 2, "snapdragon-835": 4, "snapdragon-670": 2}


@dataclass(frozen=True)
class Conditions:
    """The conditions that a latency depends on. chip: the same name for all boards that have it. core, architecture: "" if
    unknown; for a GPU, both are its family.

    clock_ghz: of the fastest cores, 0 if unknown. threads: at most the number of cores; 1 for other processors than a CPU.
    precision: "float", "int8", or another that no row has. log_work: natural logarithm of the net's work over that of
    MobileNetV2 1.0 at 224 px in the same precision.
    """

    kind: Kind
    chip: str
    board: str
    architecture: str
    core: str
    clock_ghz: float
    threads: int
    runtime: str
    precision: str
    family: Family
    log_work: float

    @property
    def software(self) -> tuple[str, str]:
        """The software conditions: runtime and precision."""
        return self.runtime, self.precision


@dataclass(frozen=True)
class Published:
    """One row. latency_ms: as published; mean_ms: converted to a mean of runs, which all rows are compared by."""

    conditions: Conditions
    model: str
    precision: str
    input_size_px: int
    latency_ms: float
    mean_ms: float
    statistic: str
    source: str
    note: str

    def matches(self, reference: Reference) -> bool:
        """Whether a target's reference is this figure."""
        return (
            math.isclose(self.latency_ms, reference.latency_ms)
            and self.source == reference.source
            and self.input_size_px == reference.input_size_px
            and self.precision == reference.precision
            and reference.model.startswith(self.model)
        )


@dataclass(frozen=True)
class Spread:
    """How much runs of one net on one device differ, as factors. mean_over_min: the median over the published runs, for
    figures that are a minimum. p90_over_mean: (median, 90% quantile) of maximum over mean, because no p90 is above the
    maximum. triples: the number of published (minimum, mean, maximum)."""

    mean_over_min: float
    p90_over_mean: tuple[float, float]
    triples: int


def work_of(ops: Iterable[tuple[int, float]], macs_per_byte: float = MACS_PER_BYTE) -> float:
    """The work of a net's ops in MACs: for each op (MACs, bytes moved), the larger of computing and moving.

    >>> work_of([(1000, 100.0), (10, 100.0)], macs_per_byte=2.0)
    1200.0
    """
    return math.fsum(max(macs, macs_per_byte * moved) for macs, moved in ops)


@functools.lru_cache(maxsize=256)
def net_work(backbone: str, input_size_px: int, precision: str, macs_per_byte: float, classes: int = 1000) -> float:
    """work_of a net, from its architecture. precision: "int8"; anything else is float32."""
    kind = "int8" if precision == "int8" else "float32"
    return work_of(((op.macs, op.bytes_moved(kind)) for op in net_ops(backbone, input_size_px, classes)), macs_per_byte)


def reference_work(precision: str, macs_per_byte: float = MACS_PER_BYTE) -> float:
    """The work that log_work is relative to."""
    return net_work(REFERENCE_NET, REFERENCE_PX, precision, macs_per_byte)


def family_of_net(backbone: str) -> Family:
    """Nets with depthwise convolutions use a processor differently from those without.

    >>> family_of_net("mobilenetv2-1.0"), family_of_net("densenet121")
    ('depthwise', 'full')
    """
    return "depthwise" if any(op.type == "depthwise" for op in net_ops(backbone, REFERENCE_PX)) else "full"


def precision_class(published: str) -> str:
    """
    >>> [precision_class(text) for text in ("fp32/fp16-auto", "uint8", "fp16")]
    ['float', 'int8', 'float']
    """
    return "int8" if published in ("int8", "uint8") else "float"


@functools.lru_cache(maxsize=8)
def published_latencies(macs_per_byte: float = MACS_PER_BYTE) -> tuple[Published, ...]:
    """All rows, in the order of the file."""
    with (targets_folder() / "published_latencies.csv").open(encoding="utf-8", newline="") as stream:
        return tuple(_published(row, macs_per_byte) for row in csv.DictReader(stream))


def _published(row: dict[str, str], macs_per_byte: float) -> Published:
    kind: Kind = row["processor"]  # type: ignore[assignment]  # tests/latency/test_published.py sweeps the file
    latency, precision = float(row["latency_ms"]), precision_class(row["precision"])
    backbone, px = backbone_of(row["model"]), int(row["input_size_px"])
    conditions = Conditions(
        kind=kind,
        chip=row["chip"],
        board=row["device"],
        architecture=row["architecture"],
        core=row["core"],
        clock_ghz=float(row["ghz"] or 0),
        threads=thread_count(row["threads"], int(row["cores"] or 0), row["chip"]) if kind == "cpu" else 1,
        runtime=row["runtime"],
        precision=precision,
        family=family_of_net(backbone),
        log_work=math.log(net_work(backbone, px, precision, macs_per_byte) / reference_work(precision, macs_per_byte)),
    )
    mean = latency * (spread(kind).mean_over_min if row["statistic"] == "min" else 1.0)
    return Published(
        conditions, row["model"], row["precision"], px, latency, mean, row["statistic"], row["source"], row["note"]
    )


def thread_count(text: str, cores: int, chip: str = "") -> int:
    """The number of threads that a published text means; at most the number of cores (0: not known).

    >>> thread_count("4", 2), thread_count("all", 4), thread_count("all big cores", 8, "snapdragon-835")
    (2, 4, 4)
    """
    if text.isdecimal():
        count = int(text)
    else:
        count = _BIG_CORES.get(chip, cores) if "big" in text else cores if text else 1
    return max(1, min(count, cores) if cores else count)


def of_reference(reference: Reference, conditions: Conditions, macs_per_byte: float) -> Published | None:
    """A target's reference as a row, for a target file that is not shipped with edgetl; None for a net with unknown
    arithmetic. conditions: the target's."""
    try:
        backbone = backbone_of(reference.model.split(" ")[0])
    except ValueError:
        return None
    precision = precision_class(reference.precision)
    work = net_work(backbone, reference.input_size_px, precision, macs_per_byte)
    found = replace(
        conditions,
        threads=thread_count(reference.threads, conditions.threads) if conditions.kind == "cpu" else 1,
        runtime=reference.runtime,
        precision=precision,
        family=family_of_net(backbone),
        log_work=math.log(work / reference_work(precision, macs_per_byte)),
    )
    factor = spread(conditions.kind).mean_over_min if reference.statistic == "min" else 1.0
    return Published(
        found,
        reference.model,
        reference.precision,
        reference.input_size_px,
        reference.latency_ms,
        reference.latency_ms * factor,
        reference.statistic,
        reference.source,
        reference.note,
    )


def kind_of_reference(reference: Reference) -> str:
    """cpu, gpu, npu or mcu; "gpu-vulkan" is a gpu."""
    return reference.processor.split("-")[0]


@functools.lru_cache(maxsize=4)
def spread(kind: Kind) -> Spread:
    """The spread of the published triples for this kind of processor; for NPUs and microcontrollers, which have none, the
    spread of all triples."""
    with _spreads_file().open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows = [row for row in rows if row["processor"] == kind] or rows
    means = [float(row["mean_ms"]) / float(row["min_ms"]) for row in rows]
    tops = [float(row["max_ms"]) / float(row["mean_ms"]) for row in rows]
    return Spread(quantile(means, 0.5), (quantile(tops, 0.5), quantile(tops, 0.9)), len(rows))


def _spreads_file() -> Path:
    return targets_folder() / "published_spreads.csv"
