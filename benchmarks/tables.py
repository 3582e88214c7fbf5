"""A table on the screen, and a CSV table that several runs fill."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns as wide as their widest cell."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def put_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write rows into a CSV file in place of the rows with the same first cell; other rows stay.

    Raises ValueError if the file has other columns: it is of another version, and mixing them would mislabel figures.
    """
    kept: list[list[str]] = []
    if path.is_file():
        with path.open(newline="") as stream:
            first, *kept = list(csv.reader(stream)) or [list(header)]
        if first != list(header):
            raise ValueError(f"{path} has other columns than this program writes: move it elsewhere")
    names = {str(row[0]) for row in rows}
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *(row for row in kept if row[0] not in names), *rows])
