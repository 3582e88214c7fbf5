"""The table of checks, and one check per line."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgetl.console.checks import check_figures, check_line, print_checks
from edgetl.verdicts.check import Check

PASSED = Check("top1_drop_pp", "int8.tflite@litert-cpu", 1.0, 0.4, (-0.2, 0.95), "pass", "enough photos")
FAILED = Check("model_bytes", "int8.tflite", 4_000_000, 4_500_000, None, "fail")
ABSENT = Check("latency_p90_ms", "int8.tflite", 50.0, None, None, "unmeasured", "another machine")
ESTIMATED = Check("latency_p90_ms", "int8.tflite", 50.0, 20.0, (10.0, 30.0), "pass", "estimated", estimated=True)


def shown(*checks: Check) -> str:
    out = io.StringIO()
    print_checks(Console(file=out, width=100), [check.to_json() for check in checks])
    return out.getvalue()


def test_a_row_has_the_metric_the_figures_and_the_verdict() -> None:
    words = shown(PASSED, FAILED).split()
    assert "0.40 (-0.2 to 0.9) 1.00 pass" in " ".join(words)
    assert "4.5 MB 4 MB fail" in " ".join(words)


def test_only_what_did_not_pass_or_was_not_measured_has_a_line_with_its_reason() -> None:
    lines = [line for line in shown(PASSED, FAILED, ABSENT, ESTIMATED).splitlines() if ": " in line]
    assert lines == [
        "fail model_bytes int8.tflite: past the limit",
        "unmeasured latency_p90_ms int8.tflite: another machine",
        "pass, estimated latency_p90_ms int8.tflite: estimated",
    ]


def test_a_pair_is_one_version_per_line() -> None:
    pair = Check(
        "top1_disagreement", "a@litert-cpu = b@ort-cpu", 0.005, 0.0, (0.0, 0.013), "inconclusive", "few photos"
    )
    assert "a@litert-cpu\n" in shown(pair).replace(" ", "") and "=b@ort-cpu\n" in shown(pair).replace(" ", "")


@pytest.mark.parametrize(
    ("check", "expected"),
    [(PASSED, "0.40 (-0.2 to 0.9), limit 1.00"), (FAILED, "4.5 MB, limit 4 MB"), (ABSENT, "")],
    ids=["with an interval", "exact", "not measured"],
)
def test_figures_in_one_line(check: Check, expected: str) -> None:
    assert check_figures(check.to_json()) == expected


def test_a_line_is_not_markup() -> None:
    assert check_line(FAILED.to_json(), "[bold]x").plain == "fail model_bytes int8.tflite: [bold]x"
