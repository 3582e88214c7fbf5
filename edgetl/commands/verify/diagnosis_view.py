"""What explains a fault, in plain words: what was found, what speaks for it, the mend. No decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from edgetl.core.words import percent

_WRONG = "bold red"


def print_diagnosis(console: Console, found: Mapping[str, Any]) -> None:
    """found: a row of a verification's `diagnoses`."""
    subject = f"{found['file'].removeprefix('models/')}@{found['backend']}"
    console.print(
        Text(f"\nWhy: {subject if found['of'] == 'accuracy' else f'the app against {subject}'}", style="bold")
    )
    for text, style in _accuracy_lines(found) if found["of"] == "accuracy" else _answers_lines(found):
        console.print(Text(text, style=style))


def _accuracy_lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    n, names, expected = found["n"], found["names"], found["expected"]
    now = _share(found["right"])
    should = f"; {percent(expected['top1'])} % by {expected['by']}" if expected else ""
    made_with = found["golden_made_with"]
    changed = found["outcome"] == "contract changed"
    if names:
        yield (
            f"{' or '.join(names)}: prepared so, it is right on {_share(found['best'])} of {n} photos, as told {now}{should}.",
            _WRONG,
        )
        yield from _tie(names)
        if found["outcome"] == "partly":
            yield "That explains a part of it: something else is wrong as well.", "yellow"
        yield f"told:  {found['contract']}", ""
        for wanted in found["wanted"]:
            yield f"takes: {wanted}", ""
    elif changed or found["outcome"] == "as it should be":
        yield (
            f"Prepared as told it is right on {now} of {n} photos{should}; none of the {found['singles_tried']} usual wrong ways does better.",
            "" if changed else "green",
        )
    else:
        yield (
            f"None of the {_count(found)} explains it: prepared as told it is right on {now} of {n} photos{should}, and no way does significantly better.",
            "yellow",
        )
    if changed:
        yield (
            f"contract.json is not the build's: golden/ was made with {made_with}; it says {found['contract']}.",
            _WRONG,
        )
    elif made_with is not None and names:
        yield "golden/ was made as contract.json says: so it is the file that was exchanged, not the contract.", ""
    yield from _same(found)
    yield from _accuracy_mend(found)


def _accuracy_mend(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    names, made_with = found["names"], found["golden_made_with"]
    if found["outcome"] == "contract changed":
        yield "mend: take contract.json from the bundle as it was built.", "bold"
    elif names and made_with is not None:
        yield (
            "mend: take the file from the bundle as it was built; this one was made for another preprocessing.",
            "bold",
        )
    elif names:
        yield "mend: prepare photos as the file takes them, or take a file made for what you prepare.", "bold"
    elif found["outcome"] == "none" and found["expected"]:
        yield (
            "mend: look at the photos (harder than those of the build? other labels?) and at the file (was it exchanged?).",
            "bold",
        )


def _answers_lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    n, names = found["n"], found["names"]
    now = _share(found["right"])
    if found["strangers"]:
        yield f"{found['strangers']} of its lines name no photo of --data and are left out.", "yellow"
    if names:
        yield (
            f"{' or '.join(names)}: with this mistake the file gives {_share(found['best'])} of the app's {n} labels, without it {now}.",
            _WRONG,
        )
        yield from _tie(names)
        if found["outcome"] == "partly":
            yield "That explains a part of it: something else is wrong as well.", "yellow"
        for mend in dict.fromkeys(found["mends"]):
            yield f"mend, in the app: {mend}.", "bold"
    elif found["outcome"] == "as it should be":
        if found["right"]["share"] == 1:
            yield f"The app gives the file's label on all {n} photos: no mistake is seen.", "green"
        else:
            yield f"The file gives {now} of the app's {n} labels: no usual mistake explains the rest better.", "green"
    else:
        yield (
            f"None of the {_count(found)} explains it: the file gives {now} of the app's {n} labels, and with no mistake significantly more.",
            "yellow",
        )
        yield "mend: compare the app's input tensor with golden/'s, number by number, for one photo.", "bold"
    yield from _same(found)
    if not found["has_probabilities"] and found["right"]["share"] < 1 and not names:
        yield "Labels say little. With probabilities, a column for each class, smaller mistakes show.", ""


def _share(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return f"{percent(found['share'])} % ({percent(low)} to {percent(high)})"


def _tie(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    if len(names) > 1:
        yield f"These cannot be told apart on these photos: {', '.join(names)}.", "yellow"


def _count(found: Mapping[str, Any]) -> str:
    pairs = f" and {found['pairs_tried']} pairs of them" if found["pairs_tried"] else ""
    return f"{found['singles_tried']} usual ones{pairs}"


def _same(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if found["same_here"]:
        yield f"Not to be seen on these photos, which it does not change: {', '.join(found['same_here'])}.", "dim"
