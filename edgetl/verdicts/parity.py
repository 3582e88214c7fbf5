from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgetl.verdicts.check import Check, exact_check, output_step_of, share_check

# Float files compute what Keras computes but for the order of additions: 1e-6 a layer, some fifty layers. Half
# precision keeps 11 bits of each weight: 5e-4 of its size, a few hundredths in a probability near one half.
_FLOAT_LIMITS = {"float32": 1e-3, "float16": 5e-2}
# Two int8 files hold one set of integers, and scales that every runtime rounds alike (quantization/ties.py): nothing but
# the last softmax tells them apart, and only a photo whose two best classes tie can change sides: one in two hundred.
# An int8 file and the fake-quantized Keras model differ by that and by the float sums of the latter: two in a hundred.
_INT8_DISAGREEMENT = {"files": 0.005, "keras": 0.02}
# The same in output steps, for the int8 files of two formats. The softmax rounds to half a step; a runtime with other
# kernels may put a logit a step apart, which is a few: more than two for one photo in a hundred. A zero point a quarter of
# its range off comes to more than sixty (tests/formats/write/test_int8_files.py).
_PAST_2_STEPS = 0.01
_MOST_STEPS = 8.0


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
