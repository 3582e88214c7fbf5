"""Answers that an app gave: a CSV of photos with labels or probabilities, compared with the answers of a file here.

    path,label                         one label per photo, or
    path,daisy,roses,tulips            one probability per class, in any order; an additional label column is ignored

Mistakes that an app makes after the net are tried here as well (`after_the_net`): they look like preprocessing mistakes but are not.
"""

from __future__ import annotations

import csv
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetl.bundle.model_files import ModelFile, are_logits, softmax
from edgetl.commands.verify.diagnosis import Judge, Scores
from edgetl.core.errors import DataError
from edgetl.core.stats import share_interval
from edgetl.core.words import printable
from edgetl.tasks.photos.mistakes import Mistake

_NAMED = 12
# An app with another JPEG decoder and other kernels differs on photos whose two best classes tie: the 2% that a build
# allows between an integer file and Keras (verdicts.parity._INT8_DISAGREEMENT).
MOST_DISAGREEMENT = 0.02
# Five steps of an int8 softmax: the effect of another JPEG decoder and another resizing order on most photos.
_NEAR = 0.02


@dataclass(frozen=True)
class Answers:
    """positions: of the answered photos, among those measured. labels: the app's, int [n]; probabilities: float [n, classes] or None.
    strangers: number of lines that name no photo of --data."""

    positions: tuple[int, ...]
    labels: Any
    probabilities: Any
    strangers: int


def read_answers(file: Path, paths: Sequence[Path], root: Path, classes: Sequence[str]) -> Answers:
    """paths: of the photos measured; root: their folder. A photo is named by its path, relative to the CSV's folder or to root, or by an end
    of its path that no other photo shares. Raises DataError with every fault in one message."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = [_composed(name.strip()) for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{printable(str(file), 4096)} cannot be read as CSV in UTF-8.",
            why=printable(str(error), 300),
            fix="give the file with the app's answers: path,label",
        ) from None
    names = [_composed(label) for label in classes]
    has_probabilities = set(names) <= set(columns)
    if "path" not in columns or not (has_probabilities or "label" in columns):
        raise DataError(
            f"{printable(str(file), 4096)} has no columns `path` and `label`.",
            why=f"its first line reads: {printable(','.join(columns), 300) or 'nothing'}",
            fix="begin it with `path,label`, or with `path` and the name of every class for probabilities",
        )
    find = _finder(paths, file.parent, root)
    found: dict[int, Any] = {}
    faults, strangers = [], 0
    for line, row in rows:
        position = find((row["path"] or "").strip())
        if position is None:
            strangers += 1
            continue
        try:
            found[position] = (
                [_share(row[name]) for name in names]
                if has_probabilities
                else names.index(_composed(row["label"].strip()))
            )
        except (ValueError, AttributeError, TypeError) as error:
            faults.append(f"  - line {line}: {printable(str(error), 200)}")
    if faults:
        more = f"\n  - and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise DataError(
            f"{printable(str(file), 4096)} has lines that are not answers:\n" + "\n".join(faults[:_NAMED]) + more,
            why=f"the classes are {', '.join(printable(label) for label in classes)}; probabilities are numbers",
            fix="correct or remove them",
        )
    if not found:
        raise DataError(
            f"{printable(str(file), 4096)} has no line for any of the photos.",
            why=f"{strangers} lines name photos that are not among those of --data",
            fix="name them by their paths below --data, such as roses/12.jpg",
        )
    positions = tuple(sorted(found))
    answers = np.array([found[i] for i in positions])
    if not has_probabilities:
        return Answers(positions, answers, None, strangers)
    return Answers(positions, answers.argmax(axis=1), answers, strangers)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _share(text: str) -> float:
    value = float(text)
    if not np.isfinite(value):
        raise ValueError(f"{text!r} is not a probability")
    return value


def _finder(paths: Sequence[Path], *roots: Path) -> Callable[[str], int | None]:
    """A function: the name of a photo in a line -> its position in `paths`, None if it names no photo or several."""
    whole = {path.resolve(): i for i, path in enumerate(paths)}
    ends: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for i, path in enumerate(paths):
        parts = path.parts
        for count in range(1, min(len(parts), 4) + 1):
            ends[parts[-count:]].add(i)

    def find(name: str) -> int | None:
        if not name or "\0" in name:
            return None
        for root in roots:
            with_root = (root / name).resolve()
            if with_root in whole:
                return whole[with_root]
        # An app on Windows, or a phone with its own folders: the end of the path decides.
        parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
        for count in range(min(len(parts), 4), 0, -1):
            some = ends.get(parts[-count:], set())
            if len(some) == 1:
                return next(iter(some))
        return None

    return find


def by_answers(answers: Answers, chosen: Sequence[int]) -> Judge:
    """Compares with the app's answers at `chosen` of its positions. With probabilities, the smaller the largest difference of a class, the
    better."""
    labels = answers.labels[list(chosen)]
    wanted = None if answers.probabilities is None else answers.probabilities[list(chosen)]

    def judge(figures: Any) -> Scores:
        n = len(figures)
        right = figures.argmax(axis=1) == labels[:n]
        if wanted is None:
            return Scores(right, right.astype(np.float64))
        # The exporter of the file may have left out the softmax; the app may have, too.
        found = softmax(figures) if are_logits(figures) and not are_logits(wanted) else figures
        return Scores(right, -np.abs(found - wanted[:n]).max(axis=1), are_distances=True)

    return judge


def after_the_net(
    file: ModelFile, classes: Sequence[str], step: float
) -> dict[str, tuple[Mistake, Callable[[Any], Any]]]:
    """Name -> (a mistake made with the net's output, what it turns the right figures into). step: of the output's grid, 0.0 for
    floats."""

    def mistake(name: str, fix: str) -> Mistake:
        return Mistake(name, ("output",), file.way, fix)

    found: dict[str, tuple[Mistake, Callable[[Any], Any]]] = {}
    if step:
        # int8 softmax: probability = (q + 128) / 256 (LiteRT's 8-bit specification).
        bytes_ = mistake("int8 output read as bytes 0..255", "probability = (q + 128) / 256, with q signed")
        forgotten = mistake("output without its zero point", "probability = (q + 128) / 256, not q / 256")
        found[bytes_.name] = (bytes_, lambda figures: (figures + 128 * step) % (256 * step))
        found[forgotten.name] = (forgotten, lambda figures: figures - 128 * step)
    twice = mistake("softmax applied twice", "use the output as it is: these are probabilities already")
    found[twice.name] = (twice, softmax)
    order = [list(classes).index(label) for label in (file.classes or classes)]
    alphabet = sorted(range(len(order)), key=lambda i: classes[order[i]])
    if alphabet != list(range(len(order))):
        # Output i is taken for the class that is i-th in alphabetical order.
        columns = {order[by_name]: order[i] for i, by_name in enumerate(alphabet)}
        sorted_ = mistake("classes in alphabetical order", "use the order of labels.txt")
        found[sorted_.name] = (sorted_, lambda figures: figures[:, [columns[i] for i in range(len(order))]])
    return found


def agrees(answers: Answers) -> Callable[[Scores], bool]:
    """Whether no more answers differ than with another decoder and other kernels; with probabilities, also whether half of the photos are
    that near. One of two mistakes may explain every label and leave the probabilities wrong."""

    def enough(scores: Scores) -> bool:
        alike = share_interval(int(scores.right.sum()), len(scores.right))[1] >= 1 - MOST_DISAGREEMENT
        return alike and (answers.probabilities is None or float(np.median(scores.score)) >= -_NEAR)

    return enough
