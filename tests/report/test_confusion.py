"""The confusion section: recall and precision follow from the matrix; a matrix of very many classes is left out."""

from __future__ import annotations

import re

from edgetl.report.html import render_html
from tests.report.pages import Page, example_report


def test_recall_and_precision_are_of_the_matrix(page: Page) -> None:
    matrix = page.text.split("true ↓ predicted →")[1]
    assert "90.0 %" in matrix  # 45 of 50 roses
    assert re.search(r"precision, % +92 90", matrix)  # 45 of 49, 46 of 51


def test_a_class_without_test_photos_has_no_recall() -> None:
    report = example_report()
    for model in report["models"]:
        model["confusion"] = {runtime: [[10, 0], [0, 0]] for runtime in model["confusion"]}
    matrix = Page(render_html(report)).text.split("true ↓ predicted →")[1].split("Parity")[0]
    assert "–" in matrix


def test_the_matrix_is_left_out_where_it_would_be_megabytes() -> None:
    n = 100
    report = example_report(classes=tuple(f"class {i}" for i in range(n)))
    report["models"][1]["confusion"] = {"litert-cpu": [[5 * (i == j) + (j == 0) for j in range(n)] for i in range(n)]}
    report["models"][2]["confusion"] = {}
    text = render_html(report)
    assert "are too many for a table" in text
    assert len(text) < 300_000
