"""Precision, recall and F1 per class and overall, from a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgetl.core.stats import share_interval
from edgetl.measure.records import ByClass, ClassRow, WorstConfusion

# The interval's ends are the 25th and the 975th of these: they vary by a tenth of the interval from seed to seed.
_RESAMPLES = 1000


def by_class(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> ByClass:
    """{"classes": [{name, photos, answers, precision, recall, f1, and intervals}], "macro": {precision, recall, f1, f1_interval}}.

    counts: by [true class][predicted class]. photos: of the class; answers: that name it. A class that is never answered has
    no precision (None) and counts as 0 in the macro average: an average over the others would reward ignoring it. scikit-learn does the
    same with zero_division=0. Macro: every class counts the same, however many photos it has.
    """
    table = np.asarray(counts)
    right, photos, answers = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    rows: list[ClassRow] = []
    for i, name in enumerate(classes):
        hits, n, said = int(right[i]), int(photos[i]), int(answers[i])
        rows.append(
            {
                "name": name,
                "photos": n,
                "answers": said,
                "precision": hits / said if said else None,
                "precision_interval": list(share_interval(hits, said)),
                "recall": hits / n if n else None,
                "recall_interval": list(share_interval(hits, n)),
                "f1": float(f1_scores(right, photos, answers)[i]),
            }
        )
    low, high = np.quantile(_resampled_macro_f1(table), [0.025, 0.975])
    return {
        "classes": rows,
        "macro": {
            "precision": float(np.mean([row["precision"] or 0.0 for row in rows])),
            "recall": float(np.mean([row["recall"] or 0.0 for row in rows])),
            "f1": float(f1_scores(right, photos, answers).mean()),
            "f1_interval": [float(low), float(high)],
        },
    }


def f1_scores(right: Any, photos: Any, answers: Any) -> Any:
    """2 right / (photos + answers) per class [..., classes]; 0 where a class has neither.

    >>> f1_scores(np.array([3, 0]), np.array([4, 0]), np.array([4, 0])).tolist()
    [0.75, 0.0]
    """
    both = photos + answers
    return np.divide(2.0 * right, both, out=np.zeros(np.shape(both)), where=both > 0)


def _resampled_macro_f1(table: Any, *, seed: int = 0) -> Any:
    """Macro-F1 of photos drawn with replacement, float64 [resamples]: F1 is not a share, so share_interval does not apply."""
    truth, said = np.nonzero(table)
    n = int(table.sum())
    # As floats, for fast matrix products; counts this small are exact.
    draws = np.random.default_rng(seed).multinomial(n, table[truth, said] / n, size=_RESAMPLES).astype(np.float64)
    classes = np.arange(len(table))
    # Which of the cells are a class's photos, its answers: [cells, classes].
    of_class, named = (side[:, None] == classes for side in (truth, said))
    right, photos, answers = (draws @ some.astype(np.float64) for some in (of_class & named, of_class, named))
    return f1_scores(right, photos, answers).mean(axis=1)


def worst_confusions(counts: Sequence[Sequence[int]], classes: Sequence[str], *, most: int) -> list[WorstConfusion]:
    """The most frequent confusions: {true, answered, count, of}; `of`: the photos of the true class."""
    table = np.array(counts)
    of = table.sum(axis=1)
    np.fill_diagonal(table, 0)
    order = sorted(zip(*np.nonzero(table), strict=True), key=lambda cell: (-table[cell], cell))
    return [
        {"true": classes[i], "answered": classes[j], "count": int(table[i, j]), "of": int(of[i])}
        for i, j in order[:most]
    ]
