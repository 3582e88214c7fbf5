"""`--student auto`: the largest MobileNetV2 that fits a target's budget, by its estimated latency and size. Pure.

Larger counts as better: in this family accuracy mostly grows with multiply-accumulates, whether they come from width or
from input size (Sandler et al. 2018, figure 5). The upper end of the estimate decides, not its middle: a net chosen
because it fits should fit, and a net whose middle is at the limit exceeds it half of the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from edgetl.backbones.catalogue import FAMILIES, family_of, net_ops, width_of
from edgetl.core.errors import UsageError
from edgetl.latency.estimate import Estimate, estimate
from edgetl.latency.load import load_of_net
from edgetl.report.records import StudentChoiceRow
from edgetl.stages.recipe import Recipe
from edgetl.targets.target import Target

# The family that `--student auto` chooses from.
_STUDENTS = "mobilenetv2"
AUTO = "auto"


@dataclass(frozen=True)
class Auto:
    """The student has yet to be chosen. input_size_px: the only size to consider; None for all."""

    input_size_px: int | None = None


# The contents of a file besides its weights. An int8 file has per channel a bias, the bias's scale and zero point, and the
# kernel's: 4 + 2 x 12 bytes. Structure and metadata took 23 kB (int8), 33 kB (float32) and 50 kB (float16) of the files
# built for five classes of photos, at 0.35 and 1.0 alike; a label counts as 32 bytes.
_STRUCTURE_BYTES, _LABEL_BYTES, _INT8_CHANNEL_BYTES = 52_000, 32, 28
_WEIGHT_BYTES = {"float32": 4, "float16": 2, "dynamic": 1, "int8": 1}


@dataclass(frozen=True)
class Candidate:
    """A net to choose from. estimates: one per target, on its first runtime; None for a target without a latency budget."""

    backbone: str
    input_size_px: int
    macs: int
    model_bytes: int
    estimates: tuple[Estimate | None, ...]

    def p90_high_ms(self) -> float | None:
        """The largest upper end over the targets."""
        return max((estimated.p90_interval_ms[1] for estimated in self.estimates if estimated), default=None)


@dataclass(frozen=True)
class StudentChoice:
    """The chosen student and why, for plans and reports. considered: number of candidates. estimates: one per target that
    limits latency. reason: why larger ones do not fit, and what could not be considered."""

    backbone: str
    input_size_px: int
    macs: int
    model_bytes: int
    considered: int
    estimates: tuple[Estimate, ...]
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def to_row(self) -> StudentChoiceRow:
        """The choice in a report."""
        return cast(StudentChoiceRow, {**self.as_dict(), "sentence": self.sentence()})

    def sentence(self) -> str:
        """The choice in a plan's and a report's words."""
        text = (
            f"student {self.backbone} at {self.input_size_px} px, chosen from {self.considered}: {self.macs / 1e6:.0f} million "
            f"MACs, a file of about {self.model_bytes / 1e6:.2g} MB; {self.reason}"
        )
        for estimated in self.estimates:
            text += f". {estimated.target}: {estimated.sentence()}, limit {estimated.limit_p90_ms:g} ms"
        return text + "."


def take_auto(tables: Mapping[str, Any]) -> tuple[dict[str, Any], Auto | None]:
    """A recipe's tables without `student.backbone = "auto"`, and its request; None where it names a student."""
    student, dataset = tables.get("student"), tables.get("dataset")
    if not isinstance(student, dict) or student.get("backbone") != AUTO:
        return dict(tables), None
    rest = {**tables, "student": {key: value for key, value in student.items() if key != "backbone"}}
    return rest, Auto(dataset.get("input_size_px") if isinstance(dataset, dict) else None)


def candidates(recipe: Recipe, targets: Sequence[Target], classes: int, sizes: Sequence[int]) -> list[Candidate]:
    """Every width and size to choose from, most multiply-accumulates first; none wider than a MobileNetV2 teacher."""
    teacher = recipe.teacher.backbone
    widest = width_of(teacher) if family_of(teacher) == _STUDENTS else FAMILIES[_STUDENTS].widest
    found = []
    for width in FAMILIES[_STUDENTS].widths:
        for size in sizes if width <= widest else ():
            name = f"{_STUDENTS}-{width}"
            macs = sum(op.macs for op in net_ops(name, size, classes))
            bytes_of = max(estimated_bytes(name, size, classes, target.precision) for target in targets)
            estimated = tuple(_estimate(name, size, classes, target) for target in targets)
            found.append(Candidate(name, size, macs, bytes_of, estimated))
    return sorted(found, key=lambda candidate: -candidate.macs)


def estimated_bytes(backbone: str, input_size_px: int, classes: int, precision: str) -> int:
    """The estimated size of the net's file."""
    net = net_ops(backbone, input_size_px, classes)
    weights, channels = sum(op.weights for op in net), sum(op.channels for op in net)
    each = _WEIGHT_BYTES[precision]
    per_channel = _INT8_CHANNEL_BYTES if each == 1 else each
    return each * weights + per_channel * channels + _STRUCTURE_BYTES + _LABEL_BYTES * classes


def _estimate(backbone: str, size: int, classes: int, target: Target) -> Estimate | None:
    if target.budget.latency_p90_ms is None:
        return None
    estimated = estimate(load_of_net(backbone, size, classes, target), target, target.runtimes[0])
    if isinstance(estimated, str):
        raise UsageError(
            f"No student can be chosen for {target.name}: there is no latency to choose by.",
            why=estimated,
            fix="name one with --student, for example mobilenetv2-0.35",
        )
    return estimated


def choose_student(
    recipe: Recipe, targets: Sequence[Target], *, classes: int, input_size_px: int | None = None
) -> StudentChoice:
    """The candidate with the most multiply-accumulates that fits every target.

    input_size_px: the only size to consider; None for all. Raises UsageError when none fits.
    """
    sizes = FAMILIES[_STUDENTS].weights_px if input_size_px is None else (input_size_px,)
    found = candidates(recipe, targets, classes, sizes)
    fitting = [candidate for candidate in found if not _misfits(candidate, targets)]
    if not fitting:
        least = found[-1]
        raise UsageError(
            f"No student fits {' and '.join(target.name for target in targets)}.",
            why=f"even the smallest, {least.backbone} at {least.input_size_px} px, {'; '.join(_misfits(least, targets))}",
            fix="name one with --student to build it anyway, or raise the budget in a copy of the target",
        )
    best = fitting[0]
    larger = [candidate for candidate in found if candidate.macs > best.macs]
    reason = "the largest that fits" if larger else "the largest of all fits"
    if larger:
        following = larger[-1]
        reason += f"; the next, {following.backbone} at {following.input_size_px} px, {'; '.join(_misfits(following, targets))}"
    unlimited = [target.name for target in targets if target.budget.latency_p90_ms is None]
    if unlimited:
        reason += f"; {', '.join(unlimited)} has no latency limit, so the file size alone decided"
    here = [target.name for target in targets if target.is_this_machine()]
    if here:
        reason += f"; {', '.join(here)} is this machine, for which nothing is published: chosen by published latencies of similar processors, and measured by the build"
    return StudentChoice(
        best.backbone,
        best.input_size_px,
        best.macs,
        best.model_bytes,
        len(found),
        tuple(estimated for estimated in best.estimates if estimated),
        reason,
    )


def _misfits(candidate: Candidate, targets: Sequence[Target]) -> list[str]:
    """The limits of the targets that a candidate exceeds, in words."""
    misfits = []
    for target, estimated in zip(targets, candidate.estimates, strict=True):
        limit = target.budget.latency_p90_ms
        if estimated and limit is not None and estimated.p90_interval_ms[1] > limit:
            low, high = estimated.p90_interval_ms
            misfits.append(f"is estimated at p90 {low:.3g} to {high:.3g} ms on {target.name}, whose limit is {limit:g}")
        if candidate.model_bytes > target.budget.model_bytes:
            misfits.append(
                f"would be a file of {candidate.model_bytes / 1e6:.2f} MB, and the limit of {target.name} is {target.budget.model_bytes / 1e6:g}"
            )
    return misfits


def with_student(recipe: Recipe, choice: StudentChoice) -> Recipe:
    """The recipe with the chosen student."""
    data = recipe.model_dump()
    data["student"]["backbone"] = choice.backbone
    data["dataset"]["input_size_px"] = choice.input_size_px
    return Recipe.model_validate(data)
