"""Names and intervals as the report writes them. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgetl.core.figures import NBSP, number, percent
from edgetl.verdicts.words import metric


def plain(name: str) -> str:
    """A file's name without its folder in the bundle."""
    return name.replace("models/", "")


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of nested tables: (dotted key, value as JSON)."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False)


def span(values: Sequence[float], write: Callable[[float], str]) -> str:
    """The smallest and the largest value as one text, with the unit once.

    >>> from edgetl.core.figures import ms
    >>> span([7.0, 6.84], ms), span([0.9, 0.9], percent)
    ('6.84 to 7.00\\xa0ms', '90.0\\xa0%')
    """
    low, high = write(min(values)), write(max(values))
    if low == high:
        return low
    unit = NBSP + high.rpartition(NBSP)[2]
    return f"{low.removesuffix(unit)} to {high}"


def interval_pp(interval: Sequence[float]) -> str:
    """Both ends of an interval in percentage points, also where they are equal.

    >>> interval_pp([-0.5, 1.25]), interval_pp([0.0, 0.0])
    ('−0.50 to 1.25\\xa0pp', '0.00 to 0.00\\xa0pp')
    """
    return f"{number(interval[0], 2)} to {number(interval[1], 2)}{NBSP}pp"


def span_of(interval: Sequence[float], metric_name: str = "") -> str:
    """An interval of a check's metric; of a share where no metric is given."""
    return span(interval, metric(metric_name).page if metric_name else percent)
