"""The quantization section: attempts, signal to noise by layer, rewrites."""

from __future__ import annotations

import dataclasses
import re

import pytest

from edgetl.quantization.attempts import Attempt
from edgetl.report.html import render_html
from tests.report.pages import EVIL, Page, example_quantization, example_report, section


def test_attempts_show_which_was_chosen_and_their_figures(page: Page) -> None:
    rows = section(page, "What was tried", "Signal-to-noise ratio in decibels").replace("\xa0", " ")
    ptq, qat = rows.split("qat chosen")
    assert "no 1.67 pp −0.30 to 3.60 pp 90.0 % 91.7 % 7, 2 300 95.0 % 0.0179 608 kB 12.1 s" in ptq
    assert "yes 0.33 pp −1.20 to 1.90 pp" in qat
    assert rows.count("chosen") == 1


def test_the_made_up_attempts_have_what_the_stage_records_and_nothing_else() -> None:
    recorded = {field.name for field in dataclasses.fields(Attempt)} | {"chosen"}
    assert all(attempt.keys() == recorded for attempt in example_quantization()["attempts"])


def test_the_lowest_layers_are_named_in_the_plots_and_listed(page: Page) -> None:
    text = render_html(example_report())
    signal, sensitivity = re.findall(r'<svg class="along".*?</svg>', text, re.DOTALL)
    assert set(re.findall(r'<text class="name low"[^>]*>(\w+)<', signal)) == {"expand", "logits", "Conv1"}
    assert set(re.findall(r'<text class="name low"[^>]*>(\w+)<', sensitivity)) == {"block_13", "block_12", "block_11"}
    assert signal.count("<polyline") == 2 and sensitivity.count("<polyline") == 1
    assert signal.count("<circle") == 3  # a tensor without noise has no point
    words = page.text.replace("\xa0", " ")
    assert "Lowest: expand 12.5 dB , logits 19.4 dB , Conv1 41.0 dB" in words
    assert "Most lost in one layer: expand 28.5 dB ." in words  # logits gained, the pad lost nothing
    table = section(page, "The ten most sensitive layers", "Rewritten before quantizing")
    assert re.findall(r"block_(\d+)", table) == [str(i) for i in range(13, 3, -1)]
    assert "14 of 14" in table


def test_rewrites_are_counted_by_kind_and_named_on_demand(page: Page) -> None:
    words = section(page, "Rewritten before quantizing", "Confusion of the files that ship")
    assert "3 × BatchNorm alone" in words and "1 × one grid" in words
    assert words.index("Which layers") < words.index("bn_2") < words.index(EVIL)


@pytest.mark.parametrize("part", ["scheme", "attempts", "sensitivity", "signal", "preflight"])
def test_each_part_of_the_record_may_be_absent(part: str) -> None:
    for value in (None, []):
        report = example_report()
        report["quantization"][part] = value
        assert Page(render_html(report)).open == []
    del report["quantization"][part]
    assert Page(render_html(report)).open == []
