"""One plain word for one thing: habits that were dropped stay out of every text that a person reads.

`make lint` runs it (python -m tests.test_words); it prints file:line, the text found and the plain wording.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.texts import Text, parts, python_texts, texts

# Nouns that stand in "a row a file": "one row per file". Not seconds and minutes: "runs a second" is plain English.
_NOUNS = (
    "answer|architecture|artifact|attempt|backend|board|bound|branch|build|bundle|cell|channel|check|chip|class|column|core|"
    "data set|device|entry|error|fault|file|folder|format|grid|group|image|kernel|key|layer|library|line|list|member|model|"
    "module|net|node|op|option|order|output|package|page|pair|part|photo|picture|precision|process|program|provider|question|"
    "range|repeat|round|route|row|run|runtime|scale|session|source|split|stage|step|table|target|task|tensor|thread|verb|"
    "version|visit|word"
)
_THING = "file|folder|image|list|model|name|net|number|option|photo|picture|place|target|tensor|token|zip file|failure|bundle"
# Habit -> what to write. A space stands for any white space; case is ignored.
HABITS: dict[str, str] = {
    rf"\b(?:an?|one) (?:{_NOUNS}) (?-i:an?|each) (?:(?:input|output|true|execution) )?(?:{_NOUNS})\b(?!-)": "one X per Y",
    r"(?<!`)\bmend(?:s|ed|ing)?\b": "fix",
    r"\breckon(?:s|ed|ing)?\b": "compute, estimate",
    r"\bby (?:itself|themselves)\b": "by default, or: on its own",
    r"\bof (?:itself|themselves)\b": "on its own",
    r"\bwhich decides nothing\b": "for information only",
    rf"(?<!there\s)\b(?:is|are) no (?:{_THING})s?\b(?! of\b)": "is not a ...",
    r"\bheld (?:itself |themselves )?(?:to|against)\b": "checked against, compared with",
    r"\bbut for\b": "except for",
    r"\btold:(?= |$)": "contract says:, reported:",
    r"\bas (?:told|asked|wanted)\b": "as reported, as requested, as expected",
    r"\b(?:is|are|was|were) (?:told|said)\b(?! to\b)": "is reported, is shown",
    r"\bnot to be (?:seen|had|found|counted|told)\b": "cannot be ...",
    r"\bthat (?:is|are) lacking\b": "missing",
    r"\b(?:is|are|was) lacking\b": "is missing",
    r"\blies? (?:at|there|flat|in)\b": "is in, is",
    r"[.,;] else(?: (?!if\b)|$)": "otherwise",
    r"\ball the same\b": "anyway",
    r"\b(?:is|are) there[.;,] (?:else|and) ": "are installed, exist",
    r"\bis it so\b": "if so",
    r"\bof one's own\b": "your own",
}
# Keys of JSON formats that users read: they keep their names.
_KEYS = ("mends",)
_FOUND = {
    re.compile(habit.replace(" ", r"\s+"), re.IGNORECASE | re.MULTILINE): plain for habit, plain in HABITS.items()
}


def habits_in(text: Text) -> Iterator[str]:
    """file:line: the text found -> the plain wording. A key of a JSON format (`mends`) keeps its name."""
    if text.text in _KEYS:
        return
    for pattern, plain in _FOUND.items():
        for match in pattern.finditer(text.text):
            yield f'{text.place(match.start())}: "{" ".join(match[0].split())}" -> {plain}'


@pytest.mark.parametrize("part", parts())
def test_texts_are_in_plain_words(part: str) -> None:
    found = list(dict.fromkeys(line for text in texts(part) for line in habits_in(text)))
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "but for one file",
        "one row a file",
        "a scale an output channel",
        "a process a row",
        "its permissions are mended",
        "reckoned at 1.5 GHz",
        "the target's budget by itself",
        "--on 'x' is no place",
        "held against its own digests",
        "told: RGB",
        "as told",
        "by itself,\nthat is",
        "the environment, else the cache",
    ],
)
def test_a_habit_is_found(text: str) -> None:
    assert list(habits_in(Text(Path("x.py"), 1, text, "string")))


@pytest.mark.parametrize(
    "text",
    [
        "one row per file",
        "there is no file x",
        "it is no longer than a line",
        "multiply-accumulates a second",
        "gives a file another name",
        "recommended, amended",
        "the fix: run it",
    ],
)
def test_plain_words_are_left_alone(text: str) -> None:
    assert not list(habits_in(Text(Path("x.py"), 1, text, "string")))


def test_a_habit_in_code_is_found_with_its_line() -> None:
    source = (
        'def f(x):\n    """Fine."""\n    # Each is\n    # mended.\n    return f"{x}\\nis no picture {x} by itself"\n'
    )
    found = [line for text in python_texts(Path("x.py"), source) for line in habits_in(text)]
    assert {(line.split(":")[1], line.split('"')[1]) for line in found} == {
        ("6", "is no picture"), ("6", "by itself"), ("4", "mended"),
    }  # fmt: skip


def main() -> int:
    """Print every habit; exit status 1 if there is one."""
    found = list(dict.fromkeys(line for part in parts() for text in texts(part) for line in habits_in(text)))
    print("\n".join(found) or "plain words: no dropped habit found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
