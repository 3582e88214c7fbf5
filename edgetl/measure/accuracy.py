"""What predictions say: accuracy, confusion, and how two sets of predictions differ."""

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


def parity(a: Any, b: Any, labels: Any, *, step: float = 0.0) -> dict[str, Any]:
    """How far b is from a on the same photos. a, b: probabilities [n, classes]; step: of b's output grid, 0 for none.

    lost, gained: photos that a alone, b alone gets right: what a paired interval needs.
    """
    first, second = a.argmax(axis=1), b.argmax(axis=1)
    worst = np.abs(a.astype(np.float64) - b).max(axis=1)
    result = {
        "n": len(labels),
        "top1_agreement": float((first == second).mean()),
        "max_abs": float(worst.max()),
        "lost": int(((first == labels) & (second != labels)).sum()),
        "gained": int(((first != labels) & (second == labels)).sum()),
    }
    if step:
        result["max_steps"] = float(worst.max() / step)
        result["within_2_steps"] = float((worst <= 2.001 * step).mean())
    return result
