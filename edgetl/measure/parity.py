"""How two sets of predictions for the same photos differ, and a matrix of all versions of one net."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from edgetl.core.stats import mcnemar_p, paired_drop_interval
from edgetl.measure.records import ParityMatrix, ParityPair, without_photos

# One step of an int8 softmax output, fixed by LiteRT's quantization specification.
OUTPUT_STEP = 1 / 256
# Digits of a photo's sha256 that serve as its id in lists: 64 bits distinguish all photos of a data set.
ID_DIGITS = 16
_RESAMPLES = 10_000


def parity(a: Any, b: Any, labels: Any, *, step: float = OUTPUT_STEP) -> ParityPair:
    """How far b is from a. a, b: probabilities [n, classes]; labels: int [n]; step: of the coarser output grid.

    A photo's difference is the largest one of any of its probabilities: max_abs and mean_abs are over photos, and so are
    max_steps, mean_steps and within_2_steps (a share), which count in units of output_step. cosine_mean and cosine_min: of the
    angle between the two rows of probabilities. lost, gained: photos that only a, only b gets right.

    top1_drop_interval_pp is Agresti and Min's, which verdicts use. top1_drop_bootstrap_pp is shown for comparison only: where no
    photo is lost or gained, it is [0, 0] however few photos there are.
    """
    first, second = a.argmax(axis=1), b.argmax(axis=1)
    a, b = a.astype(np.float64), b.astype(np.float64)
    apart = np.abs(a - b).max(axis=1)
    cosine = _cosine(a, b)
    n = len(labels)
    lost = int(((first == labels) & (second != labels)).sum())
    gained = int(((first != labels) & (second == labels)).sum())
    return {
        "n": n,
        "top1_agreement": float((first == second).mean()),
        "max_abs": float(apart.max()),
        "output_step": float(step),
        "mean_abs": float(apart.mean()),
        "max_steps": float(apart.max() / step),
        "mean_steps": float(apart.mean() / step),
        # Probabilities are float32: a difference of two steps may be 2.0000002 of them.
        "within_2_steps": float((apart <= 2.001 * step).mean()),
        "cosine_mean": float(cosine.mean()),
        "cosine_min": float(cosine.min()),
        "lost": lost,
        "gained": gained,
        "top1_drop_pp": 100 * (lost - gained) / n,
        "top1_drop_interval_pp": [100 * edge for edge in paired_drop_interval(lost, gained, n)],
        "top1_drop_bootstrap_pp": [100 * edge for edge in bootstrap_drop_interval(lost, gained, n)],
        "mcnemar_p": mcnemar_p(lost, gained),
    }


def _cosine(a: Any, b: Any) -> Any:
    """Cosine of the angle between the two rows, float64 [n]; 0.0 for a row of zeros, which no softmax gives."""
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(axis=1), length, out=np.zeros(len(a)), where=length > 0)


def bootstrap_drop_interval(lost: int, gained: int, n: int, *, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap (Efron 1979) of the accuracy drop on the same photos, as a share; two-sided, 95%.

    Photos are drawn with replacement, each with both of its answers. Only the numbers of lost and gained photos matter to the drop, and
    these are multinomial: 10,000 resamples take milliseconds.

    >>> bootstrap_drop_interval(0, 0, 30)
    (0.0, 0.0)
    """
    shares = [lost / n, gained / n, (n - lost - gained) / n]
    draws = np.random.default_rng(seed).multinomial(n, shares, size=_RESAMPLES)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / n, [0.025, 0.975])
    return float(low), float(high)


def parity_matrix(
    predictions: Mapping[str, Any], labels: Any, ids: Sequence[str], *, steps: Mapping[str, float]
) -> ParityMatrix:
    """Every pair of versions: {"names": [...], "pairs": [{a, b, flipped, ...}]}, a before b in the order of `predictions`.

    predictions: name -> probabilities [n, classes]; ids: of the photos; steps: name -> its output step, 0.0 for a float
    output. flipped: ids of the photos for which a and b answer different classes.
    """
    pairs: list[ParityPair] = []
    for a, b in itertools.combinations(predictions, 2):
        differ = predictions[a].argmax(axis=1) != predictions[b].argmax(axis=1)
        pairs.append(
            {
                "a": a,
                "b": b,
                **parity(predictions[a], predictions[b], labels, step=coarser_step(steps[a], steps[b])),
                "flipped": [ids[i] for i in np.flatnonzero(differ).tolist()],
            }
        )
    return {"names": list(predictions), "pairs": pairs}


def pairs_among(matrix: ParityMatrix, names: Collection[str]) -> list[ParityPair]:
    """The pairs of a matrix with both names in `names`, in its order, without the photos on which they differ."""
    return [without_photos(pair) for pair in matrix["pairs"] if pair["a"] in names and pair["b"] in names]


def coarser_step(a: float, b: float) -> float:
    """The unit for differences of two outputs: the coarser grid; that of an int8 softmax for two float outputs.

    >>> coarser_step(0.0, 1 / 128), coarser_step(0.0, 0.0)
    (0.0078125, 0.00390625)
    """
    return max(a, b) or OUTPUT_STEP
