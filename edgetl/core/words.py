"""Words and figures for the terminal. core/figures.py has the forms for a page, and says why there are two."""

from __future__ import annotations

import unicodedata


def human_bytes(count: float) -> str:
    """Decimal units, three digits.

    >>> human_bytes(608480), human_bytes(14_200_000), human_bytes(12)
    ('608 kB', '14.2 MB', '12 B')
    """
    return _scaled(count, (" B", " kB", " MB", " GB"))


def human_count(count: float) -> str:
    """Three digits.

    >>> human_count(2309184), human_count(64), human_count(8.4e9)
    ('2.31 M', '64', '8.4 G')
    """
    return _scaled(count, ("", " k", " M", " G"))


def _scaled(count: float, units: tuple[str, ...]) -> str:
    """Three digits, in the first unit that needs no more of them, or in the last."""
    *smaller, last = units
    for unit in smaller:
        if count < 999.5:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g}{last}"


def percent(value: float) -> str:
    """A share in percent, one digit after the point, without the sign: tables have it in their heading.

    >>> percent(0.9156)
    '91.6'
    """
    return f"{100 * value:.1f}"


# A name may be long (converters chain the names of merged ops); a hostile one may have a megabyte.
NAME_CHARACTERS = 200


def printable(text: str | bytes, limit: int = NAME_CHARACTERS) -> str:
    r"""Text from a file, safe to print: characters that do not print (escape sequences, direction marks) are escaped.

    >>> printable("conv" + chr(27) + "[2J")
    'conv\\x1b[2J'
    """
    if isinstance(text, bytes):
        text = text[: 4 * limit].decode("utf-8", "replace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def of_threads(count: int) -> str:
    """A number of threads with its noun.

    >>> of_threads(1), of_threads(4)
    ('1 thread', '4 threads')
    """
    return f"{count} thread{'' if count == 1 else 's'}"


def composed(label: str) -> str:
    """A class's name in one Unicode form (NFC), whichever form of accents the file system has."""
    return unicodedata.normalize("NFC", label)
