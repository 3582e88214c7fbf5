"""The page says what the report says, opens without a network, and is not a way in for what somebody called a class."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import re
from html.parser import HTMLParser
from typing import Any, cast

import pytest

from edgetl.commands.build.judge import judge
from edgetl.quantization.attempts import Attempt
from edgetl.report.data import BuildRecords, make_report
from edgetl.report.html import render_html
from edgetl.report.plots import along, scatter
from edgetl.stages.recipe import make_recipe
from edgetl.targets.target import load_target

EVIL = "<script>alert(1)</script>"
VOID = {"meta", "br", "img"}


def _accuracy(hits: int, n: int = 100) -> dict[str, Any]:
    return {"top1": hits / n, "n": n, "interval": [hits / n - 0.06, min(1.0, hits / n + 0.05)]}


def _latency(p50_ms: float, **change: Any) -> dict[str, Any]:
    figures = {"p50_ms": p50_ms, "p90_ms": 1.2 * p50_ms, "p99_ms": 2 * p50_ms, "runs": 200, "threads": 1}
    return {**figures, "p90_interval_ms": [1.1 * p50_ms, 1.4 * p50_ms], "processor": "Test Processor", **change}


def _pair(a: str, b: str, **change: Any) -> dict[str, Any]:
    return {"a": a, "b": b, "n": 100, "top1_agreement": 0.99, "max_abs": 1e-5, "lost": 1, "gained": 0, **change}


def _matrix() -> dict[str, Any]:
    """Three versions; the int8 file answers three of a hundred photos differently."""
    more = {
        "mean_abs": 0.01,
        "mean_steps": 2.5,
        "max_steps": 43.3,
        "within_2_steps": 0.7,
        "cosine_mean": 0.9991,
        "cosine_min": 0.95,
        "top1_drop_pp": 1.0,
        "top1_drop_interval_pp": [-1.76, 3.69],
        "top1_drop_bootstrap_pp": [0.0, 3.0],
        "mcnemar_p": 0.625,
        "flipped": ["0123456789abcdef"],
    }
    names = ["keras:student", "models/student.float32.tflite@litert-cpu", "models/student.int8.tflite@litert-cpu"]
    same = {"top1_agreement": 1.0, "max_steps": 0.0, "top1_drop_bootstrap_pp": [0.0, 0.0], "mcnemar_p": 1.0}
    return {
        "names": names,
        "pairs": [
            _pair(names[0], names[1], **{**more, **same}),
            _pair(names[0], names[2], **{**more, "top1_agreement": 0.97}),
            _pair(names[1], names[2], **{**more, "top1_agreement": 0.97}),
        ],
    }


JPEG = b"\xff\xd8 not quite a picture \xff\xd9"


def _flips() -> dict[str, Any]:
    says = {
        "keras:student": {"label": "rose", "probability": 0.51},
        "models/student.float32.tflite@litert-cpu": {"label": "rose", "probability": 0.52},
        "models/student.int8.tflite@litert-cpu": {"label": EVIL, "probability": 0.49},
    }
    photo = {"thumbnail": "00.jpg", "name": f"rose/{EVIL}.jpg", "sha256": "0" * 64, "label": "rose", "says": says}
    return {"n": 3, "photos": [photo, {**photo, "thumbnail": "01.jpg", "name": "rose/b.jpg", "label": EVIL}]}


def _quantization() -> dict[str, Any]:
    """What a quantize stage may record; all of it made up."""
    tried = {"n": 300, "float_top1": 0.917, "bytes": 608_000, "what": "mse ranges", "one_class": False}
    return {
        "scheme": "auto",
        "attempts": [
            {**tried, "name": "ptq", "top1": 0.9, "lost": 7, "gained": 2, "drop_pp": 1.67, "interval_pp": [-0.3, 3.6]}
            | {"same_label": 0.95, "divergence": 0.0179, "seconds": 12.1, "met": False, "chosen": False},
            {**tried, "name": "qat", "top1": 0.913, "lost": 3, "gained": 2, "drop_pp": 0.33, "interval_pp": [-1.2, 1.9]}
            | {"same_label": 0.97, "divergence": 0.0021, "seconds": 112.0, "met": True, "chosen": True},
        ],
        "sensitivity": [{"node": f"block_{i}", "op": "conv", "snr_db": 60.0 - 2 * i} for i in range(14)],
        "signal": [
            {"node": "Conv1", "op": "conv", "snr_db": 41.0, "inputs_snr_db": None},
            {"node": "expand", "op": "conv", "snr_db": 12.5, "inputs_snr_db": 41.0},
            {"node": "pad", "op": "pad", "snr_db": float("inf"), "inputs_snr_db": 12.5},
            {"node": "logits", "op": "dense", "snr_db": 19.4, "inputs_snr_db": 12.5},
        ],
        "preflight": [
            {"layer": f"bn_{i}", "kind": "BatchNorm alone", "rewrite": "1 x 1 depthwise convolution"} for i in range(3)
        ]
        + [{"layer": EVIL, "kind": "one grid", "rewrite": f"shares that of {EVIL}"}],
    }


def _file(name: str, n_bytes: int) -> dict[str, Any]:
    role, precision, suffix = name.split(".")
    facts = {"file": name, "role": role, "precision": precision, "format": suffix, "bytes": n_bytes, "sha256": "0" * 64}
    return {**facts, "macs": 29_601_200, "params": 395_493}


def _history(n_epochs: int, **more: Any) -> dict[str, Any]:
    rows = [
        {"epoch": i, "train_loss": 2 / i, "validate_loss": 1 / i, "validate_top1": 1 - 0.3 / i, "learning_rate": 1e-4}
        for i in range(1, n_epochs + 1)
    ]
    return {
        "epochs": [{**row, "seconds": 2.0} for row in rows],
        "best_epoch": n_epochs,
        "stopped_early": False,
        **more,
    }


def _report(target: str = "raspberry-pi-4", classes: tuple[str, ...] = ("rose", EVIL), **change: Any) -> dict[str, Any]:
    """A report with a check of each status: what `edgetl build` would write of two small classes."""
    splits = [("train", 80), ("validate", 10), ("test", 10)]
    runs = {
        "student.float32.tflite": ("litert-cpu", 92, 1.5, [[46, 4], [4, 46]]),
        "student.int8.tflite": ("litert-cpu", 91, 0.9, [[45, 5], [4, 46]]),
        "student.int8.onnx": ("ort-cpu", 60, 1.1, [[30, 20], [20, 30]]),
    }
    lost = {"student.float32.tflite": (0, 0), "student.int8.tflite": (1, 0), "student.int8.onnx": (32, 0)}
    files = {
        file: {
            "accuracy": {runtime: _accuracy(hits)},
            "latency": {runtime: _latency(p50_ms)},
            "confusion": {runtime: matrix},
            "placement": {runtime: {"delegated": 1, "builtin": 0}},
            "against_float": {
                runtime: {
                    "n": 100,
                    "top1_agreement": 0.9,
                    "max_abs": 0.1,
                    "lost": lost[file][0],
                    "gained": lost[file][1],
                }
            },
        }
        for file, (runtime, hits, p50_ms, matrix) in runs.items()
    }
    parts: dict[str, Any] = {
        "recipe": make_recipe().model_dump(mode="json"),
        "dataset": {
            "classes": list(classes),
            "photos": [{"split": split, "label": i % 2} for split, count in splits for i in range(count)],
            "fingerprint": "sha256:" + "f" * 64,
            "duplicates": 2,
            "left_out": [{"what": f"photos/{EVIL}.jpg", "why": "the file is TIFF"}],
        },
        "stages": [{"name": "split", "seconds": 1.0, "cached": True, "made_in_seconds": 130.0, "key": "a" * 64}],
        "models": [
            _file("student.float32.tflite", 1_613_612),
            _file("student.int8.tflite", 608_568),
            _file("student.int8.onnx", 5_000_000),
            _file("teacher.float32.tflite", 8_884_524),
        ],
        "measurements": {
            "machine": {
                "processor": "Test Processor",
                "board": "",
                "cores": 2,
                "memory_bytes": 25_276_502_016,
                "instruction_set": ["x86_64", "avx2"],
                "os": "Linux",
                "python": "3.11.7",
            },
            "runtimes": {"litert-cpu": "ready", "ort-cpu": "ready"},
            "keras": {"teacher": _accuracy(95), "student": _accuracy(92), "quantized": _accuracy(91)},
            "files": files,
            "parity": [
                _pair("keras:student", "models/student.float32.tflite@litert-cpu"),
                _pair("keras:quantized", "models/student.int8.tflite@litert-cpu", max_steps=3.1, within_2_steps=0.98),
                _pair(
                    "models/student.int8.tflite@litert-cpu",
                    "models/student.int8.onnx@ort-cpu",
                    max_steps=44.0,
                    within_2_steps=1.0,
                    top1_agreement=1.0,
                ),
            ],
            "parity_matrix": _matrix(),
        },
        "histories": {
            "finetune": _history(10),
            "distill": _history(24),
            "quantize": _history(1, before_training={"validate_loss": 0.4, "validate_top1": 0.8}, **_quantization()),
        },
        "flips": _flips(),
        "weights": {
            "teacher": {"weights": "imagenet", "from": "Keras' cache", "file": "w.h5", "trained_at_px": 224},
            "student": {"weights": "none", "why": "asked for"},
        },
    }
    parts = {**parts, **change}
    records = BuildRecords(**parts)
    checks = judge(
        load_target(target),
        records.models,
        records.measurements,
        estimates=records.estimates,
        accept_estimates=records.estimates_accepted,
    )
    return cast(dict[str, Any], make_report(load_target(target), records, checks))


def _unmeasured() -> dict[str, Any]:
    """The same build where no runtime opens a file and nobody published anything."""
    report = _report()
    for model in report["models"]:
        model.update(accuracy={}, latency={}, confusion={}, placement={}, against_float={})
    for check in report["checks"]:
        check.update(status="unmeasured", measured=None, interval=None, reason="no runtime here opens this file")
    empty = {"references": [], "parity": [], "keras": {}, "stages": [], "training": {}, "quantization": {}}
    return {**report, **empty, "parity_matrix": {"names": [], "pairs": []}, "flips": {"n": 0, "photos": []}}


class _Page(HTMLParser):
    """What is on a page: the tags that are open, every attribute, and the text that is shown."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)


@pytest.fixture(scope="module")
def page() -> _Page:
    return _Page(render_html(_report()))


def test_every_tag_is_closed(page: _Page) -> None:
    assert page.open == []


@pytest.mark.parametrize("report", [_report(), _unmeasured()], ids=["measured", "unmeasured"])
def test_nothing_is_loaded_from_anywhere(report: dict[str, Any]) -> None:
    report["references"] = [{**row, "source": "https://example.org/bench"} for row in report["references"]]
    text = render_html(report, {"00.jpg": JPEG})
    page = _Page(text)
    assert not set(page.tags) & {"script", "link", "iframe", "object", "embed", "base", "form"}
    loads = [
        value for name, value in page.attributes if name in ("src", "href", "xlink:href", "srcset", "data", "action")
    ]
    assert loads and all(value.startswith(("#", "data:image/jpeg;base64,")) for value in loads)
    policy = next(value for name, value in page.attributes if name == "content" and "default-src" in value)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert "url(" not in text and "@import" not in text
    assert not any(name.startswith("on") for name, _ in page.attributes)


def test_contents_links_lead_somewhere(page: _Page) -> None:
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value.removeprefix("#") for name, value in page.attributes if name == "href"} <= set(ids)


def test_a_class_named_like_a_script_is_text() -> None:
    report = _report()
    report["weights"]["teacher"]["file"] = f'"{EVIL}'
    report["checks"][0]["subject"] = report["models"][0]["file"] = f"models/{EVIL}"
    report["recipe"]["teacher"]["weights"] = EVIL
    text = render_html(report)
    assert EVIL not in text
    assert "script" not in _Page(text).tags
    assert _Page(text).text.count(EVIL) >= 5  # shown as it is called


def test_a_name_that_breaks_out_of_an_attribute_stays_in_it() -> None:
    page = _Page(render_html(_report(classes=('"><b onclick="x', "' onmouseover='y"))))
    assert not any(name.startswith("on") for name, _ in page.attributes)


def test_template_syntax_in_a_name_is_text() -> None:
    assert "{{ 7 * 7 }}" in _Page(render_html(_report(classes=("{{ 7 * 7 }}", "rose")))).text


def test_bytes_that_are_not_utf8_do_not_lose_the_report() -> None:
    report = _report()
    report["weights"]["teacher"]["file"] = "w\udcff.h5"
    assert r"w\udcff.h5" in render_html(report).encode().decode()


def test_every_status_is_there_as_a_word(page: _Page) -> None:
    report = _report()
    statuses = [check["status"] for check in report["checks"]]
    assert set(statuses) == {"pass", "fail", "inconclusive", "unmeasured"}
    shown = re.findall(r'class="status (\w+)">(\w+)<', render_html(report))
    assert sorted(word for _, word in shown) == sorted(statuses)
    assert all(style == word for style, word in shown)


def test_every_check_shows_subject_and_reason(page: _Page) -> None:
    for check in _report()["checks"]:
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
    report = _report()
    row = {"metric": "model_bytes", "subject": "f", "limit": 1.0, "measured": 1.0, "interval": None, "reason": ""}
    report["checks"] = [{**row, "status": status} for status in statuses]
    page = _Page(render_html(report))
    assert f"{word} {sentence}" in page.text


def test_figures_carry_their_units(page: _Page) -> None:
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
    report = _report()
    report["models"][0]["latency"]["litert-cpu"] = _latency(1.5, threads=4)
    page = _Page(render_html(report))
    assert "200 runs, 4 threads, on Test Processor" in page.text
    assert "each row says how it was measured" in page.text


def test_weights_none_is_shown_clearly(page: _Page) -> None:
    assert "weights: none" in page.text


def test_recall_and_precision_are_of_the_matrix(page: _Page) -> None:
    matrix = page.text.split("true ↓ predicted →")[1]
    assert "90.0 %" in matrix  # 45 of 50 roses
    assert re.search(r"precision, % +92 90", matrix)  # 45 of 49, 46 of 51


def test_a_class_without_test_photos_has_no_recall() -> None:
    report = _report()
    for model in report["models"]:
        model["confusion"] = {runtime: [[10, 0], [0, 0]] for runtime in model["confusion"]}
    matrix = _Page(render_html(report)).text.split("true ↓ predicted →")[1].split("Parity")[0]
    assert "–" in matrix


def test_the_matrix_is_left_out_where_it_would_be_megabytes() -> None:
    n = 100
    report = _report(classes=tuple(f"class {i}" for i in range(n)))
    report["models"][1]["confusion"] = {"litert-cpu": [[5 * (i == j) + (j == 0) for j in range(n)] for i in range(n)]}
    report["models"][2]["confusion"] = {}
    text = render_html(report)
    assert "are too many for a table" in text
    assert len(text) < 300_000


def test_a_report_without_measurements_still_makes_a_page() -> None:
    page = _Page(render_html(_unmeasured()))
    assert page.open == []
    assert "No check failed, but" in page.text
    assert "No file that ships was run on this machine" in page.text
    assert "The target's file lists none" in page.text
    assert "nan" not in page.text.lower().split()


def test_a_report_read_back_from_json_makes_the_same_page() -> None:
    report = _report()
    assert render_html(json.loads(json.dumps(report))) == render_html(report)


def test_every_best_epoch_is_marked() -> None:
    assert render_html(_report()).count('class="kept"') == 9  # three curves a stage


@pytest.mark.parametrize("n", [1, 6, 40])
def test_names_in_the_picture_cover_neither_each_other_nor_a_dot(n: int) -> None:
    dots = [
        {"x": 1 + 0.05 * i, "y": 0.9, "low": 0.86, "high": 0.95, "text": f"student.int{i}.tflite"} for i in range(n)
    ]
    picture = scatter(dots)
    named = [dot for dot in picture["dots"] if dot["label"]]
    assert named
    boxes = [(dot["x"] - 4, dot["y"] - 4, dot["x"] + 4, dot["y"] + 4) for dot in picture["dots"]]
    for dot in named:
        label, width = dot["label"], 6 * len(dot["text"])
        left = label["x"] - width if label["end"] else label["x"]
        boxes.append((left, label["y"] - 6, left + width, label["y"] + 6))
    overlaps = [
        (a, b)
        for a, b in itertools.combinations(boxes, 2)
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]
    assert all(pair in itertools.combinations(boxes[:n], 2) for pair in overlaps)  # dots alone may lie on each other


# --- parity ----------------------------------------------------------------------------------------------------------


def _section(page: _Page, heading: str, until: str) -> str:
    return page.text.split(heading)[1].split(until)[0]


def test_the_matrix_has_agreement_and_steps_of_every_pair_twice_and_nothing_of_a_version_with_itself() -> None:
    text = render_html(_report())
    table = text[text.index('class="pairwise"') : text.index("Every version compared with the float student")]
    assert re.findall(r"(\d+\.\d)\xa0%<small>(\d+\.\d)</small>", table).count(("97.0", "43.3")) == 4
    assert table.count('class="self"') == 3
    heats = {int(heat) for heat in re.findall(r"--heat:(\d+)%", table)}
    assert min(heats) == 0 < max(heats) < 100


def test_versions_are_compared_with_float_with_both_intervals_and_mcnemars_p(page: _Page) -> None:
    rows = _section(page, "Every version compared with the float student", "The pairs that are checked")
    assert "−1.76 to 3.69 pp" in rows and "0.00 to 3.00 pp" in rows and "0.62" in rows
    # The certainty of a bootstrap without a discordant photo is called what it is.
    assert "0.00 to 0.00 pp" in rows and "which overstates the certainty" in rows


def test_a_pair_of_several_checks_shows_its_worst_verdict() -> None:
    report = _report()
    subject = "student.int8.tflite@litert-cpu = student.int8.onnx@ort-cpu"
    statuses = {check["metric"]: check["status"] for check in report["checks"] if check["subject"] == subject}
    assert statuses == {
        "top1_disagreement": "inconclusive",
        "share_past_2_steps": "inconclusive",
        "max_output_steps": "fail",
    }
    rows = _section(_Page(render_html(report)), "The pairs that are checked", "Photos whose answer changed")
    assert rows.split("student.int8.onnx@ort-cpu")[1].split()[-1] == "fail"


def _wider() -> dict[str, Any]:
    """The same build where int8 could not keep to the budget: 16-bit activations, and an output that counts in 1/32768."""
    report = json.loads(json.dumps(_report()).replace("student.int8.", "student.int16x8."))
    for model in report["models"]:
        model["precision"] = "int16x8" if model["precision"] == "int8" else model["precision"]
    for pair in [*report["parity_matrix"]["pairs"], *report["parity"]]:
        pair["output_step"] = 1 / 32768 if "int16x8.tflite" in f"{pair['a']} {pair['b']}" else 1 / 256
    return report


def test_a_step_is_that_of_the_build_s_files_and_int8_is_named_only_where_it_ships() -> None:
    page = _Page(render_html(_wider()))
    assert "A step is that of the coarser of two outputs (1/256 or 1/32768 in probability" in page.text
    table = _section(page, "Every version of the student", "Every version compared with the float student")
    assert table.count("43.3 of 1/32768") == 4  # both pairs with the int16 file, twice each
    assert table.count("100.0 % 0.0") == 2 and "100.0 % 0.0 of" not in table  # the float pair counts in 1/256, as usual
    titles = [value for name, value in page.attributes if name == "title" and "another answer on" in value]
    assert sum("steps of 1/32768 apart" in title for title in titles) == 4
    assert "44.0 of 1/32768" in _section(page, "The pairs that are checked", "Photos whose answer changed")
    shown = page.text.replace("Requested precision int8", "")
    for part in ("Keras int8", "int8 output", "int8 file", "int8 ranges", "Ships int8"):
        assert part not in shown
    assert "Ships int16x8" in shown


def test_the_step_of_an_int8_build_is_stated_once() -> None:
    page = _Page(render_html(_report()))
    assert "A step is 1/256 in probability." in page.text and "of 1/256" not in page.text.split("Parity")[-1]
    assert "Ships int8" in page.text


def test_a_flip_shows_the_photo_its_true_label_and_every_answer() -> None:
    text = render_html(_report(), {"00.jpg": JPEG})
    page = _Page(text)
    pictures = [value for name, value in page.attributes if name == "src"]
    assert [base64.b64decode(picture.partition(",")[2]) for picture in pictures] == [JPEG]  # the second has none
    gallery = _section(page, "Photos whose answer changed", "Data and first weights")
    assert "3 test photos are answered differently" in gallery and "the 2 that most files disagree on" in gallery
    first = gallery.split("true: rose")[1].split("true:")[0]
    assert "Keras float 51 % , float32.tflite 52 %" in first.replace("\xa0", " ")
    assert first.index("Keras float") < first.index(EVIL, first.index("Keras float")) < first.index("int8.tflite 49")
    assert text.count('<dt class="right">') == 2  # one of the two answers of each photo


def test_no_flips_are_stated_in_words() -> None:
    report = {**_report(), "flips": {"n": 0, "photos": []}}
    assert "every file of the student gives the same answer as the float student" in _Page(render_html(report)).text


# --- quantization ----------------------------------------------------------------------------------------------------


def test_attempts_show_which_was_chosen_and_their_figures(page: _Page) -> None:
    rows = _section(page, "What was tried", "Signal-to-noise ratio in decibels").replace("\xa0", " ")
    ptq, qat = rows.split("qat chosen")
    assert "no 1.67 pp −0.30 to 3.60 pp 90.0 % 91.7 % 7, 2 300 95.0 % 0.0179 608 kB 12.1 s" in ptq
    assert "yes 0.33 pp −1.20 to 1.90 pp" in qat
    assert rows.count("chosen") == 1


def test_the_made_up_attempts_have_what_the_stage_records_and_nothing_else() -> None:
    recorded = {field.name for field in dataclasses.fields(Attempt)} | {"chosen"}
    assert all(attempt.keys() == recorded for attempt in _quantization()["attempts"])


def test_the_lowest_layers_are_named_in_the_plots_and_listed(page: _Page) -> None:
    text = render_html(_report())
    signal, sensitivity = re.findall(r'<svg class="along".*?</svg>', text, re.DOTALL)
    assert set(re.findall(r'<text class="name low"[^>]*>(\w+)<', signal)) == {"expand", "logits", "Conv1"}
    assert set(re.findall(r'<text class="name low"[^>]*>(\w+)<', sensitivity)) == {"block_13", "block_12", "block_11"}
    assert signal.count("<polyline") == 2 and sensitivity.count("<polyline") == 1
    assert signal.count("<circle") == 3  # a tensor without noise has no point
    words = page.text.replace("\xa0", " ")
    assert "Lowest: expand 12.5 dB , logits 19.4 dB , Conv1 41.0 dB" in words
    assert "Most lost in one layer: expand 28.5 dB ." in words  # logits gained, the pad lost nothing
    table = _section(page, "The ten most sensitive layers", "Rewritten before quantizing")
    assert re.findall(r"block_(\d+)", table) == [str(i) for i in range(13, 3, -1)]
    assert "14 of 14" in table


def test_rewrites_are_counted_by_kind_and_named_on_demand(page: _Page) -> None:
    words = _section(page, "Rewritten before quantizing", "Confusion of the files that ship")
    assert "3 × BatchNorm alone" in words and "1 × one grid" in words
    assert words.index("Which layers") < words.index("bn_2") < words.index(EVIL)


def test_an_older_report_without_the_new_parts_still_makes_a_page() -> None:
    report = {key: value for key, value in _report().items() if key not in ("quantization", "parity_matrix", "flips")}
    page = _Page(render_html(report))
    assert page.open == []
    assert "has no record of how the student was quantized" in page.text
    assert "Photos whose answer changed" not in page.text


@pytest.mark.parametrize("part", ["scheme", "attempts", "sensitivity", "signal", "preflight"])
def test_each_part_of_the_record_may_be_absent(part: str) -> None:
    for value in (None, []):
        report = _report()
        report["quantization"][part] = value
        assert _Page(render_html(report)).open == []
    del report["quantization"][part]
    assert _Page(render_html(report)).open == []


@pytest.mark.parametrize("n", [1, 2, 54, 430])
def test_a_plot_along_the_net_keeps_every_layer_inside_its_frame(n: int) -> None:
    rows = [{"node": f"n{i}", "op": "conv", "snr_db": 40 - 30 * i / n, "inputs_snr_db": 41.0} for i in range(n)]
    plot = along(rows, figure="snr_db", beside="inputs_snr_db")
    left, top, right, bottom = plot["box"]
    points = [(dot["x"], dot["y"]) for dot in plot["dots"]] + plot["lines"]["inputs_snr_db"]
    assert len(points) == 2 * n
    assert all(left < x < right and top < y < bottom for x, y in points)
    xs = [x for x, _ in plot["lines"]["snr_db"]]
    assert xs == sorted(xs)
    ticks = [tick["value"] for tick in plot["x_ticks"]]
    assert ticks and ticks == sorted(set(ticks)) and ticks[-1] <= n
    assert sum(bool(dot["text"]) for dot in plot["dots"]) == min(n, 3)


def test_a_net_without_a_finite_figure_has_no_plot() -> None:
    assert (
        along([{"node": "a", "snr_db": None}, {"node": "b", "snr_db": float("inf")}, {"node": "c"}], figure="snr_db")
        is None
    )
