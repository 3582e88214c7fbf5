"""The parity section: every pair, the verdicts of those that are checked, and the photos whose answer changed."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from edgetl.report.html import render_html
from tests.report.pages import EVIL, JPEG, Page, example_report, section


def test_the_matrix_has_agreement_and_steps_of_every_pair_twice_and_nothing_of_a_version_with_itself() -> None:
    text = render_html(example_report())
    table = text[text.index('class="pairwise"') : text.index("Every version compared with the float student")]
    assert re.findall(r"(\d+\.\d)\xa0%<small>(\d+\.\d)</small>", table).count(("97.0", "43.3")) == 4
    assert table.count('class="self"') == 3
    heats = {int(heat) for heat in re.findall(r"--heat:(\d+)%", table)}
    assert min(heats) == 0 < max(heats) < 100


def test_versions_are_compared_with_float_with_both_intervals_and_mcnemars_p(page: Page) -> None:
    rows = section(page, "Every version compared with the float student", "The pairs that are checked")
    assert "−1.76 to 3.69 pp" in rows and "0.00 to 3.00 pp" in rows and "0.62" in rows
    # The certainty of a bootstrap without a discordant photo is called what it is.
    assert "0.00 to 0.00 pp" in rows and "which overstates the certainty" in rows


def test_a_pair_of_several_checks_shows_its_worst_verdict() -> None:
    report = example_report()
    subject = "student.int8.tflite@litert-cpu = student.int8.onnx@ort-cpu"
    statuses = {check["metric"]: check["status"] for check in report["checks"] if check["subject"] == subject}
    assert statuses == {
        "top1_disagreement": "inconclusive",
        "share_past_2_steps": "inconclusive",
        "max_output_steps": "fail",
    }
    rows = section(Page(render_html(report)), "The pairs that are checked", "Photos whose answer changed")
    assert rows.split("student.int8.onnx@ort-cpu")[1].split()[-1] == "fail"


def _wider() -> dict[str, Any]:
    """The same build where int8 exceeded the budget: 16-bit activations, and an output in steps of 1/32768."""
    report = json.loads(json.dumps(example_report()).replace("student.int8.", "student.int16x8."))
    for model in report["models"]:
        model["precision"] = "int16x8" if model["precision"] == "int8" else model["precision"]
    for pair in [*report["parity_matrix"]["pairs"], *report["parity"]]:
        pair["output_step"] = 1 / 32768 if "int16x8.tflite" in f"{pair['a']} {pair['b']}" else 1 / 256
    return report


def test_a_step_is_that_of_the_build_s_files_and_int8_is_named_only_where_it_ships() -> None:
    page = Page(render_html(_wider()))
    assert "A step is that of the coarser of two outputs (1/256 or 1/32768 in probability" in page.text
    table = section(page, "Every version of the student", "Every version compared with the float student")
    assert table.count("43.3 of 1/32768") == 4  # both pairs with the int16 file, twice each
    assert table.count("100.0 % 0.0") == 2 and "100.0 % 0.0 of" not in table  # the float pair counts in 1/256, as usual
    titles = [value for name, value in page.attributes if name == "title" and "another answer on" in value]
    assert sum("steps of 1/32768 apart" in title for title in titles) == 4
    assert "44.0 of 1/32768" in section(page, "The pairs that are checked", "Photos whose answer changed")
    shown = page.text.replace("Requested precision int8", "")
    for part in ("Keras int8", "int8 output", "int8 file", "int8 ranges", "Ships int8"):
        assert part not in shown
    assert "Ships int16x8" in shown


def test_the_step_of_an_int8_build_is_stated_once() -> None:
    page = Page(render_html(example_report()))
    assert "A step is 1/256 in probability." in page.text and "of 1/256" not in page.text.split("Parity")[-1]
    assert "Ships int8" in page.text


def test_a_flip_shows_the_photo_its_true_label_and_every_answer() -> None:
    text = render_html(example_report(), {"00.jpg": JPEG})
    page = Page(text)
    pictures = [value for name, value in page.attributes if name == "src"]
    assert [base64.b64decode(picture.partition(",")[2]) for picture in pictures] == [JPEG]  # the second has none
    gallery = section(page, "Photos whose answer changed", "Data and first weights")
    assert "3 test photos are answered differently" in gallery and "the 2 that most files disagree on" in gallery
    first = gallery.split("true: rose")[1].split("true:")[0]
    assert "Keras float 51 % , float32.tflite 52 %" in first.replace("\xa0", " ")
    assert first.index("Keras float") < first.index(EVIL, first.index("Keras float")) < first.index("int8.tflite 49")
    assert text.count('<dt class="right">') == 2  # one of the two answers of each photo


def test_no_flips_are_stated_in_words() -> None:
    report = {**example_report(), "flips": {"n": 0, "photos": []}}
    assert "every file of the student gives the same answer as the float student" in Page(render_html(report)).text
