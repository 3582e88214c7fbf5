"""How far two versions of one net may be apart, and why: limits by precision."""

from __future__ import annotations

from collections.abc import Mapping

from edgetl.measure.records import ParityPair
from edgetl.verdicts.check import Check, exact_check, output_step_of, share_check

# Float files compute what Keras computes, except for the order of additions: 1e-6 per layer, some fifty layers. Half
# precision keeps 11 bits of each weight: an error of 5e-4 of its size, a few hundredths in a probability near one half.
_FLOAT_LIMITS = {"float32": 1e-3, "float16": 5e-2}
# Two int8 files hold one set of integers, with scales that every runtime rounds alike (quantization/ties.py). Only the
# last softmax differs, so a label changes only where a photo's two best classes tie: one photo in two hundred.
# An int8 file differs from the fake-quantized Keras model by that and by the float sums of the latter: two in a hundred.
_INT8_DISAGREEMENT = {"files": 0.005, "keras": 0.02}
# The same in output steps, for the int8 files of two formats. The softmax rounds to half a step. A runtime with other
# kernels may put a logit one step apart, which is a few output steps: more than two for one photo in a hundred. A zero
# point that is wrong by a quarter of its range gives more than sixty (tests/formats/write/test_int8_files.py).
_PAST_2_STEPS = 0.01
_MOST_STEPS = 8.0


def parity_checks(pair: ParityPair, precision_of: Mapping[str, str]) -> list[Check]:
    """The checks of one pair from measure.parity with its names a and b. precision_of: file -> precision; b is a file."""
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
    # Integers from end to end. A layer in float, or int16 grids over float sums, is computed differently by each runtime.
    are_same_integers = are_files and precision == "int8"
    limit = _INT8_DISAGREEMENT["files" if are_same_integers else "keras"]
    checks = [share_check("top1_disagreement", subject, limit, differ, n, reason)]
    # Only for two formats: one file on two runtimes has no second exporter to check.
    if are_same_integers and file.rsplit(".", 1)[1] != other.rsplit(".", 1)[1] and "max_steps" in pair:
        past = round((1.0 - pair["within_2_steps"]) * n)
        reason = f"more than 2 output steps apart on {past} of {n} photos"
        checks.append(share_check("share_past_2_steps", subject, _PAST_2_STEPS, past, n, reason))
        reason = f"{pair['mean_steps']:.2f} output steps on average over {n} photos" if "mean_steps" in pair else ""
        checks.append(exact_check("max_output_steps", subject, _MOST_STEPS, pair["max_steps"], reason))
    return checks
