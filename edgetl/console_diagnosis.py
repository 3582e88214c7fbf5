"""What explains a fault, in plain words: what was found, what speaks for it, the mend. No decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from edgetl.console import percent

_WRONG, _RIGHT = "bold red", "green"


def print_diagnosis(console: Console, found: Mapping[str, Any]) -> None:
    """found: a row of a verification's `diagnoses`."""
    subject = f"{found['file'].removeprefix('models/')}@{found['backend']}"
    console.print(
        Text(f"\nWhy: {subject if found['of'] == 'accuracy' else f'the app against {subject}'}", style="bold")
    )
    for text, style in _accuracy_lines(found) if found["of"] == "accuracy" else _answers_lines(found):
        console.print(Text(text, style=style))


def _accuracy_lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    n, names = found["n"], found["names"]
    now = _share(found["right"])
    expected = found["expected"]
    should = f"; {percent(expected['top1'])} % by {expected['by']}" if expected else ""
    if names:
        yield (
            f"{_quoted(names)}: prepared so, it is right on {_share(found['best'])} of {n} photos, as told {now}{should}.",
            _WRONG,
        )
        yield from _tie(names)
        if found["outcome"] == "partly":
            yield "That explains a part of it: something else is wrong as well.", "yellow"
        yield f"as told:   {found['contract']}", ""
        for name, wanted in zip(names, found["wanted"], strict=True):
            yield f"it takes:  {wanted}{_more(name, wanted)}", ""
        yield from _golden_lines(found)
        yield (
            "mend: the file was made for another preprocessing than it comes with. Take file and contract.json from one build, or prepare photos as it takes them.",
            "bold",
        )
    elif found["outcome"] == "as it should be":
        yield (
            f"Prepared as told it is right on {now} of {n} photos{should}; none of the {found['singles_tried']} usual wrong ways does better.",
            _RIGHT,
        )
        yield from _golden_lines(found)
    else:
        yield (
            f"None of the {_count(found)} explains it: prepared as told it is right on {now} of {n} photos{should}, and no way does significantly better.",
            "yellow",
        )
        yield from _golden_lines(found)
        if expected:
            yield (
                "mend: look at the photos themselves (harder than those it was built on? other labels?) and at the file (was it exchanged?).",
                "bold",
            )
    yield from _same(found)


def _answers_lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    n, names = found["n"], found["names"]
    now = _share(found["right"])
    if found["strangers"]:
        yield f"{found['strangers']} of its lines name no photo of --data and are left out.", "yellow"
    if names:
        yield (
            f"{_quoted(names)}: with this mistake the file gives {_share(found['best'])} of the app's {n} labels, without it {now}.",
            _WRONG,
        )
        yield from _tie(names)
        if found["outcome"] == "partly":
            yield "That explains a part of it: something else is wrong as well.", "yellow"
        for mend in dict.fromkeys(found["mends"]):
            yield f"mend, in the app: {mend}.", "bold"
    elif found["outcome"] == "as it should be":
        yield f"The file gives {now} of the app's {n} labels: no usual mistake explains the rest better.", _RIGHT
    else:
        yield (
            f"None of the {_count(found)} explains it: the file gives {now} of the app's {n} labels, and with no mistake significantly more.",
            "yellow",
        )
        yield "mend: compare the app's input tensor with golden/'s, number by number, for one photo.", "bold"
    yield from _same(found)


def _quoted(names: Sequence[str]) -> str:
    return " or ".join(names)


def _share(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return f"{percent(found['share'])} % ({percent(low)} to {percent(high)})"


def _tie(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    if len(names) > 1:
        yield f"These cannot be told apart on these photos: {', '.join(names)}.", "yellow"


def _more(name: str, wanted: str) -> str:
    """What a contract's line does not say of a way."""
    return "" if name in wanted else f"  [{name}]"


def _golden_lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    made = [name for name, same in zip(found["names"], found["made_golden"], strict=False) if same]
    if made:
        yield f"golden/ agrees: its tensors were made so ({', '.join(made)}).", ""
    if found["golden_numbers"] is not None and found["golden_numbers"] != found["contract"]:
        yield f"golden/ was made with {found['golden_numbers']}; contract.json says {found['contract']}.", _WRONG


def _count(found: Mapping[str, Any]) -> str:
    pairs = f" and {found['pairs_tried']} pairs of them" if found["pairs_tried"] else ""
    return f"{found['singles_tried']} usual ones{pairs}"


def _same(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if found["same_here"]:
        yield f"Not to be seen on these photos, which it does not change: {', '.join(found['same_here'])}.", "dim"
