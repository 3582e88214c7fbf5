"""The checks of a verification: pure, from measurements to checks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgetl.core.stats import difference_interval
from edgetl.measure.records import without_photos
from edgetl.verdicts.check import Check, drop_check, exact_check, share_check
from edgetl.verdicts.parity import parity_checks

if TYPE_CHECKING:
    from edgetl.bundle.records import GoldenReplay
    from edgetl.commands.verify.result import Diagnosis, Measured
    from edgetl.measure.records import Accuracy, ParityPair

FLOAT32 = "float32"
_OF_FLOATS = {"float32", "float16", "dynamic"}
# Backends that compute in float32; the floats of a GPU or an NPU are TF32 or half precision.
_EXACT_FLOATS = "-cpu"
# Float files differ on golden tensors by the order of additions only (verdicts.parity._FLOAT_LIMITS). Where activations are on a
# grid (also the one that a dynamic file computes on each run), kernels may round half a step either way: one step of an int8 softmax.
_GOLDEN_LIMITS = {"float32": 1e-3, "float16": 1e-3}
_GOLDEN_STEP = 1 / 256
# Both sides are float32 values read from decimal numbers: one step may come out as 1.0000001 of it.
_ROUNDED = 1.0001
# One file on two backends of unknown implementation: the disagreement that a build allows between an integer file and Keras.
_BACKENDS_DISAGREEMENT = 0.02
# A file without a bundle has no budget. A drop this far below the float file is worth a diagnosis: no quantization costs that much.
OFF_PP = 5.0


@dataclass(frozen=True)
class Judged:
    """What the checks need to know of a file. precision: "" if unknown. bytes: of the file. recorded: backend -> (top-1, number of photos) as
    measured by the build."""

    name: str
    format: str
    precision: str
    ships: bool
    bytes: int
    backends: tuple[str, ...]
    recorded: Mapping[str, tuple[float, int]] = field(default_factory=dict)

    def versions(self) -> list[tuple[str, str]]:
        """(backend, name of the version) on every backend that opens this kind of file, ready here or not."""
        return [(backend, f"{self.name}@{backend}") for backend in self.backends]


def short(name: str) -> str:
    """The name of a file or version in checks."""
    return name.removeprefix("models/")


def expected_of(file: Judged, backend: str) -> tuple[float, int] | None:
    """(top-1, number of photos) that the build measured on this backend, otherwise on another: their parity is checked separately."""
    return file.recorded.get(backend) or next(iter(file.recorded.values()), None)


def against_float(files: Sequence[Judged], measured: Measured) -> dict[str, ParityPair]:
    """Version -> its comparison with the float32 file of its format on the same backend; float32 files have none."""
    pairs = {(pair["a"], pair["b"]): pair for pair in measured["parity_matrix"]["pairs"]}
    floats = {
        (file.format, backend): name for file in files if file.precision == FLOAT32 for backend, name in file.versions()
    }
    return {
        name: without_photos(pair)
        for file in files
        for backend, name in file.versions()
        if (pair := pairs.get((floats.get((file.format, backend), ""), name))) is not None
    }


def against_first(reference: str, measured: Measured) -> dict[str, ParityPair]:
    """Version -> its comparison with the reference version, for all others. The reference comes first in the matrix."""
    return {pair["b"]: without_photos(pair) for pair in measured["parity_matrix"]["pairs"] if pair["a"] == reference}


def judge_bundle(
    files: Sequence[Judged], measured: Measured, *, max_drop_pp: float, model_bytes: int | None
) -> list[Check]:
    """Every check of a bundle's verification, in the order shown."""
    floats = against_float(files, measured)
    absent = {name: state for name, state in measured["runtimes"].items() if state != "ready"}
    checks = _golden_checks(files, measured["golden"], absent)
    checks += [
        check
        for file in files
        for backend, name in file.versions()
        if name in measured["versions"]
        for check in _recorded_check(file, backend, measured["versions"][name]["accuracy"], max_drop_pp)
    ]
    for file in files:
        if not file.ships or file.precision == FLOAT32:
            continue
        for backend, name in file.versions():
            pair = floats.get(name)
            if pair is None:
                reason = absent.get(
                    backend, f"the bundle has no float32 file of the {file.format} format to compare with"
                )
                checks.append(Check("top1_drop_pp", short(name), max_drop_pp, None, None, "unmeasured", reason))
            else:
                checks.append(drop_check(short(name), max_drop_pp, pair, reference=short(pair["a"])))
    checks += _parity(files, measured["parity_matrix"]["pairs"])
    if model_bytes is not None:
        checks += [
            exact_check("model_bytes", short(file.name), model_bytes, file.bytes, "the target's budget")
            for file in files
            if file.ships
        ]
    return checks


def _parity(files: Sequence[Judged], pairs: Sequence[ParityPair]) -> list[Check]:
    file_of = {name: file for file in files for _, name in file.versions()}
    checks: list[Check] = []
    for pair in pairs:
        a, b = file_of[pair["a"]], file_of[pair["b"]]
        # Two files of one set of numbers: the float weights, or the integers. The ranges of a dynamic file differ from run to run.
        halved = a.precision == FLOAT32 and b.precision == "float16" and a.format == b.format
        if halved or a.precision == b.precision == FLOAT32 or not {a.precision, b.precision} & _OF_FLOATS:
            precisions = {short(file.name): file.precision for file in (a, b)}
            if b.precision == FLOAT32 and not all(pair[side].endswith(_EXACT_FLOATS) for side in ("a", "b")):
                precisions[short(b.name)] = "float16"
            checks += parity_checks(pair, precisions)
    return checks


def judge_models(
    files: Sequence[Judged],
    measured: Measured,
    *,
    reference: str | None,
    max_drop_pp: float | None,
    largest_class: float,
) -> list[Check]:
    """Every check of files without a bundle. reference: the version that the others are compared with, None without a float file.
    largest_class: share of the photos in the largest class."""
    checks = []
    for name, row in measured["versions"].items():
        top1, (low, high) = row["accuracy"]["top1"], row["accuracy"]["interval"]
        reason = (
            f"top-1 is {100 * top1:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f}); always answering the commonest class "
            f"gives {100 * largest_class:.1f} %"
        )
        # A figure that must not be above its limit: the largest error that is not ruled out, compared with the error of a constant answer.
        checks.append(exact_check("top1_error_up_to", name, 1 - largest_class, 1 - low, reason))
    if max_drop_pp is not None:
        drops = {} if reference is None else against_first(reference, measured)
        for name in measured["versions"]:
            if reference is None:
                reason = "no file takes floats: there is nothing to compare with"
                checks.append(Check("top1_drop_pp", name, max_drop_pp, None, None, "unmeasured", reason))
            elif name != reference:
                checks.append(drop_check(name, max_drop_pp, drops[name], reference=reference))
    for pair in measured["parity_matrix"]["pairs"]:
        (a, _), (b, _) = pair["a"].rsplit("@", 1), pair["b"].rsplit("@", 1)
        if a == b:
            differ = round((1.0 - pair["top1_agreement"]) * pair["n"])
            reason = f"another label on {differ} of {pair['n']} photos"
            subject = f"{pair['a']} = {pair['b']}"
            checks.append(share_check("top1_disagreement", subject, _BACKENDS_DISAGREEMENT, differ, pair["n"], reason))
    return checks


def app_mistake_check(found: Diagnosis) -> list[Check]:
    """A mistake that explains the app's answers fails the check, even if it changed no label of these photos."""
    if not found["names"]:
        return []
    subject = f"the app = {short(found['file'])}@{found['backend']}"
    return [Check("app_mistakes", subject, 0.0, 1.0, None, "fail", f"mistake found: {' or '.join(found['names'])}")]


def app_check(found: Diagnosis, limit: float) -> Check:
    """Whether an app gives the answers of its file."""
    n = found["n"]
    differ = n - round(found["right"]["share"] * n)
    subject = f"the app = {short(found['file'])}@{found['backend']}"
    return share_check("top1_disagreement", subject, limit, differ, n, f"another label on {differ} of {n} photos")


def _recorded_check(file: Judged, backend: str, accuracy: Accuracy, limit_pp: float) -> list[Check]:
    """Is accuracy as high as the build measured? The photos differ, so the figure is the lower end of the interval of
    build minus now (Newcombe 1998)."""
    expected = expected_of(file, backend)
    if expected is None:
        return []
    top1, n = expected
    hits = round(accuracy["top1"] * accuracy["n"])
    low, high = difference_interval(round(top1 * n), n, hits, accuracy["n"])
    reason = (
        f"{100 * accuracy['top1']:.1f} % here, {100 * top1:.1f} % on the build's {n} test photos: "
        f"{100 * low:.1f} to {100 * high:.1f} points lower"
    )
    subject = f"{short(file.name)}@{backend}"
    return [exact_check("top1_below_build_pp", subject, limit_pp, max(0.0, 100 * low), reason)]


def _golden_checks(files: Sequence[Judged], golden: GoldenReplay | None, absent: Mapping[str, str]) -> list[Check]:
    """The preprocessing, then each file on the golden tensors: does this machine give the recorded answers?"""
    if golden is None or not golden["photos"]:
        reason = "the bundle has no golden/ with photos to replay"
        return [Check("golden", "golden/", 0.0, None, None, "unmeasured", reason)]
    reason = f"{golden['differing']} of {golden['values']} values of {golden['photos']} golden photos' tensors differ from those in golden/"
    checks = [exact_check("golden_input", "contract.json", 0.0, golden["differing"], reason)]
    for file in files:
        for backend, name in file.versions():
            limit = _GOLDEN_LIMITS.get(file.precision, _GOLDEN_STEP)
            apart = golden["files"].get(name)
            if apart is None:
                reason = absent.get(backend, "golden/ has no probabilities for it: the build did not have this runtime")
                checks.append(Check("golden", short(name), limit, None, None, "unmeasured", reason))
            else:
                reason = f"a probability of a golden photo is up to {apart:.2g} from what the build measured"
                status = exact_check("golden", short(name), limit * _ROUNDED, apart, reason).status
                checks.append(Check("golden", short(name), limit, apart, None, status, reason))
    return checks


def off_in_bundle(files: Sequence[Judged], versions: Collection[str], checks: Sequence[Check]) -> list[tuple[str, str]]:
    """(file, backend) to diagnose. All files share one contract: if that is wrong, or all files are off, the first file, a float one, is
    diagnosed for all. versions: those measured."""
    off = _failing(files, checks, {"top1_below_build_pp", "top1_drop_pp", "golden"})
    golden_input = any(check.metric == "golden_input" and check.status == "fail" for check in checks)
    measured = [file for file in files if any(name in versions for _, name in file.versions())]
    return first_measured(files, versions) if golden_input or len(off) == len(measured) else off


def off_alone(
    files: Sequence[Judged], checks: Sequence[Check], drops: Mapping[str, ParityPair]
) -> list[tuple[str, str]]:
    """(file, backend) to diagnose: not certainly better than a constant answer, or far below the reference. drops: see against_first."""
    far = {name for name, pair in drops.items() if pair["top1_drop_interval_pp"][0] > OFF_PP}
    return _failing(files, checks, {"top1_error_up_to", "top1_drop_pp"}, far)


def first_measured(files: Sequence[Judged], versions: Collection[str]) -> list[tuple[str, str]]:
    """The first file that was measured, on its first backend."""
    return [(file.name, backend) for file in files for backend, name in file.versions() if name in versions][:1]


def _failing(
    files: Sequence[Judged], checks: Sequence[Check], metrics: Collection[str], more: Collection[str] = ()
) -> list[tuple[str, str]]:
    """Each file with a version that fails one of the metrics, or is named in `more`, on the first such backend."""
    failed = {check.subject for check in checks if check.metric in metrics and check.status == "fail"}
    failed |= {short(name) for name in more}
    firsts = [
        [(file.name, backend) for backend, name in file.versions() if short(name) in failed][:1] for file in files
    ]
    return [first for found in firsts for first in found]


def largest_share(per_class: Mapping[str, int]) -> float:
    """The share of the photos in the largest class."""
    return max(per_class.values()) / sum(per_class.values())
