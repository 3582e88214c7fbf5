"""The words for each metric of a check: one table. A figure is written differently in a terminal and in the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgetl.core.figures import NBSP, ms, number, percent, size, small
from edgetl.core.words import human_bytes

Write = Callable[[float], str]


@dataclass(frozen=True)
class Metric:
    """label: its name. compares: what it compares. page: writes a figure in report.html. terminal: writes a figure in a
    terminal; terminal_edge writes each end of its interval there, None leaves the interval out."""

    label: str
    compares: str
    page: Write
    terminal: Write
    terminal_edge: Write | None = None


def _share_in_page(value: float) -> str:
    return percent(value, 2)


def _share_in_terminal(value: float) -> str:
    return f"{100 * value:.1f} %"


def _edge_of_share(value: float) -> str:
    return f"{100 * value:.1f}"


def _points_in_page(value: float) -> str:
    return f"{number(value, 2)}{NBSP}pp"


_TWO_DIGITS: Write = "{:.2f}".format
_ONE_DIGIT: Write = "{:.1f}".format
_NO_DIGIT: Write = "{:.0f}".format
_ORDER: Write = "{:.1g}".format

# The first seven are metrics of a build; those after them only `edgetl verify` has, on photos of the user's own.
METRICS: dict[str, Metric] = {
    "top1_drop_pp": Metric(
        "Accuracy lost",
        "top-1 of the float student minus top-1 of the file, same test photos, in percentage points",
        _points_in_page,
        _TWO_DIGITS,
        _ONE_DIGIT,
    ),
    "model_bytes": Metric("File size", "bytes on disk", size, human_bytes),
    "latency_p90_ms": Metric("Latency", "90th percentile of single runs, batch of one", ms, _TWO_DIGITS, _ONE_DIGIT),
    "max_abs_probability": Metric(
        "Same probabilities",
        "largest difference of any probability on any test photo, exported float file compared with the trained model",
        small,
        _ORDER,
    ),
    "top1_disagreement": Metric(
        "Same answers",
        "share of the test photos on which the top-1 class differs",
        _share_in_page,
        _share_in_terminal,
        _edge_of_share,
    ),
    "share_past_2_steps": Metric(
        "Same rounding",
        "share of the test photos on which a probability of the two int8 formats is more than 2 steps of 1/256 apart",
        _share_in_page,
        _share_in_terminal,
        _edge_of_share,
    ),
    "max_output_steps": Metric(
        "Largest difference",
        "of any probability of the two int8 formats on any test photo, in steps of 1/256",
        lambda value: f"{number(value, 1)}{NBSP}steps",
        _ONE_DIGIT,
    ),
    "top1_below_build_pp": Metric(
        "Below the build",
        "how far top-1 is certainly below what the build measured, in percentage points",
        _points_in_page,
        _TWO_DIGITS,
        _ONE_DIGIT,
    ),
    "top1_error_up_to": Metric(
        "Better than one answer",
        "largest top-1 error that is not ruled out, compared with the error of always answering the most frequent class",
        _share_in_page,
        _share_in_terminal,
        _edge_of_share,
    ),
    "golden_input": Metric(
        "Same input", "values of the golden photos' tensors that differ from the build's", _NO_DIGIT, _NO_DIGIT
    ),
    "golden": Metric(
        "Same golden answers",
        "largest difference of any probability on a golden photo from what the build measured",
        small,
        _ORDER,
    ),
    "app_mistakes": Metric(
        "Mistakes of the app", "preprocessing mistakes that explain the app's answers", _NO_DIGIT, _TWO_DIGITS
    ),
}
PARITY_METRICS = ("max_abs_probability", "top1_disagreement", "share_past_2_steps", "max_output_steps")


def metric(name: str) -> Metric:
    """The words for a metric; its plain name for one that this version does not know."""
    return METRICS.get(name) or Metric(name, "", "{:.4g}".format, _TWO_DIGITS, _ONE_DIGIT)


def figure_in_page(value: float, metric_name: str) -> str:
    """
    >>> figure_in_page(0.0125, "top1_disagreement")
    '1.25\\xa0%'
    """
    return metric(metric_name).page(value)


def figure_in_terminal(value: float | None, metric_name: str, interval: Sequence[float] | None = None) -> str:
    """A figure with its interval, where it has one and the terminal shows it; "-" where nothing was measured.

    >>> figure_in_terminal(0.0125, "top1_disagreement", (0.004, 0.036))
    '1.2 % (0.4 to 3.6)'
    """
    if value is None:
        return "-"
    words = metric(metric_name)
    if interval is None or words.terminal_edge is None:
        return words.terminal(value)
    return f"{words.terminal(value)} ({words.terminal_edge(interval[0])} to {words.terminal_edge(interval[1])})"
