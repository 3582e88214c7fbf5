from __future__ import annotations

from collections.abc import Callable

from edgetl.core.figures import NBSP, ms, number, percent, size, small

# metric -> (what it is called, what it compares, how a figure of it is written)
_METRICS: dict[str, tuple[str, str, Callable[[float], str]]] = {
    "top1_drop_pp": (
        "Accuracy lost",
        "top-1 of the float student less top-1 of the file, same test photos, in percentage points",
        lambda value: f"{number(value, 2)}{NBSP}pp",
    ),
    "model_bytes": ("File size", "bytes on disk", size),
    "latency_p90_ms": ("Latency", "90th percentile of single runs, batch of one", ms),
    "max_abs_probability": (
        "Same probabilities",
        "largest difference of any probability on any test photo, exported float file against what was trained",
        small,
    ),
    "top1_disagreement": (
        "Same answers",
        "share of the test photos on which the top-1 class differs",
        lambda value: percent(value, 2),
    ),
    "share_past_2_steps": (
        "Same rounding",
        "share of the test photos on which a probability of the two int8 formats is more than 2 steps of 1/256 apart",
        lambda value: percent(value, 2),
    ),
    "max_output_steps": (
        "Largest difference",
        "of any probability of the two int8 formats on any test photo, in steps of 1/256",
        lambda value: f"{number(value, 1)}{NBSP}steps",
    ),
}
PARITY_METRICS = ("max_abs_probability", "top1_disagreement", "share_past_2_steps", "max_output_steps")


def metric(name: str) -> tuple[str, str, Callable[[float], str]]:
    """What a check's metric is called, what it compares, how a figure of it is written."""
    return _METRICS.get(name, (name, "", "{:.4g}".format))


def figure(value: float, metric_name: str) -> str:
    """A figure of a check."""
    return metric(metric_name)[2](value)
