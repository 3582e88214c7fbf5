"""The backends that a command line names: do they exist, and are they installed?"""

from __future__ import annotations

from collections.abc import Sequence

from edgetl.core.errors import MissingError, UsageError
from edgetl.core.words import printable
from edgetl.runtimes import unavailable
from edgetl.runtimes.catalogue import runnable


def check_backends(names: Sequence[str]) -> None:
    """Raises UsageError that lists every name that is not a backend."""
    unknown = [name for name in names if name not in runnable()]
    if unknown:
        raise UsageError(
            f"There is no backend {', '.join(map(printable, unknown))}.",
            why=f"the backends are {', '.join(runnable())}",
            fix="`edgetl doctor` shows which of them are ready here",
        )


def ready_backends(requested: Sequence[str], *, allow_fallback: bool) -> tuple[list[str], dict[str, str]]:
    """(the backends to use, backend -> why it is not available).

    requested: names of backends; empty for all that are available. Raises UsageError for a name that is not a backend,
    MissingError for a requested backend that is not available.
    """
    check_backends(requested)
    absent = {name: reason for name in requested or runnable() if (reason := unavailable(name))}
    if requested and absent and not allow_fallback:
        raise MissingError(
            "; ".join(f"{name} is not available: {reason}" for name, reason in absent.items()),
            fix="`edgetl doctor` lists what is ready; --allow-fallback measures on another device, as a marked row",
        )
    return list(requested) or [name for name in runnable() if name not in absent], absent
