"""Which usual mistake of preprocessing explains that a file answers wrongly, or that an app answers otherwise.

The same photos go through the same file once for each way of measure.preprocessing. Two ways are compared photo by photo:
those on which one does better against those on which the other does, a coin's throw each if neither is better (McNemar
1947; with probabilities the sign test, which is the same sum). So many ways are tried that one is bound to win by chance:
a p counts times their number (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetl.bundle.model_files import ModelFile
from edgetl.core.progress import Progress
from edgetl.core.stats import difference_interval, mcnemar_p, share_interval
from edgetl.tasks.photos.decode import DECODE_ERRORS, no_longer_readable
from edgetl.tasks.photos.mistakes import Mistake, Way, decode, image_of, pixels_of, wrong_pairs, wrong_ways

ALPHA = 0.05
# Photos for a diagnosis: what costs five points shows on so many (10 lost and none gained, for twenty ways). Sixteen ways
# took MobileNetV2 0.35 at 192 px ten seconds, DenseNet121 at 96 px 49, in float32 on a busy machine of two cores.
MOST_PHOTOS = 200
# Pairs of mistakes are a hundred and more: all on a few photos, the best on all of them.
_SCREENED_ON, _KEPT = 40, 8
# Scores of photos closer than this are the same: sums of float32 in another order.
_TIE = 1e-6


@dataclass(frozen=True)
class Scores:
    """What a way comes to on each photo. right: whether the answer is the one wanted, bool [n]. score: higher is better,
    float [n]; the same as `right`, or where probabilities are compared minus the distance from those wanted."""

    right: Any
    score: Any
    are_distances: bool = False


Judge = Callable[[Any], Scores]  # figures [n, classes] of the first n photos -> their scores


def stratified(labels: Sequence[int], digests: Sequence[str], most: int) -> list[int]:
    """Positions of at most `most` photos, one of each class in turn; the same for the same photos on any machine.

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

    A photo is decoded once and cut once for all ways that cut it alike. Raises DataError.
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
    """What of a photo a way sees; kept for the other ways that see the same."""
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
    """(photos on which b does better, worse, the two-sided p of neither)."""
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
) -> dict[str, Any]:
    """{outcome, names, mends, ways, n, right, best, tried, same_here, pairs_tried}: what explains the answers wanted.

    judge: of what a way gives. enough: whether a way explains it wholly; None where nothing says how good it should be, and
    then two mistakes are tried even if one alone helps. more: name -> a mistake made after the net, and what it makes of
    the right way's figures.

    outcome: "named" (names: one, or those that cannot be told apart here), "partly" (the same, and something is left
    unexplained), "as it should be" (the contract's way needs no explanation), "none". tried: rows {name, share, gained,
    lost, p, better}, of pairs only those that went through all photos. Raises DataError.
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
        # Something small may be left, beside that one.
        left = scores[best].are_distances or not scores[best].right.all()
        pairs = [pair for pair in pairs if left and best in pair.parts]
    pairs_tried = 0
    if not fine and pairs:
        pairs_tried = len(pairs)
        found = _screened(file, session, paths, pairs, judge, progress, classes=classes)
        # Two mistakes are named only where they do better than the best single one.
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
    outcome = "named" if whole else "partly" if best is not None else "as it should be" if fine else "none"
    return {
        "outcome": outcome,
        "names": names,
        "mends": [mistakes[name].mend for name in names],
        "ways": [mistakes[name].way for name in names],
        "n": len(paths),
        "right": _share(right),
        "best": None if best is None else _share(scores[best]),
        "tried": tried,
        "same_here": same_here,
        "singles_tried": len(scores) if not pairs_tried else len(singles) + len(after),
        "pairs_tried": pairs_tried,
    }


def _share(scores: Scores) -> dict[str, Any]:
    """Of photos answered as wanted, with its interval."""
    hits, n = int(scores.right.sum()), len(scores.right)
    return {"share": hits / n, "interval": list(share_interval(hits, n))}


def _rows(base: Scores, scores: Mapping[str, Scores], *, times: int = 0) -> list[dict[str, Any]]:
    """A row a way; better: significantly, for so many ways tried (`times`; else as many as there are)."""
    rows = []
    for name, found in scores.items():
        gained, lost, p = against(base, found)
        row = {"name": name, **_share(found), "gained": gained, "lost": lost, "p": p}
        better = gained > lost and p * (times or len(scores)) < ALPHA and _worth_it(base, found)
        rows.append({**row, "better": better})
    return rows


def _worth_it(base: Scores, found: Scores) -> bool:
    """Whether distances shrink to half on the average (the median of an int8 output is a step or two). Another JPEG decoder moves all of them a little, and a way that happens to move them
    back a little would be nearer on most photos."""
    return not base.are_distances or bool(found.score.mean() >= 0.5 * base.score.mean())


def _best(rows: Sequence[Mapping[str, Any]], scores: Mapping[str, Scores]) -> str | None:
    """Of the ways that are better, the one with the most answers as wanted; among equals, the best scores."""
    names = [row["name"] for row in rows if row["better"]]
    return max(names, key=lambda name: (float(scores[name].score.mean()), scores[name].right.mean()), default=None)


def _alike(best: str, scores: Mapping[str, Scores], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The best, then what is better too and not told apart from it: no p below 0.05 between them."""
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
    """All pairs on a few photos, the best of them on all. Those are chosen by photos that decide again: the p's count for all
    pairs, so the choice costs no honesty."""
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
    """Against the photos' labels, int [n]: right is right."""

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
