"""The result of one way of quantizing on the validation photos, and which of several is chosen. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgetl.core.stats import paired_drop_interval
from edgetl.quantization.records import AttemptRow


@dataclass(frozen=True)
class Attempt:
    """A quantized file compared with the float student on the same n photos.

    lost: photos that only the float net gets right; gained: only the file. drop_pp: top-1 lost, in points, with its 95%
    interval. divergence: mean Kullback-Leibler divergence of the file's probabilities from the float net's, nats.
    one_class: it gives all photos one label, although the float net does not. met: the drop is within the budget.
    """

    name: str
    what: str
    n: int
    top1: float
    float_top1: float
    lost: int
    gained: int
    drop_pp: float
    interval_pp: tuple[float, float]
    same_label: float
    divergence: float
    one_class: bool
    met: bool
    bytes: int
    seconds: float

    def collapsed(self, budget_pp: float) -> bool:
        """Whether it predicts one class, or the whole interval of the drop is past the budget."""
        return self.one_class or self.interval_pp[0] > budget_pp

    def to_json(self, *, chosen: bool) -> AttemptRow:
        """Its row in history.json and the report."""
        row: AttemptRow = {**asdict(self), "chosen": chosen}  # type: ignore[typeddict-item]
        return row


def judge_attempt(
    name: str, what: str, expected: Any, got: Any, labels: Any, *, budget_pp: float, size: int, seconds: float
) -> Attempt:
    """expected, got: probabilities [n, classes] of the float student and of the file. labels: int [n]. size: bytes."""
    first, second = expected.argmax(axis=1), got.argmax(axis=1)
    n = len(labels)
    lost = int(((first == labels) & (second != labels)).sum())
    gained = int(((first != labels) & (second == labels)).sum())
    low, high = paired_drop_interval(lost, gained, n)
    drop_pp = 100.0 * (lost - gained) / n
    one_class = len(np.unique(second)) == 1 and len(np.unique(first)) > 1
    return Attempt(
        name=name,
        what=what,
        n=n,
        top1=float((second == labels).mean()),
        float_top1=float((first == labels).mean()),
        lost=lost,
        gained=gained,
        drop_pp=drop_pp,
        interval_pp=(100.0 * low, 100.0 * high),
        same_label=float((first == second).mean()),
        divergence=mean_divergence(expected, got),
        one_class=one_class,
        met=not one_class and drop_pp <= budget_pp,
        bytes=size,
        seconds=round(seconds, 1),
    )


def mean_divergence(expected: Any, got: Any) -> float:
    """Mean Kullback-Leibler divergence in nats. expected, got: probabilities [n, classes].

    An int8 softmax has no probability between 0 and 1/256: its zeros count as half of that.
    """
    p = np.maximum(np.asarray(expected, np.float64), 1e-12)
    q = np.maximum(np.asarray(got, np.float64), 1.0 / 512.0)
    q /= q.sum(axis=1, keepdims=True)
    return float((p * np.log(p / q)).sum(axis=1).mean())


def nearest(attempts: Sequence[Attempt]) -> int:
    """Position of the one with probabilities nearest to the float net's: on few photos this is steadier than top-1."""
    return min(range(len(attempts)), key=lambda i: (attempts[i].one_class, attempts[i].divergence))


def best(attempts: Sequence[Attempt]) -> int:
    """Position of the one to ship: the first that met the budget, otherwise the one that lost least (of equals, diverged
    least)."""
    met = [i for i, attempt in enumerate(attempts) if attempt.met]
    if met:
        return met[0]
    return min(range(len(attempts)), key=lambda i: (attempts[i].one_class, attempts[i].drop_pp, attempts[i].divergence))
