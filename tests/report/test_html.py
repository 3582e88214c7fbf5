"""The page says what the report says, opens without a network, and no class name can break out of it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from edgetl.report.html import render_html
from tests.report.pages import EVIL, JPEG, Page, example_latency, example_report, unmeasured_report


def test_every_tag_is_closed(page: Page) -> None:
    assert page.open == []


@pytest.mark.parametrize("report", [example_report(), unmeasured_report()], ids=["measured", "unmeasured"])
def test_nothing_is_loaded_from_anywhere(report: dict[str, Any]) -> None:
    report["references"] = [{**row, "source": "https://example.org/bench"} for row in report["references"]]
    text = render_html(report, {"00.jpg": JPEG})
    page = Page(text)
    assert not set(page.tags) & {"script", "link", "iframe", "object", "embed", "base", "form"}
    loads = [
        value for name, value in page.attributes if name in ("src", "href", "xlink:href", "srcset", "data", "action")
    ]
    assert loads and all(value.startswith(("#", "data:image/jpeg;base64,")) for value in loads)
    policy = next(value for name, value in page.attributes if name == "content" and "default-src" in value)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert "url(" not in text and "@import" not in text
    assert not any(name.startswith("on") for name, _ in page.attributes)


def test_contents_links_lead_somewhere(page: Page) -> None:
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value.removeprefix("#") for name, value in page.attributes if name == "href"} <= set(ids)


def test_a_class_named_like_a_script_is_text() -> None:
    report = example_report()
    report["weights"]["teacher"]["file"] = f'"{EVIL}'
    report["checks"][0]["subject"] = report["models"][0]["file"] = f"models/{EVIL}"
    report["recipe"]["teacher"]["weights"] = EVIL
    text = render_html(report)
    assert EVIL not in text
    assert "script" not in Page(text).tags
    assert Page(text).text.count(EVIL) >= 5  # shown as it is called


def test_a_name_that_breaks_out_of_an_attribute_stays_in_it() -> None:
    page = Page(render_html(example_report(classes=('"><b onclick="x', "' onmouseover='y"))))
    assert not any(name.startswith("on") for name, _ in page.attributes)


def test_template_syntax_in_a_name_is_text() -> None:
    assert "{{ 7 * 7 }}" in Page(render_html(example_report(classes=("{{ 7 * 7 }}", "rose")))).text


def test_bytes_that_are_not_utf8_do_not_lose_the_report() -> None:
    report = example_report()
    report["weights"]["teacher"]["file"] = "w\udcff.h5"
    assert r"w\udcff.h5" in render_html(report).encode().decode()


def test_every_status_is_there_as_a_word(page: Page) -> None:
    report = example_report()
    statuses = [check["status"] for check in report["checks"]]
    assert set(statuses) == {"pass", "fail", "inconclusive", "unmeasured"}
    shown = re.findall(r'class="status (\w+)">(\w+)<', render_html(report))
    assert sorted(word for _, word in shown) == sorted(statuses)
    assert all(style == word for style, word in shown)


def test_every_check_shows_subject_and_reason(page: Page) -> None:
    for check in example_report()["checks"]:
        assert check["subject"] in page.text
        assert check["reason"] in page.text


@pytest.mark.parametrize(
    ("statuses", "word", "sentence"),
    [
        (["pass", "pass"], "passed", "All 2 checks passed."),
        (["pass", "fail", "inconclusive"], "failed", "1 of 3 checks failed: file size; 1 more is not proven."),
        (
            ["pass", "inconclusive", "unmeasured"],
            "not proven",
            "No check failed, but 2 of 3 are not proven: 1 inconclusive (file size) and 1 unmeasured (file size).",
        ),
        ([], "not proven", "Nothing was checked."),
    ],
    ids=["passed", "failed", "open", "empty"],
)
def test_the_verdict_is_the_worst_check(statuses: list[str], word: str, sentence: str) -> None:
    report = example_report()
    row = {"metric": "model_bytes", "subject": "f", "limit": 1.0, "measured": 1.0, "interval": None, "reason": ""}
    report["checks"] = [{**row, "status": status} for status in statuses]
    page = Page(render_html(report))
    assert f"{word} {sentence}" in page.text


def test_figures_carry_their_units(page: Page) -> None:
    for figure in (
        "91.0 %",
        "0.900 ms",
        "609 kB",
        "29.6 M",
        "395 k",
        "2 min 10 s",
        "25.3 GB",
        "1.00 pp",
        "200 runs, 1 thread",
    ):
        assert figure in page.text, figure


def test_latencies_measured_differently_say_so_row_by_row() -> None:
    report = example_report()
    report["models"][0]["latency"]["litert-cpu"] = example_latency(1.5, threads=4)
    page = Page(render_html(report))
    assert "200 runs, 4 threads, on Test Processor" in page.text
    assert "each row says how it was measured" in page.text


def test_weights_none_is_shown_clearly(page: Page) -> None:
    assert "weights: none" in page.text


def test_a_report_without_measurements_still_makes_a_page() -> None:
    page = Page(render_html(unmeasured_report()))
    assert page.open == []
    assert "No check failed, but" in page.text
    assert "No file that ships was run on this machine" in page.text
    assert "The target's file lists none" in page.text
    assert "nan" not in page.text.lower().split()


def test_a_report_read_back_from_json_makes_the_same_page() -> None:
    report = example_report()
    assert render_html(json.loads(json.dumps(report))) == render_html(report)


def test_every_best_epoch_is_marked() -> None:
    assert render_html(example_report()).count('class="kept"') == 9  # three curves a stage


def test_an_older_report_without_the_new_parts_still_makes_a_page() -> None:
    report = {
        key: value for key, value in example_report().items() if key not in ("quantization", "parity_matrix", "flips")
    }
    page = Page(render_html(report))
    assert page.open == []
    assert "has no record of how the student was quantized" in page.text
    assert "Photos whose answer changed" not in page.text
