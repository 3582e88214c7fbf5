"""How two sets of predictions for the same photos differ, and all versions of one net beside each other."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from edgetl.core.stats import mcnemar_p, paired_drop_interval

# What one step of an int8 softmax output is worth: LiteRT's quantization specification fixes it.
OUTPUT_STEP = 1 / 256
# Of a photo's sha256, as its id in lists: 64 bits tell any two photos of a data set apart.
ID_DIGITS = 16
_RESAMPLES = 10_000


def parity(a: Any, b: Any, labels: Any, *, step: float = OUTPUT_STEP) -> dict[str, Any]:
    """How far b is from a. a, b: probabilities [n, classes]; labels: int [n]; step: of the coarser output grid.

    A photo's difference is the largest one of any of its probabilities: max_abs and mean_abs are over photos, and so are
    max_steps, mean_steps and within_2_steps (a share), which count in output_step, the step given. cosine_mean and cosine_min: of the
    angle between the two rows of probabilities. lost, gained: photos that a alone, b alone gets right.

    top1_drop_interval_pp is Agresti and Min's, the one that verdicts are drawn on. top1_drop_bootstrap_pp is shown beside
    it and decides nothing: where no photo is lost or gained, it is [0, 0] however few photos there are.
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
    """Of each row's angle, float64 [n]; 0.0 for a row without a direction, which no softmax gives."""
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(axis=1), length, out=np.zeros(len(a)), where=length > 0)


def bootstrap_drop_interval(lost: int, gained: int, n: int, *, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap (Efron 1979) of the accuracy drop on the same photos, as a share; two-sided, 95%.

    Photos are drawn with replacement, each with both of its answers. Only how many of the lost and the gained ones come
    up matters to the drop, and those counts are multinomial: drawn as such, 10,000 resamples take milliseconds.

    >>> bootstrap_drop_interval(0, 0, 30)
    (0.0, 0.0)
    """
    shares = [lost / n, gained / n, (n - lost - gained) / n]
    draws = np.random.default_rng(seed).multinomial(n, shares, size=_RESAMPLES)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / n, [0.025, 0.975])
    return float(low), float(high)


def parity_matrix(
    predictions: Mapping[str, Any], labels: Any, ids: Sequence[str], *, steps: Mapping[str, float]
) -> dict[str, Any]:
    """Every pair of versions: {"names": [...], "pairs": [{a, b, flipped, ...}]}, a before b in the order of `predictions`.

    predictions: name -> probabilities [n, classes]; ids: of the photos; steps: name -> its output step, 0.0 for a float
    output. flipped: ids of the photos that a and b take for different classes.
    """
    pairs = []
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


def pairs_among(matrix: Mapping[str, Any], names: Collection[str]) -> list[dict[str, Any]]:
    """The pairs of a matrix both of which are in `names`, in its order, without the photos they differ on."""
    return [
        {key: value for key, value in pair.items() if key != "flipped"}
        for pair in matrix["pairs"]
        if pair["a"] in names and pair["b"] in names
    ]


def coarser_step(a: float, b: float) -> float:
    """What differences of two outputs are counted in: the coarser grid; that of an int8 softmax for two float outputs.

    >>> coarser_step(0.0, 1 / 128), coarser_step(0.0, 0.0)
    (0.0078125, 0.00390625)
    """
    return max(a, b) or OUTPUT_STEP
