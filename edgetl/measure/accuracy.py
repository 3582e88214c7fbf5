"""Accuracy and confusion of predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgetl.core.errors import DataError
from edgetl.core.stats import share_interval
from edgetl.measure.records import Accuracy


def probabilities_of(name: str, session: Any, images: Any, n_classes: int) -> Any:
    """A session's output for normalized images: float [n, n_classes]. name: of the file, for messages.

    Raises DataError for anything but figures of n_classes classes: comparisons with NaN never fail.
    """
    found = session.run(images)
    if found.shape != (len(images), n_classes):
        raise DataError(
            f"{name} gives {found.shape[-1]} figures per photo.",
            why=f"labels.txt names {n_classes} classes",
            fix="take the file as it was built",
        )
    if not np.isfinite(found).all():
        raise DataError(
            f"{name} gives probabilities that are not numbers.",
            why="its output has NaN or infinite values",
            fix="take the file as it was built",
        )
    return found


def accuracy(probabilities: Any, labels: Any) -> Accuracy:
    """Top-1 with its interval. probabilities: float [n, classes]; labels: int [n]."""
    hits = int((probabilities.argmax(axis=1) == labels).sum())
    low, high = share_interval(hits, len(labels))
    return {"top1": hits / len(labels), "n": len(labels), "interval": [low, high]}


def confusion(probabilities: Any, labels: Any) -> list[list[int]]:
    """Counts by [true class][predicted class]."""
    classes = probabilities.shape[1]
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    table: list[list[int]] = counts.tolist()
    return table
