"""The backends that a command is told to use: whether there are such, and whether they are here."""

from __future__ import annotations

from collections.abc import Sequence

from edgetl.core.errors import MissingError, UsageError
from edgetl.core.words import printable
from edgetl.runtimes import unavailable
from edgetl.runtimes.catalogue import runnable


def check_backends(names: Sequence[str]) -> None:
    """Raises UsageError for names that no backend has, all of them in one message."""
    unknown = [name for name in names if name not in runnable()]
    if unknown:
        raise UsageError(
            f"There is no backend {', '.join(map(printable, unknown))}.",
            why=f"the backends are {', '.join(runnable())}",
            fix="`edgetl doctor` shows which of them are ready here",
        )


def ready_backends(asked: Sequence[str], *, allow_fallback: bool) -> tuple[list[str], dict[str, str]]:
    """(the backends to use, backend -> why it is not here). asked: by name; all that are here if none is named.

    Raises UsageError for a name that there is not, MissingError for one that was asked for and is not here.
    """
    check_backends(asked)
    absent = {name: reason for name in asked or runnable() if (reason := unavailable(name))}
    if asked and absent and not allow_fallback:
        raise MissingError(
            "; ".join(f"{name} is not here: {reason}" for name, reason in absent.items()),
            fix="`edgetl doctor` lists what is ready; --allow-fallback measures elsewhere, as a marked row",
        )
    return list(asked) or [name for name in runnable() if name not in absent], absent
