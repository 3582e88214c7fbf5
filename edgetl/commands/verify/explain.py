"""Diagnoses of a verification: why a file is less accurate than it should be, and why an app answers differently than its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import numpy as np

from edgetl.bundle.golden import golden_index, golden_tensor, plain_name
from edgetl.bundle.model_files import ModelFile
from edgetl.commands.verify.answers import Answers, after_the_net, agrees, by_answers
from edgetl.commands.verify.diagnosis import MOST_PHOTOS, Found, as_recorded, by_labels, diagnose, stratified
from edgetl.commands.verify.photos import Photos
from edgetl.commands.verify.result import Diagnosis, Expected
from edgetl.commands.verify.versions import opened
from edgetl.core.progress import Progress
from edgetl.tasks.photos.contract import Normalization, View
from edgetl.tasks.photos.decode import load_view
from edgetl.tasks.photos.mistakes import Way, decode, describe, image_of, pixels_of, wrong_ways

# One label says little about a photo: another resize filter changes one in twenty.
_MOST_ANSWERS = 300
# golden_numbers rounds to a thousandth; differences below these change no answer.
_SAME_MEAN_PX, _SAME_SCALE = 0.01, 1e-4


def explain_accuracy(
    file: ModelFile,
    backend: str,
    photos: Photos,
    classes: Sequence[str],
    progress: Progress,
    *,
    expected: Expected | None,
    golden: Path | None,
    replays_golden: bool = False,
) -> Diagnosis:
    """What diagnosis.diagnose finds for a file, on some of the photos.

    expected: how accurate it should be; None where nobody measured it. golden: the bundle's golden vectors, whose tensors show how
    they were made; replays_golden: whether the file gives their recorded answers. Raises DataError.
    """
    labels = photos.numbers(classes)
    chosen = stratified(labels, photos.digests, MOST_PHOTOS)
    with opened([file], [backend]) as (sessions, _):
        ((_, session),) = sessions.values()
        found = diagnose(
            file,
            session,
            [photos.paths[i] for i in chosen],
            by_labels(np.array([labels[i] for i in chosen])),
            progress,
            classes=classes,
            enough=None if expected is None else as_recorded(expected["top1"], expected["n"]),
        )
    row = _in_words("accuracy", file, backend, found, golden)
    row["expected"] = expected
    row["replays_golden"] = replays_golden
    return row


def explain_answers(
    file: ModelFile,
    backend: str,
    photos: Photos,
    classes: Sequence[str],
    progress: Progress,
    *,
    answers: Answers,
) -> Diagnosis:
    """The same for an app's answers: the mistake with which this file answers as the app did. Raises DataError."""
    labels, digests = photos.numbers(classes), photos.digests
    chosen = stratified([labels[i] for i in answers.positions], [digests[i] for i in answers.positions], _MOST_ANSWERS)
    with opened([file], [backend]) as (sessions, _):
        ((_, session),) = sessions.values()
        found = diagnose(
            file,
            session,
            [photos.paths[answers.positions[i]] for i in chosen],
            by_answers(answers, chosen),
            progress,
            classes=classes,
            enough=agrees(answers),
            more=after_the_net(file, classes, session.output_step),
        )
    row = _in_words("answers", file, backend, found, None)
    row["answered"] = len(answers.positions)
    row["strangers"] = answers.strangers
    row["has_probabilities"] = answers.probabilities is not None
    return row


def _in_words(
    of: Literal["accuracy", "answers"], file: ModelFile, backend: str, found: Found, golden: Path | None
) -> Diagnosis:
    """A diagnosis with its ways in words, and with what golden/ shows: one more outcome, "contract changed"."""
    made_with = None if golden is None else _way_of_golden(golden, file)
    changed = made_with is not None and not _same_way(made_with, file.way)
    row = {
        "of": of,
        "file": file.name,
        "backend": backend,
        **found.row,
        # Tensors that a build wrote down prove more than any accuracy.
        "outcome": "contract changed" if changed else found.row["outcome"],
        "contract": describe(file.way),
        "wanted": [describe(way) for way in found.ways],
        "made_golden": [] if golden is None else golden_made_by(golden, found.ways),
        "golden_made_with": None if made_with is None else describe(made_with),
    }
    return cast("Diagnosis", row)


def _way_of_golden(golden: Path, file: ModelFile) -> Way | None:
    """How the tensors in golden/ were made, if by a usual cut with a mean and a scale: what contract.json said at that time."""
    cuts = [mistake.way for mistake in wrong_ways(file.way, file.grid) if mistake.fields == ("cut",)]
    for way in (file.way, *(way for way in cuts if way.cut != "letterbox")):
        numbers = golden_numbers(golden, View(way.size_px, way.cut, way.centre_fraction))
        if numbers is not None:
            return replace(way, normalization=numbers)
    return None


def _same_way(a: Way, b: Way) -> bool:
    """Whether cut and numbers are the same, the numbers as exactly as a line through float32 values gives them."""
    if (a.cut, a.centre_fraction) != (b.cut, b.centre_fraction) or a.normalization is None or b.normalization is None:
        return False
    means = np.subtract(a.normalization.mean, b.normalization.mean)
    scales = np.divide(a.normalization.scale, b.normalization.scale)
    return bool((np.abs(means) < _SAME_MEAN_PX).all() and (np.abs(scales - 1) < _SAME_SCALE).all())


def golden_made_by(folder: Path, ways: Sequence[Way]) -> list[bool]:
    """For each way, whether it makes the float32 tensors in golden/ from the photos there; False for all without golden/."""
    index, same = golden_index(folder), [True] * len(ways)
    for row in index:
        for i, way in enumerate(ways):
            pixels = pixels_of(decode(folder / plain_name(row["photo"]), upright=way.upright), way)
            made = image_of(pixels, way, {"dtype": "float32"})
            written = golden_tensor(folder, row, "float32", View(way.size_px, way.cut, way.centre_fraction))
            # One float32 step of the largest: (pixel - mean) * (1 / scale) may be computed in another order.
            same[i] = same[i] and bool(np.allclose(made, written, rtol=0, atol=1e-6 * max(1.0, np.abs(written).max())))
    return [bool(index) and one for one in same]


def golden_numbers(folder: Path, view: View) -> Normalization | None:
    """The mean and scale that the tensors in golden/ were made with, to three decimals: a straight line through pixels and values of
    each colour. None where no straight line fits."""
    pairs = [
        (load_view(folder / plain_name(row["photo"]), view), golden_tensor(folder, row, "float32", view))
        for row in golden_index(folder)
    ]
    if not pairs:
        return None
    mean, scale = [], []
    for channel in range(3):
        pixels = np.concatenate([seen[..., channel].ravel() for seen, _ in pairs]).astype(np.float64)
        values = np.concatenate([made[..., channel].ravel() for _, made in pairs]).astype(np.float64)
        slope, start = np.polyfit(pixels, values, 1) if np.ptp(pixels) else (0.0, 0.0)
        if not slope or np.abs(slope * pixels + start - values).max() > 1e-4 * max(1.0, np.abs(values).max()):
            return None
        mean.append(round(float(-start / slope), 3))
        scale.append(round(float(1 / slope), 3))
    return Normalization((mean[0], mean[1], mean[2]), (scale[0], scale[1], scale[2]))
