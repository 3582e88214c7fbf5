"""Report: what was built, measured and decided. `judge` draws the verdicts; nothing here measures, prints or decides
exit codes of exceptions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgetl.errors import EXIT_ACCURACY, EXIT_LATENCY_OR_SIZE, EXIT_NOT_PROVEN, EXIT_OK
from edgetl.latency_estimate import Estimate
from edgetl.measure.stats import paired_drop_interval, photos_for_drop, photos_for_share, share_interval
from edgetl.target import Target

SCHEMA_VERSION = 1
Status = Literal["pass", "fail", "inconclusive", "unmeasured"]
# Which file format a runtime of a target opens.
_FORMAT_OF = {"litert": "tflite", "edgetpu": "tflite", "stm32cube-ai": "tflite", "ort": "onnx", "rknn": "onnx"}
# What serves a target of a precision: where int8 could not keep to the budget, auto goes to wider integers.
_SHIPS = {
    "float32": ("float32",),
    "float16": ("float16",),
    "dynamic": ("dynamic",),
    "int8": ("int8", "int16x8", "int8-float32"),
}
# Float files compute what Keras computes but for the order of additions: 1e-6 a layer, some fifty layers. Half
# precision keeps 11 bits of each weight: 5e-4 of its size, a few hundredths in a probability near one half.
_FLOAT_LIMITS = {"float32": 1e-3, "float16": 5e-2}
# Two int8 files hold one set of integers, and scales that every runtime rounds alike (quantization/ties.py): nothing but
# the last softmax tells them apart, and only a photo whose two best classes tie can change sides: one in two hundred.
# An int8 file and the fake-quantized Keras model differ by that and by the float sums of the latter: two in a hundred.
_INT8_DISAGREEMENT = {"files": 0.005, "keras": 0.02}
# The same in output steps, for the int8 files of two formats. The softmax rounds to half a step; a runtime with other
# kernels may put a logit a step apart, which is a few: more than two for one photo in a hundred. A zero point a quarter of
# its range off comes to more than sixty (tests/quantization/test_int8_files.py).
_PAST_2_STEPS = 0.01
_MOST_STEPS = 8.0


@dataclass(frozen=True)
class Check:
    """One verdict. pass: the whole interval is inside the limit; fail: wholly past it; inconclusive: between;
    unmeasured: could not be measured here, with the reason. interval None: the figure is exact. estimated: the figure is
    no measurement, and the user said that it may decide."""

    metric: str
    subject: str
    limit: float
    measured: float | None
    interval: tuple[float, float] | None
    status: Status
    reason: str = ""
    estimated: bool = False


def verdict(limit: float, interval: tuple[float, float]) -> Status:
    """For a figure that must not be above its limit.

    >>> verdict(1.0, (-0.2, 0.9)), verdict(1.0, (0.5, 1.5)), verdict(1.0, (1.1, 2.0))
    ('pass', 'inconclusive', 'fail')
    """
    if interval[1] <= limit:
        return "pass"
    return "fail" if interval[0] > limit else "inconclusive"


def _kind(runtime: str) -> str:
    return runtime if runtime in _FORMAT_OF else runtime.split("-")[0]


def shipped_files(target: Target, files: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The student's files of the target's precision in the formats that its runtimes open."""
    formats = {_FORMAT_OF[_kind(runtime)] for runtime in target.runtimes}
    return [
        row
        for row in files
        if row["role"] == "student" and row["format"] in formats and row["precision"] in _SHIPS[target.precision]
    ]


def judge(
    target: Target,
    models: Sequence[Mapping[str, Any]],
    measurements: Mapping[str, Any],
    *,
    estimates: Mapping[str, Estimate | str] | None = None,
    accept_estimates: bool = False,
) -> list[Check]:
    """Every check of a build, in the order of the report. Pure.

    models: rows of models.json. measurements: the verify stage's measurements.json. estimates: file -> its latency on the
    target as estimated, or why it could not be; accept_estimates: whether that may decide where nothing was measured.
    """
    checks: list[Check] = []
    shipped = shipped_files(target, models)
    if not shipped:
        reason = f"no {target.precision} file in a format that {', '.join(target.runtimes)} open"
        checks.append(Check("top1_drop_pp", target.name, target.budget.top1_drop_pp, None, None, "unmeasured", reason))
    for row in shipped:
        entry = measurements["files"].get(row["file"], {})
        for runtime, pair in entry.get("against_float", {}).items():
            checks.append(drop_check(f"{row['file']}@{runtime}", target.budget.top1_drop_pp, pair))
        for runtime in target.runtimes:
            if _FORMAT_OF[_kind(runtime)] == row["format"] and runtime not in entry.get("against_float", {}):
                reason = measurements["runtimes"].get(runtime, "edgetl has no such runtime on this machine")
                subject = f"{row['file']}@{runtime}"
                limit = target.budget.top1_drop_pp
                checks.append(Check("top1_drop_pp", subject, limit, None, None, "unmeasured", reason))
        size = row["bytes"]
        checks.append(
            Check(
                "model_bytes",
                row["file"],
                target.budget.model_bytes,
                size,
                None,
                "pass" if size <= target.budget.model_bytes else "fail",
            )
        )
        if target.is_this_machine():
            checks += _latency_checks(target, row["file"], entry)
        else:
            made = (estimates or {}).get(row["file"])
            checks += absent_latency_checks(target, row["file"], made, accept=accept_estimates)
    precision_of = {row["file"]: row["precision"] for row in models}
    checks += [check for pair in measurements["parity"] for check in parity_checks(pair, precision_of)]
    return checks


def drop_check(
    subject: str, limit_pp: float, pair: Mapping[str, Any], *, reference: str = "the float student"
) -> Check:
    """The top-1 drop of a pair from measure.parity, in points, on Agresti and Min's interval. reference: its `a` in words."""
    lost, gained, n = pair["lost"], pair["gained"], pair["n"]
    low, high = paired_drop_interval(lost, gained, n)
    interval = (100 * low, 100 * high)
    status = verdict(limit_pp, interval)
    reason = f"right by {reference} alone: {lost}, by this file alone: {gained}, of {n} photos"
    if status == "inconclusive":
        needed = photos_for_drop(lost, gained, n, limit_pp / 100)
        reason += f"; about {needed} test photos would decide it" if needed else "; the drop is the limit itself"
    return Check("top1_drop_pp", subject, limit_pp, 100 * (lost - gained) / n, interval, status, reason)


def _latency_checks(target: Target, file: str, entry: Mapping[str, Any]) -> list[Check]:
    limit = target.budget.latency_p90_ms
    if limit is None:
        return []
    checks = []
    for runtime in target.runtimes:
        if _FORMAT_OF[_kind(runtime)] != file.rsplit(".", 1)[1]:
            continue
        subject = f"{file}@{runtime}"
        figures = entry.get("latency", {}).get(runtime)
        if figures is None:
            reason = "this runtime of the target was not measured here"
            checks.append(Check("latency_p90_ms", subject, limit, None, None, "unmeasured", reason))
        elif figures["threads"] != target.budget.threads:
            reason = f"measured on {of_threads(figures['threads'])}, the budget is for {target.budget.threads}: set verify.threads in the recipe"
            checks.append(Check("latency_p90_ms", subject, limit, None, None, "unmeasured", reason))
        else:
            low, high = figures["p90_interval_ms"]
            status = verdict(limit, (low, high))
            reason = f"{figures['runs']} runs, {of_threads(figures['threads'])}"
            checks.append(Check("latency_p90_ms", subject, limit, figures["p90_ms"], (low, high), status, reason))
    return checks


def of_threads(count: int) -> str:
    """A number of threads in words.

    >>> of_threads(1), of_threads(4)
    ('1 thread', '4 threads')
    """
    return f"{count} thread{'' if count == 1 else 's'}"


def absent_latency_checks(target: Target, file: str, made: Estimate | str | None, *, accept: bool) -> list[Check]:
    """The latency check of a target that this machine is not; none where it has no limit.

    It is unmeasured, with the estimate in its reason; accept: the estimate's interval decides, and the reason says so.
    """
    limit = target.budget.latency_p90_ms
    if limit is None:
        return []
    reason = f"this machine is not a {target.device.description}; what it measured here says nothing about one"
    if isinstance(made, Estimate) and accept:
        said = f"estimated, not measured (--accept-estimates): {made.sentence()}"
        status = verdict(limit, made.p90_interval_ms)
        subject = f"{file}@{made.runtime}"
        return [
            Check("latency_p90_ms", subject, limit, made.p90_ms, made.p90_interval_ms, status, said, estimated=True)
        ]
    if made is not None:
        reason += (
            f"; {made.sentence()}, which decides nothing" if isinstance(made, Estimate) else f"; no estimate: {made}"
        )
    return [Check("latency_p90_ms", file, limit, None, None, "unmeasured", reason)]


def parity_checks(pair: Mapping[str, Any], precision_of: Mapping[str, str]) -> list[Check]:
    """What a row of measure.parity, with its names a and b, is held to. precision_of: file -> precision; b is a file."""
    a, b = pair["a"].removeprefix("models/"), pair["b"].removeprefix("models/")
    subject, file, other = f"{a} = {b}", b.split("@")[0], a.split("@")[0]
    precision, n = precision_of[file], pair["n"]
    if precision in _FLOAT_LIMITS:
        reason = f"top-1 agreement {pair['top1_agreement']:.4f}"
        return [exact_check("max_abs_probability", subject, _FLOAT_LIMITS[precision], pair["max_abs"], reason)]
    are_files = other in precision_of
    differ = round((1.0 - pair["top1_agreement"]) * n)
    reason = f"another label on {differ} of {n} photos"
    if "max_steps" in pair:
        of = f" of {output_step_of(pair)}" if "output_step" in pair else ""
        reason += f"; {100 * pair['within_2_steps']:.1f}% within 2 output steps{of}, at most {pair['max_steps']:.1f}"
    # One set of integers all through; a layer in float, or int16 grids over float sums, is computed by each runtime its way.
    are_same_integers = are_files and precision == "int8"
    limit = _INT8_DISAGREEMENT["files" if are_same_integers else "keras"]
    checks = [share_check("top1_disagreement", subject, limit, differ, n, reason)]
    # Of the formats alone: no exporter stands between one file and two runtimes of it.
    if are_same_integers and file.rsplit(".", 1)[1] != other.rsplit(".", 1)[1] and "max_steps" in pair:
        past = round((1.0 - pair["within_2_steps"]) * n)
        reason = f"more than 2 output steps apart on {past} of {n} photos"
        checks.append(share_check("share_past_2_steps", subject, _PAST_2_STEPS, past, n, reason))
        reason = f"{pair['mean_steps']:.2f} output steps on the average of {n} photos" if "mean_steps" in pair else ""
        checks.append(exact_check("max_output_steps", subject, _MOST_STEPS, pair["max_steps"], reason))
    return checks


def output_step_of(pair: Mapping[str, Any]) -> str:
    """What a row of measure.parity counts differences in; that of an int8 softmax where the row does not say.

    >>> output_step_of({"output_step": 1 / 32768}), output_step_of({"output_step": 0.0037}), output_step_of({})
    ('1/32768', '0.0037', '1/256')
    """
    step = pair.get("output_step", 1 / 256)
    parts = round(1 / step)
    return f"1/{parts}" if math.isclose(parts * step, 1.0, rel_tol=1e-6) else f"{step:.3g}"


def exact_check(metric: str, subject: str, limit: float, measured: float, reason: str) -> Check:
    """A figure without an interval; what is not a number fails."""
    return Check(metric, subject, limit, measured, None, "pass" if measured <= limit else "fail", reason)


def share_check(metric: str, subject: str, limit: float, hits: int, n: int, reason: str) -> Check:
    """A share of the test photos; where its interval spans the limit, the reason says how many photos would decide."""
    interval = share_interval(hits, n)
    status = verdict(limit, interval)
    if status == "inconclusive":
        needed = photos_for_share(hits, n, limit)
        reason += f"; about {needed} test photos would decide it" if needed else "; the share is the limit itself"
    return Check(metric, subject, limit, hits / n, interval, status, reason)


def exit_code(checks: Sequence[Check], *, strict: bool) -> int:
    """The worst verdict as DESIGN's table has it: accuracy and parity before latency and size, then what is not proven."""
    failed = {check.metric for check in checks if check.status == "fail"}
    if failed - {"model_bytes", "latency_p90_ms"}:
        return EXIT_ACCURACY
    if failed:
        return EXIT_LATENCY_OR_SIZE
    if strict and any(check.status in ("inconclusive", "unmeasured") for check in checks):
        return EXIT_NOT_PROVEN
    return EXIT_OK


# What the quantize stage's history.json holds besides its epochs: how integers were reached, and where they cost.
_QUANTIZATION = (
    "scheme",
    "attempts",
    "sensitivity",
    "signal",
    "preflight",
    "estimator",
    "n_calibrate",
    "fold_error",
)


def _training_part(history: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in history.items() if key not in _QUANTIZATION}


def _quantization_part(history: Mapping[str, Any]) -> dict[str, Any]:
    return {key: history[key] for key in _QUANTIZATION if key in history}


def make_report(
    target: Target,
    *,
    recipe: Mapping[str, Any],
    dataset: Mapping[str, Any],
    n_calibrate: int,
    stages: Sequence[Mapping[str, Any]],
    models: Sequence[Mapping[str, Any]],
    measurements: Mapping[str, Any],
    histories: Mapping[str, Any],
    sources: Mapping[str, Any],
    flips: Mapping[str, Any] | None = None,
    estimates: Mapping[str, Estimate | str] | None = None,
    accept_estimates: bool = False,
    student_choice: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """report.json as plain data. histories: stage -> its history.json; sources: role -> where weights began; flips: the
    verify stage's flips.json. estimates, accept_estimates: see judge. student_choice: of `--student auto`."""
    counts = {
        split: sum(1 for photo in dataset["photos"] if photo["split"] == split)
        for split in ("train", "validate", "test")
    }
    checks = judge(target, models, measurements, estimates=estimates, accept_estimates=accept_estimates)
    shipped = {row["file"] for row in shipped_files(target, models)}
    rows = []
    for row in models:
        entry = measurements["files"].get(row["file"], {})
        measured = {
            key: entry.get(key, {}) for key in ("accuracy", "latency", "confusion", "placement", "against_float")
        }
        rows.append({**row, "file": f"models/{row['file']}", "ships": row["file"] in shipped, **measured})
    return {
        "schema_version": SCHEMA_VERSION,
        "target": {
            "name": target.name,
            "device": target.device.description,
            "precision": target.precision,
            "budget": target.budget.model_dump(),
            "is_this_machine": target.is_this_machine(),
        },
        "references": [reference.model_dump() for reference in target.references],
        "estimates": {
            f"models/{file}": made.as_dict() if isinstance(made, Estimate) else {"why_not": made}
            for file, made in (estimates or {}).items()
        },
        "estimates_accepted": accept_estimates,
        "recipe": recipe,
        "student_choice": student_choice,
        "dataset": {
            "classes": dataset["classes"],
            **{f"n_{split}": count for split, count in counts.items()},
            "n_calibrate": n_calibrate,
            "fingerprint": dataset["fingerprint"],
            "duplicates": dataset["duplicates"],
            "left_out": dataset["left_out"],
        },
        "weights": sources,
        "stages": list(stages),
        "training": {name: _training_part(history) for name, history in histories.items() if history.get("epochs")},
        "quantization": _quantization_part(histories.get("quantize", {})),
        "models": rows,
        "keras": measurements["keras"],
        "parity": measurements["parity"],
        "parity_matrix": measurements.get("parity_matrix", {"names": [], "pairs": []}),
        "flips": flips or {"n": 0, "photos": []},
        "checks": [asdict(check) for check in checks],
        "machine": measurements["machine"],
        "runtimes": measurements["runtimes"],
    }
