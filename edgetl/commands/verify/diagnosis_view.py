"""A diagnosis in plain words: what was found, the evidence for it, the fix. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from edgetl.core.words import percent

if TYPE_CHECKING:
    from edgetl.commands.verify.result import Diagnosis, Share

_WRONG = "bold red"


def print_diagnosis(console: Console, found: Diagnosis) -> None:
    """One diagnosis of a verification."""
    subject = f"{found['file'].removeprefix('models/')}@{found['backend']}"
    console.print(
        Text(f"\nWhy: {subject if found['of'] == 'accuracy' else f'the app, compared with {subject}'}", style="bold")
    )
    for text, style in _accuracy_lines(found) if found["of"] == "accuracy" else _answers_lines(found):
        console.print(Text(text, style=style))


def _accuracy_lines(found: Diagnosis) -> Iterator[tuple[str, str]]:
    n, names, expected = found["n"], found["names"], found["expected"]
    now = _share(found["right"])
    should = f"; {percent(expected['top1'])} % measured by {expected['by']}" if expected else ""
    made_with = found["golden_made_with"]
    changed = found["outcome"] == "contract changed"
    if names:
        yield (
            f"With {' or '.join(names)}, it is right on {_share(found['best'])} of {n} photos; with the contract's preprocessing on {now}{should}.",
            _WRONG,
        )
        yield from _tie(names)
        if found["outcome"] == "partly":
            yield "This explains only a part of it; there is another cause.", "yellow"
        yield f"contract says: {found['contract']}", ""
        for wanted in found["wanted"]:
            yield f"file expects:  {wanted}", ""
    elif changed or found["outcome"] == "as it should be":
        yield (
            f"With the contract's preprocessing it is right on {now} of {n} photos{should}; none of the {found['singles_tried']} usual mistakes does better.",
            "" if changed else "green",
        )
    else:
        yield (
            f"None of the {_count(found)} explains it: with the contract's preprocessing it is right on {now} of {n} photos{should}, and no mistake does significantly better.",
            "yellow",
        )
    if changed:
        yield (
            f"contract.json was changed after the build: golden/ was made with {made_with}, and contract.json says {found['contract']}.",
            _WRONG,
        )
    elif made_with is not None and names and found.get("replays_golden"):
        yield (
            "The file gives the answers that the build recorded in golden/: neither it nor contract.json was changed.",
            "",
        )
    elif made_with is not None and names:
        yield "golden/ was made as contract.json says: so the model file was replaced, not the contract.", ""
    yield from _same(found)
    yield from _accuracy_fix(found)


def _accuracy_fix(found: Diagnosis) -> Iterator[tuple[str, str]]:
    names, made_with = found["names"], found["golden_made_with"]
    if found["outcome"] == "contract changed":
        yield "fix: take contract.json from the bundle as it was built.", "bold"
    elif names and made_with is not None and found.get("replays_golden"):
        yield "fix: check how these photos were prepared, and whether they show what their labels say.", "bold"
    elif names and made_with is not None:
        yield (
            "fix: take the file from the bundle as it was built; this one was made for another preprocessing.",
            "bold",
        )
    elif names:
        yield (
            "fix: prepare photos as the file expects them, or use a file that was made for your preprocessing.",
            "bold",
        )
    elif found["outcome"] == "none" and found["expected"]:
        yield (
            "fix: check the photos (harder than those of the build? other labels?) and the file (was it replaced?).",
            "bold",
        )


def _answers_lines(found: Diagnosis) -> Iterator[tuple[str, str]]:
    n, names = found["n"], found["names"]
    now = _share(found["right"])
    if found["strangers"]:
        yield f"{found['strangers']} lines of the CSV name no photo of --data and are ignored.", "yellow"
    if names:
        yield (
            f"{' or '.join(names)}: with this mistake the file gives {_share(found['best'])} of the app's {n} labels, without it {now}.",
            _WRONG,
        )
        yield from _tie(names)
        if found["outcome"] == "partly":
            yield "This explains only a part of it; there is another cause.", "yellow"
        for fix in dict.fromkeys(found["mends"]):
            yield f"fix, in the app: {fix}.", "bold"
    elif found["outcome"] == "as it should be":
        if found["right"]["share"] == 1:
            yield f"The app gives the same label as the file on all {n} photos: no mistake found.", "green"
        else:
            yield f"The file gives {now} of the app's {n} labels: no usual mistake explains the rest better.", "green"
    else:
        yield (
            f"None of the {_count(found)} explains it: the file gives {now} of the app's {n} labels, and with no mistake significantly more.",
            "yellow",
        )
        yield "fix: compare the app's input tensor with the one in golden/, number by number, for one photo.", "bold"
    yield from _same(found)
    if not found["has_probabilities"] and found["right"]["share"] < 1 and not names:
        yield "Labels alone hide small mistakes. Give probabilities, one column per class, to find them.", ""


def _share(found: Share | None) -> str:
    assert found is not None
    low, high = found["interval"]
    return f"{percent(found['share'])} % ({percent(low)} to {percent(high)})"


def _tie(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    if len(names) > 1:
        yield f"These photos cannot distinguish between {', '.join(names)}.", "yellow"


def _count(found: Diagnosis) -> str:
    pairs = f" and {found['pairs_tried']} pairs of them" if found["pairs_tried"] else ""
    return f"{found['singles_tried']} usual mistakes{pairs}"


def _same(found: Diagnosis) -> Iterator[tuple[str, str]]:
    if found["same_here"]:
        yield (
            f"Not tested, because these mistakes do not change any of these photos: {', '.join(found['same_here'])}.",
            "dim",
        )
