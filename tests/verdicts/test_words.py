"""The words for each metric: how a figure is written in the page and in a terminal."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import edgetl
from edgetl.verdicts.words import METRICS, PARITY_METRICS, figure_in_page, figure_in_terminal, metric

FIGURES = {
    "top1_drop_pp": (0.456, (-0.25, 1.0), "0.46\xa0pp", "0.46 (-0.2 to 1.0)"),
    "model_bytes": (608_568, (1, 2), "609\xa0kB", "609 kB"),
    "latency_p90_ms": (6.9845, (6.5, 7.25), "6.98\xa0ms", "6.98 (6.5 to 7.2)"),
    "max_abs_probability": (3.2e-6, (0, 1), "3.2e−6", "3e-06"),
    "top1_disagreement": (0.01234, (0.004, 0.036), "1.23\xa0%", "1.2 % (0.4 to 3.6)"),
    "share_past_2_steps": (0.01234, (0.004, 0.036), "1.23\xa0%", "1.2 % (0.4 to 3.6)"),
    "max_output_steps": (2.55, (0, 1), "2.5\xa0steps", "2.5"),
    "top1_below_build_pp": (1.256, (0.5, 2.0), "1.26\xa0pp", "1.26 (0.5 to 2.0)"),
    "top1_error_up_to": (0.1234, (0.1, 0.2), "12.34\xa0%", "12.3 % (10.0 to 20.0)"),
    "golden_input": (3.0, (0, 1), "3", "3"),
    "golden": (3.2e-6, (0, 1), "3.2e−6", "3e-06"),
    "app_mistakes": (1.0, None, "1", "1.00"),
    "a metric of another version": (0.123456, (0.1, 0.2), "0.1235", "0.12 (0.1 to 0.2)"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_in_the_page_and_in_a_terminal(name: str) -> None:
    value, interval, page, terminal = FIGURES[name]
    assert figure_in_page(value, name) == page
    assert figure_in_terminal(value, name, interval) == terminal
    assert figure_in_terminal(value, name) == terminal.split(" (")[0]


def test_nothing_measured_is_a_dash() -> None:
    assert figure_in_terminal(None, "top1_drop_pp", None) == "-"


def test_a_metric_of_another_version_is_called_by_its_name() -> None:
    assert (metric("new").label, metric("new").compares) == ("new", "")


def test_every_metric_that_a_check_is_made_of_is_in_the_table() -> None:
    """Swept over the package: the literal first argument of Check, exact_check and share_check."""
    makers = {"Check", "exact_check", "share_check"}
    used = {
        node.args[0].value
        for file in Path(edgetl.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in makers
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    assert len(used) > 8
    assert used | set(PARITY_METRICS) == set(METRICS)
