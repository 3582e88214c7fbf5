"""Options that say where a measurement runs are parsed, or refused with a message."""

from __future__ import annotations

import pytest

from edgetl.commands.bench.run import parse_pin
from edgetl.core.errors import UsageError


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("auto", "auto"),
        ("3", [3]),
        ("2,0", [0, 2]),
        ("0-3", [0, 1, 2, 3]),
        ("0,4-6", [0, 4, 5, 6]),
        ("0-7:3", [0, 3, 6]),
        ("5-5", [5]),
        (" 0, 2", [0, 2]),
        # A phone gets their bit mask, as a sum: a processor that is counted twice would select another one.
        ("1,0-1,1", [0, 1]),
        ("8191", [8191]),
    ],
)
def test_pin_has_the_syntax_of_taskset(text, cores):
    assert parse_pin(text) == cores


@pytest.mark.parametrize(
    "text",
    ["", ",", "0,", "0-", "-1", "3-1", "0-3:0", "0:2", "0-1-2", "a", "0x3", "1.0", "Auto", "²", "8192", "0-99999999", "9" * 5000],
)  # fmt: skip
def test_a_text_that_is_not_a_list_of_processors_is_refused(text):
    with pytest.raises(UsageError, match=r"(?s)is not a list of processors.*taskset -c"):
        parse_pin(text)
