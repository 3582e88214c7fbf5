"""Which usual preprocessing mistake explains that a file answers wrongly, or that an app answers differently than its file.

The same photos go through the same file once for each way of tasks.photos.mistakes. Two ways are compared photo by photo: the number of
photos on which one does better against the number on which the other does, which is a coin flip per photo if neither is better (McNemar
1947; with probabilities this is the sign test). With this many ways one would win by chance, so each p is multiplied by their number
(Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetl.bundle.model_files import ModelFile
from edgetl.commands.verify.result import FoundRow, Outcome, Share, TriedWay
from edgetl.core.progress import Progress
from edgetl.core.stats import difference_interval, mcnemar_p, share_interval
from edgetl.tasks.photos.decode import DECODE_ERRORS, no_longer_readable
from edgetl.tasks.photos.mistakes import Mistake, Way, decode, image_of, pixels_of, wrong_pairs, wrong_ways

ALPHA = 0.05
# Photos for a diagnosis: a loss of five points is significant on this many (10 lost and none gained, for twenty ways). Sixteen ways
# took MobileNetV2 0.35 at 192 px ten seconds, DenseNet121 at 96 px 49, in float32 on a busy machine of two cores.
MOST_PHOTOS = 200
# There are over a hundred pairs of mistakes: all are tried on a few photos, the best on all photos.
_SCREENED_ON, _KEPT = 40, 8
# Scores of one photo closer than this are equal: sums of float32 in another order.
_TIE = 1e-6


@dataclass(frozen=True)
class Scores:
    """The result of one way for each photo. right: whether the answer is the expected one, bool [n]. score: higher is better, float [n]; the
    same as `right`, or where probabilities are compared the negative distance from the expected ones."""

    right: Any
    score: Any
    are_distances: bool = False


@dataclass(frozen=True)
class Found:
    """A diagnosis. ways: the preprocessings of its `names`."""

    row: FoundRow
    ways: list[Way]


Judge = Callable[[Any], Scores]  # figures [n, classes] of the first n photos -> their scores


def stratified(labels: Sequence[int], digests: Sequence[str], most: int) -> list[int]:
    """Positions of at most `most` photos, one of each class in turn; the same photos on any machine.

    >>> stratified([0, 0, 0, 1], ["d", "c", "b", "a"], 3)
    [2, 3, 1]
    """
    turns: dict[int, int] = {}
    keyed = []
    for i in sorted(range(len(labels)), key=lambda i: digests[i]):
        turns[labels[i]] = turns.get(labels[i], -1) + 1
        keyed.append((turns[labels[i]], labels[i], i))
    return [i for _, _, i in sorted(keyed)[:most]]


def figures_of(
    file: ModelFile,
    session: Any,
    paths: Sequence[Path],
    ways: Mapping[str, Way],
    *,
    classes: Sequence[str],
    progress: Progress,
) -> tuple[dict[str, Any], set[str]]:
    """(name of a way -> figures [n, classes], names of ways that change no photo's input).

    A photo is decoded once, and cut once for all ways with the same cut. Raises DataError.
    """
    parts: dict[str, list[Any]] = {name: [] for name in ways}
    unchanged = set(ways)
    for path in paths:
        pixels: dict[Any, Any] = {}
        images: dict[bool, Any] = {}
        answers: dict[bytes, Any] = {}
        usual = image_of(_pixels(path, file.way, images, pixels), file.way, file.grid)
        for name, way in ways.items():
            image = image_of(_pixels(path, way, images, pixels), way, file.grid)
            if name in unchanged and not np.array_equal(image, usual):
                unchanged.discard(name)
            key = image.tobytes()
            if key not in answers:
                answers[key] = file.answers(session, image[None], classes)
            parts[name].append(answers[key])
            progress.advance(1, name)
    return {name: np.concatenate(found) for name, found in parts.items()}, unchanged


def _pixels(path: Path, way: Way, images: dict[bool, Any], pixels: dict[Any, Any]) -> Any:
    """The pixels that a way uses; kept for other ways that use the same."""
    key = (way.upright, way.cut, way.centre_fraction, way.filter)
    try:
        if way.upright not in images:
            images[way.upright] = decode(path, upright=way.upright)
        if key not in pixels:
            pixels[key] = pixels_of(images[way.upright], way)
    except DECODE_ERRORS as error:
        raise no_longer_readable(f"{type(error).__name__}: {error}") from error
    return pixels[key]


def against(a: Scores, b: Scores) -> tuple[int, int, float]:
    """(photos on which b does better, photos on which it does worse, the two-sided p of no difference)."""
    gained = int((b.score > a.score + _TIE).sum())
    lost = int((b.score < a.score - _TIE).sum())
    return gained, lost, mcnemar_p(lost, gained)


def diagnose(
    file: ModelFile,
    session: Any,
    paths: Sequence[Path],
    judge: Judge,
    progress: Progress,
    *,
    classes: Sequence[str],
    enough: Callable[[Scores], bool] | None,
    more: Mapping[str, tuple[Mistake, Callable[[Any], Any]]] | None = None,
) -> Found:
    """The mistakes that explain the expected answers.

    judge: scores the figures of a way. enough: whether a way explains everything; None if the expected accuracy is not known, and
    then pairs of mistakes are tried even if a single one helps. more: name -> a mistake made after the net, and what it turns the figures of
    the right way into.

    The outcome is "named" (one name, or several that these photos do not tell apart), "partly" (the same, but something stays unexplained), "as
    it should be" (the contract's way needs no explanation) or "none". Of pairs, `tried` has only those that went through all photos. Raises
    DataError.
    """
    singles = wrong_ways(file.way, file.grid)
    ways = {"": file.way} | {mistake.name: mistake.way for mistake in singles}
    progress.begin(len(paths) * len(ways), unit="answers")
    figures, unchanged = figures_of(file, session, paths, ways, classes=classes, progress=progress)
    after = {name: (mistake, change(figures[""])) for name, (mistake, change) in (more or {}).items()}
    figures |= {name: found for name, (_, found) in after.items()}
    scores = {name: judge(found) for name, found in figures.items()}
    right = scores.pop("")
    mistakes = {mistake.name: mistake for mistake in [*singles, *(mistake for mistake, _ in after.values())]}
    same_here = [name for name in scores if name in unchanged]
    open_ones = {name: found for name, found in scores.items() if name not in unchanged}
    tried = _rows(right, open_ones)
    best = _best(tried, open_ones)
    explained = best is not None and enough is not None and enough(scores[best])
    fine = best is None and enough is not None and enough(right)
    pairs = wrong_pairs([mistake for mistake in singles if mistake.name in open_ones])
    if explained and best is not None:
        # Something small may be left besides that mistake.
        left = scores[best].are_distances or not scores[best].right.all()
        pairs = [pair for pair in pairs if left and best in pair.parts]
    pairs_tried = 0
    if not fine and pairs:
        pairs_tried = len(pairs)
        found = _screened(file, session, paths, pairs, judge, progress, classes=classes)
        # Two mistakes are named only if they do better than the best single one.
        rows = _rows(scores[best] if best is not None else right, found, times=len(pairs))
        better = _best(rows, found)
        if better is not None:
            best = better
            mistakes |= {mistake.name: mistake for mistake in pairs if mistake.name in found}
            tried = [*tried, *_rows(right, found, times=len(pairs))]
            scores |= found
            open_ones = found
    names = [] if best is None else _alike(best, open_ones, tried)
    whole = best is not None and (enough is None or enough(scores[best]))
    outcome: Outcome = "named" if whole else "partly" if best is not None else "as it should be" if fine else "none"
    row: FoundRow = {
        "outcome": outcome,
        "names": names,
        "mends": [mistakes[name].fix for name in names],
        "n": len(paths),
        "right": _share(right),
        "best": None if best is None else _share(scores[best]),
        "tried": tried,
        "same_here": same_here,
        "singles_tried": len(scores) if not pairs_tried else len(singles) + len(after),
        "pairs_tried": pairs_tried,
    }
    return Found(row, [mistakes[name].way for name in names])


def _share(scores: Scores) -> Share:
    """The share of photos answered as expected."""
    hits, n = int(scores.right.sum()), len(scores.right)
    return {"share": hits / n, "interval": list(share_interval(hits, n))}


def _rows(base: Scores, scores: Mapping[str, Scores], *, times: int = 0) -> list[TriedWay]:
    """One row per way. times: how many ways were tried, for Bonferroni's correction; 0: the number of scores."""
    rows: list[TriedWay] = []
    for name, found in scores.items():
        gained, lost, p = against(base, found)
        better = gained > lost and p * (times or len(scores)) < ALPHA and _worth_it(base, found)
        rows.append({"name": name, **_share(found), "gained": gained, "lost": lost, "p": p, "better": better})
    return rows


def _worth_it(base: Scores, found: Scores) -> bool:
    """Whether distances shrink to half on average (the median of an int8 output is one or two steps). Another JPEG decoder changes all of
    them slightly, and a way that happens to change them back slightly would be nearer on most photos."""
    return not base.are_distances or bool(found.score.mean() >= 0.5 * base.score.mean())


def _best(rows: Sequence[TriedWay], scores: Mapping[str, Scores]) -> str | None:
    """The best-scoring way among the better ones; among equals, the one with the most expected answers."""
    names = [row["name"] for row in rows if row["better"]]
    return max(names, key=lambda name: (float(scores[name].score.mean()), scores[name].right.mean()), default=None)


def _alike(best: str, scores: Mapping[str, Scores], rows: Sequence[TriedWay]) -> list[str]:
    """The best, then the other better ways that cannot be distinguished from it: no p below 0.05 between them."""
    better = [row["name"] for row in rows if row["better"] and row["name"] in scores and row["name"] != best]
    alike = [name for name in better if against(scores[name], scores[best])[2] >= ALPHA]
    return [best, *sorted(alike, key=lambda name: -float(scores[name].score.mean()))]


def _screened(
    file: ModelFile,
    session: Any,
    paths: Sequence[Path],
    pairs: Sequence[Mistake],
    judge: Judge,
    progress: Progress,
    *,
    classes: Sequence[str],
) -> dict[str, Scores]:
    """All pairs on a few photos, the best of them on all. The photos that choose them also decide, which is honest because each p is
    corrected for all pairs."""
    few = paths[:_SCREENED_ON]
    progress.begin(len(few) * len(pairs) + len(paths) * min(_KEPT, len(pairs)), unit="answers")
    ways = {mistake.name: mistake.way for mistake in pairs}
    figures, _ = figures_of(file, session, few, ways, classes=classes, progress=progress)
    order = sorted(ways, key=lambda name: -float(judge(figures[name]).score.mean()))
    kept, _ = figures_of(
        file, session, paths, {name: ways[name] for name in order[:_KEPT]}, classes=classes, progress=progress
    )
    return {name: judge(found) for name, found in kept.items()}


def by_labels(labels: Any) -> Judge:
    """Compares answers with the photos' labels, int [n]."""

    def judge(figures: Any) -> Scores:
        right = figures.argmax(axis=1) == labels[: len(figures)]
        return Scores(right, right.astype(np.float64))

    return judge


def as_recorded(top1: float, n: int) -> Callable[[Scores], bool]:
    """Whether accuracy is not significantly below what a build measured on n photos of its own."""

    def enough(scores: Scores) -> bool:
        low, _ = difference_interval(round(top1 * n), n, int(scores.right.sum()), len(scores.right))
        return low <= 0

    return enough
