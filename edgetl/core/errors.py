"""Expected failures and the exit codes that scripts read.

| code | meaning |
|---|---|
| 0 | built, and no check failed |
| 1 | a bug: the traceback is shown |
| 2 | wrong usage, recipe or target |
| 3 | a dependency, weight file or backend is missing |
| 4 | bad data, or a model file that a runtime refuses or that crashes it |
| 5 | training or conversion failed |
| 6 | an accuracy or parity check failed |
| 7 | a latency or size check failed |
| 8 | with --strict: a check is inconclusive or unmeasured |
| 130 | interrupted; the next run resumes |
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_MISSING = 3
EXIT_DATA = 4
EXIT_TRAINING = 5
EXIT_ACCURACY = 6
EXIT_LATENCY_OR_SIZE = 7
EXIT_NOT_PROVEN = 8
EXIT_INTERRUPTED = 130


class EdgetlError(Exception):
    """An expected failure: shown without a traceback, with its own exit code."""

    exit_code = EXIT_USAGE

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class UsageError(EdgetlError):
    """A wrong option, recipe or target."""

    exit_code = EXIT_USAGE


class MissingError(EdgetlError):
    """A missing package, weight file or runtime."""

    exit_code = EXIT_MISSING


class DataError(EdgetlError):
    """Photos, labels or model files that cannot be used as they are."""

    exit_code = EXIT_DATA


class TrainingError(EdgetlError):
    """Training diverged or a conversion failed."""

    exit_code = EXIT_TRAINING


class CollapseError(EdgetlError):
    """A quantized net that lost more accuracy than the budget allows, or that predicts only one class."""

    exit_code = EXIT_ACCURACY


class DiskFullError(TrainingError):
    """A stage ran out of disk space; finished work is kept."""
