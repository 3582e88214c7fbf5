"""What predictions say: accuracy and confusion."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgetl.measure.stats import share_interval


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
