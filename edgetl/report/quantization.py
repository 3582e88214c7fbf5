"""The quantization section of report.html as data: what was tried, and which layers lose most in integers.

The quantize stage records signal-to-noise ratios in decibels: 10 log10 of the float tensor's energy over the energy of its
difference to the quantized one. At 20 dB the noise is a tenth of the signal; one bit more or less is 6 dB.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from edgetl.core import figures
from edgetl.quantization.records import SensitivityRow, SignalRow
from edgetl.report import plots, text
from edgetl.verdicts.words import figure_in_page

if TYPE_CHECKING:
    from edgetl.quantization.records import AttemptRow, RewriteRow
    from edgetl.report.records import ReportQuantization

_MOST_SENSITIVE = 10
_WORST = 5
_SCHEMES = {
    "auto": "chosen by measurements",
    "ptq": "post-training quantization: ranges and rounding, no training",
    "qat": "quantization-aware training",
}


class AttemptView(TypedDict):
    """One way of quantizing, its figures as text. met: within the limit."""

    name: str
    what: str
    chosen: bool
    met: bool
    n: str
    top1: str
    float_top1: str
    lost_gained: str
    drop: str
    interval: str
    same_label: str
    divergence: str
    size: str
    took: str


class Fall(TypedDict):
    """How much of the signal-to-noise ratio one layer loses itself."""

    node: str
    fall_db: float


class SignalView(TypedDict):
    """Float compared with the quantized file. lowest: layers with the lowest ratio; falls: those that lose most themselves.
    last: the end of the net, None where it has no noise."""

    plot: plots.Along
    lowest: list[SignalRow]
    falls: list[Fall]
    last: SignalRow | None


class SensitiveLayer(SensitivityRow):
    """place: in the net, counted from 1. share: the length of its bar, in percent."""

    place: int
    share: int


class SensitivityView(TypedDict):
    """n: number of layers. most: the most sensitive ones."""

    plot: plots.Along
    n: int
    most: list[SensitiveLayer]


class RewriteView(TypedDict):
    """Rewrites of one kind."""

    kind: str
    n: int
    layers: list[str]


class QuantizationView(TypedDict):
    """Everything that quantization.html.j2 draws."""

    scheme: str
    scheme_words: str
    attempts: list[AttemptView]
    signal: SignalView | None
    sensitivity: SensitivityView | None
    rewrites: list[RewriteView]


def quantization_view(quantization: ReportQuantization) -> QuantizationView:
    """Each part of the record may be missing."""
    scheme = quantization.get("scheme") or ""
    return {
        "scheme": scheme,
        "scheme_words": _SCHEMES.get(scheme, ""),
        "attempts": [_attempt(attempt) for attempt in quantization.get("attempts") or ()],
        "signal": _signal(quantization.get("signal") or ()),
        "sensitivity": _sensitivity(quantization.get("sensitivity") or ()),
        "rewrites": _rewrites(quantization.get("preflight") or ()),
    }


def _attempt(attempt: AttemptRow) -> AttemptView:
    return {
        "name": attempt["name"],
        "what": attempt["what"],
        "chosen": attempt["chosen"],
        "met": attempt["met"],
        "n": f"{attempt['n']:,}",
        "top1": figures.percent(attempt["top1"]),
        "float_top1": figures.percent(attempt["float_top1"]),
        "lost_gained": f"{attempt['lost']}, {attempt['gained']}",
        "drop": figure_in_page(attempt["drop_pp"], "top1_drop_pp"),
        "interval": text.interval_pp(attempt["interval_pp"]),
        "same_label": figures.percent(attempt["same_label"]),
        "divergence": f"{attempt['divergence']:.4f}",
        "size": figures.size(attempt["bytes"]),
        "took": figures.duration(attempt["seconds"]),
    }


def _signal(rows: Sequence[SignalRow]) -> SignalView | None:
    """None where no layer has a finite ratio."""
    plot = _plot(rows, beside="inputs_snr_db")
    if plot is None:
        return None
    falls: list[Fall] = [
        {"node": row["node"], "fall_db": inputs - row["snr_db"]}
        for row in rows
        if plots.is_finite(row.get("snr_db"))
        and (inputs := row.get("inputs_snr_db")) is not None
        and plots.is_finite(inputs)
    ]
    falls.sort(key=lambda row: -row["fall_db"])
    finite = [row for row in rows if plots.is_finite(row.get("snr_db"))]
    return {
        "plot": plot,
        "lowest": sorted(finite, key=lambda row: row["snr_db"])[:_WORST],
        "falls": [row for row in falls[:_WORST] if row["fall_db"] > 0],
        "last": rows[-1] if plots.is_finite(rows[-1].get("snr_db")) else None,
    }


def _sensitivity(rows: Sequence[SensitivityRow]) -> SensitivityView | None:
    """The logits with only one layer quantized, for each layer; the ten layers that disturb them most, with one bar each."""
    plot = _plot(rows)
    if plot is None:
        return None
    finite = [(i, row) for i, row in enumerate(rows, 1) if plots.is_finite(row.get("snr_db"))]
    most = sorted(finite, key=lambda found: found[1]["snr_db"])[:_MOST_SENSITIVE]
    top = max(row["snr_db"] for _, row in most)
    return {
        "plot": plot,
        "n": len(rows),
        "most": [
            {**row, "place": i, "share": round(100 * max(0.0, row["snr_db"]) / top) if top > 0 else 0}
            for i, row in most
        ],
    }


def _plot(rows: Sequence[Mapping[str, Any]], *, beside: str = "") -> plots.Along | None:
    plot = plots.along(rows, figure="snr_db", beside=beside)
    if plot is not None:
        plots.write_ticks(plot["y_ticks"], figures.number)
    return plot


def _rewrites(rows: Sequence[RewriteRow]) -> list[RewriteView]:
    """The rewrites before folding, by kind, the most frequent first."""
    counts = Counter(row["kind"] for row in rows)
    return [
        {
            "kind": kind,
            "n": n,
            "layers": [f"{row['layer']}: {row['rewrite']}" for row in rows if row["kind"] == kind],
        }
        for kind, n in counts.most_common()
    ]
