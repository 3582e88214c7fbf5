"""Figures as text on a page (HTML, report.json's sentences): a unit never breaks from its number, and a minus is a minus.

core/words.py has the terminal's forms, which are not the same text: a plain space, and for GB three digits instead of one
digit after the point. A page needs the no-break space; a terminal's tables need what can be copied and searched.
"""

from __future__ import annotations

from edgetl.core.words import human_bytes

NBSP = "\u00a0"


def number(value: float, digits: int) -> str:
    """A fixed number of digits, with the minus sign U+2212, and none before a zero.

    >>> number(-0.04, 1), number(-1.25, 1), number(1234567, 0)
    ('0.0', '−1.2', '1,234,567')
    """
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "−")


def percent(share: float, digits: int = 1) -> str:
    """A share in percent, with its sign.

    >>> percent(0.9125)
    '91.2\\xa0%'
    """
    return f"{number(100 * share, digits)}{NBSP}%"


def ms(value: float) -> str:
    """Milliseconds with about three digits.

    >>> ms(0.57834), ms(6.9845), ms(1250.4)
    ('0.578\\xa0ms', '6.98\\xa0ms', '1,250\\xa0ms')
    """
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{number(value, digits)}{NBSP}ms"


def size(n_bytes: float) -> str:
    """Bytes with a metric prefix.

    >>> size(608_568), size(25_276_502_016)
    ('609\\xa0kB', '25.3\\xa0GB')
    """
    text = f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 999.5e6 else human_bytes(n_bytes)
    return text.replace(" ", NBSP)


def count(value: float) -> str:
    """Three digits with a metric prefix.

    >>> count(29_601_200), count(395_493), count(300)
    ('29.6\\xa0M', '395\\xa0k', '300')
    """
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            scaled = value / scale
            return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}{NBSP}{unit}"
    return f"{value:g}"


def duration(seconds: float) -> str:
    """At most two units.

    >>> duration(4.26), duration(119.7), duration(4000)
    ('4.3\\xa0s', '2\\xa0min 0\\xa0s', '1\\xa0h 7\\xa0min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f}{NBSP}s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes}{NBSP}min {rest}{NBSP}s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}{NBSP}h {minutes}{NBSP}min"


def decibels(value: float) -> str:
    """A ratio in decibels.

    >>> decibels(21.34)
    '21.3\\xa0dB'
    """
    return f"{number(value, 1)}{NBSP}dB"


def probability(p: float) -> str:
    """The p-value of a test: two or three digits after the point, or "below 0.001".

    >>> probability(0.625), probability(2e-7)
    ('0.62', '<\\xa00.001')
    """
    return f"<{NBSP}0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def small(value: float) -> str:
    """A difference of probabilities: four digits after the point, or two significant digits if it is below 0.001.

    >>> small(0.0123), small(2.5e-7), small(0.0)
    ('0.0123', '2.5e−7', '0')
    """
    return f"{value:.4f}" if value >= 1e-3 else f"{value:.1e}".replace("e-0", "e-").replace("-", "−") if value else "0"
