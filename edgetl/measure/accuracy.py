"""What predictions say: accuracy and confusion."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgetl.core.errors import DataError
from edgetl.core.stats import share_interval


def probabilities_of(name: str, session: Any, images: Any, n_classes: int) -> Any:
    """What a session makes of normalized images: float [n, n_classes]. name: the file's, for messages.

    Raises DataError for what are not probabilities of so many classes: a comparison with NaN fails nothing.
    """
    found = session.run(images)
    if found.shape != (len(images), n_classes):
        raise DataError(
            f"{name} gives {found.shape[-1]} figures for each photo.",
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


def accuracy(probabilities: Any, labels: Any) -> dict[str, Any]:
    """Top-1 with its interval. probabilities: float [n, classes]; labels: int [n]."""
    hits = int((probabilities.argmax(axis=1) == labels).sum())
    low, high = share_interval(hits, len(labels))
    return {"top1": hits / len(labels), "n": len(labels), "interval": [low, high]}


def confusion(probabilities: Any, labels: Any) -> list[list[int]]:
    """Counts by [true class][predicted class]."""
    classes = probabilities.shape[1]
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    return counts.tolist()
