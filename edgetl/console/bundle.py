"""How a file compares with the bundle that it is in, in words."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

BAD = "bold yellow"
# How a file compares with its bundle's report (bundle.files.as_built) -> the words for it, their style.
AS_BUILT = {
    "unchanged": ("as built: its sha256 matches the report", ""),
    "changed": ("CHANGED after the build: its sha256 differs from the report", "bold red"),
    "not in the report": ("not in the report: this build did not make it", BAD),
    "no report": ("the folder has no report.json to compare with", ""),
    "unread": ("", ""),
}


def print_missing(console: Console, missing: Iterable[str]) -> None:
    """One line per file that is in the bundle's report and missing in its folder."""
    for name in missing:
        console.print(Text(f"{name} is in the report but not in the folder.", style="bold red"))
