from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

Row = Mapping[str, Any]
BAD = "bold yellow"
# inspection.as_built -> what is said of it, in which style.
AS_BUILT = {
    "unchanged": ("as built: its sha256 is the report's", ""),
    "changed": ("CHANGED after the build: its sha256 is not the report's", "bold red"),
    "not in the report": ("not in the report: it was not built with this bundle", BAD),
    "no report": ("the folder has no report.json to compare with", ""),
    "unread": ("", ""),
}


def print_missing(console: Console, found: Row) -> None:
    """A line a file that the bundle's report is about and that is not there. found: with inspection's "bundle"."""
    for name in (found["bundle"] or {}).get("missing", ()):
        console.print(Text(f"{name} is in the report and not in the folder.", style="bold red"))
