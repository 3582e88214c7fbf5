"""A made-up report with a check of each status, and its page as a test reads it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any, cast

from edgetl.commands.build.judge import judge
from edgetl.report.data import BuildRecords, make_report
from edgetl.stages.recipe import make_recipe
from edgetl.targets.target import load_target

EVIL = "<script>alert(1)</script>"
VOID = {"meta", "br", "img"}


def _accuracy(hits: int, n: int = 100) -> dict[str, Any]:
    return {"top1": hits / n, "n": n, "interval": [hits / n - 0.06, min(1.0, hits / n + 0.05)]}


def example_latency(p50_ms: float, **change: Any) -> dict[str, Any]:
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


def example_quantization() -> dict[str, Any]:
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


def example_report(
    target: str = "raspberry-pi-4", classes: tuple[str, ...] = ("rose", EVIL), **change: Any
) -> dict[str, Any]:
    """A report with a check of each status: what `edgetl build` would write for two small classes."""
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
            "latency": {runtime: example_latency(p50_ms)},
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
            "quantize": _history(
                1, before_training={"validate_loss": 0.4, "validate_top1": 0.8}, **example_quantization()
            ),
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


def unmeasured_report() -> dict[str, Any]:
    """The same build where no runtime opens a file and nobody published anything."""
    report = example_report()
    for model in report["models"]:
        model.update(accuracy={}, latency={}, confusion={}, placement={}, against_float={})
    for check in report["checks"]:
        check.update(status="unmeasured", measured=None, interval=None, reason="no runtime here opens this file")
    empty = {"references": [], "parity": [], "keras": {}, "stages": [], "training": {}, "quantization": {}}
    return {**report, **empty, "parity_matrix": {"names": [], "pairs": []}, "flips": {"n": 0, "photos": []}}


class Page(HTMLParser):
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


def section(page: Page, heading: str, until: str) -> str:
    """The text between two headings."""
    return page.text.split(heading)[1].split(until)[0]
