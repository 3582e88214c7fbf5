"""The quantization section of report.html as data: what was tried, and which layers integers cost most.

What the quantize stage recorded, in decibels of signal to noise: 10 log10 of the float tensor's energy over that of its
difference to the quantized one. 20 dB: the noise is a tenth of the signal; a bit more or less is 6 dB.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from edgetl.core import figures
from edgetl.report import plots, text
from edgetl.verdicts.words import figure_in_page

_MOST_SENSITIVE = 10
_WORST = 5
_SCHEMES = {
    "auto": "chosen by what was measured",
    "ptq": "post-training quantization: ranges and rounding, no training",
    "qat": "quantization-aware training",
}


def quantization_view(quantization: Mapping[str, Any]) -> dict[str, Any]:
    """What report_quantization.html.j2 draws. quantization: report.json's; each part may be absent."""
    scheme = quantization.get("scheme") or ""
    return {
        "scheme": scheme,
        "scheme_words": _SCHEMES.get(scheme, ""),
        "attempts": [_attempt(attempt) for attempt in quantization.get("attempts") or ()],
        "signal": _signal(quantization.get("signal") or ()),
        "sensitivity": _sensitivity(quantization.get("sensitivity") or ()),
        "rewrites": _rewrites(quantization.get("preflight") or ()),
    }


def _attempt(attempt: Mapping[str, Any]) -> dict[str, Any]:
    """One way to integers (quantization.attempts.Attempt), its figures as text."""
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


def _signal(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Float against the quantized file, tensor by tensor; the layers that end lowest and those that lose most themselves."""
    plot = _plot(rows, beside="inputs_snr_db")
    if plot is None:
        return None
    falls = [
        {**row, "fall_db": row["inputs_snr_db"] - row["snr_db"]}
        for row in rows
        if plots.is_finite(row.get("snr_db")) and plots.is_finite(row.get("inputs_snr_db"))
    ]
    falls.sort(key=lambda row: -row["fall_db"])
    return {
        "plot": plot,
        "lowest": _lowest(rows)[:_WORST],
        "falls": [row for row in falls[:_WORST] if row["fall_db"] > 0],
        "last": rows[-1] if plots.is_finite(rows[-1].get("snr_db")) else None,
    }


def _sensitivity(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The logits with only this layer quantized; the ten layers that disturb them most, with a bar each."""
    plot = _plot(rows)
    if plot is None:
        return None
    most = _lowest(rows)[:_MOST_SENSITIVE]
    top = max(row["snr_db"] for row in most)
    return {
        "plot": plot,
        "n": len(rows),
        "most": [{**row, "share": round(100 * max(0.0, row["snr_db"]) / top) if top > 0 else 0} for row in most],
    }


def _plot(rows: Sequence[Mapping[str, Any]], *, beside: str = "") -> dict[str, Any] | None:
    plot = plots.along(rows, figure="snr_db", beside=beside)
    if plot is not None:
        plots.write_ticks(plot["y_ticks"], figures.number)
    return plot


def _lowest(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Layers by rising signal to noise, each with its place in the net, counted from 1."""
    found = [{**row, "place": i} for i, row in enumerate(rows, 1) if plots.is_finite(row.get("snr_db"))]
    return sorted(found, key=lambda row: row["snr_db"])


def _rewrites(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was rewritten before folding, by kind, the commonest first."""
    counts = Counter(row["kind"] for row in rows)
    return [
        {
            "kind": kind,
            "n": n,
            "layers": [f"{row['layer']}: {row['rewrite']}" for row in rows if row["kind"] == kind],
        }
        for kind, n in counts.most_common()
    ]
