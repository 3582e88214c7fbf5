"""What `edgetl verify` shows: a row a file and runtime, the int8 files against each other, the checks. No decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgetl.console import percent, print_checks

_INTEGER = ("int8", "int16x8", "int8-float32")


def print_verification(console: Console, found: Mapping[str, Any]) -> None:
    """found: as verification.verify_bundle gives it."""
    data = found["data"]
    if data["trained_on"]:
        console.print(
            Text(
                "These are the photos the bundle was built from, and most of them trained it: accuracy here is flattered, and drops may be smaller than on new photos.",
                style="bold yellow",
            )
        )
    if data["left_out"]:
        console.print(Text(f"{len(data['left_out'])} photos left out (--json names them).", style="yellow"))
    console.print(versions_table(found))
    across = across_table(found)
    if across.row_count:
        console.print(across)
    print_checks(console, found)


def _table(title: str, caption: str, columns: tuple[str, ...]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        title=Text(title, style="italic"),
        caption=caption,
        title_justify="left",
        caption_justify="left",
    )
    for name in columns:
        table.add_column(
            name, justify="left" if name in ("student file", "runtime", "files") else "right", no_wrap=True
        )
    return table


def _of(name: str) -> tuple[str, str]:
    """File and runtime of a version.

    >>> _of("models/student.int8.tflite@litert-cpu")
    ('int8.tflite', 'litert-cpu')
    """
    file, runtime = name.removeprefix("models/").split("@")
    return file.removeprefix("student."), runtime


def versions_table(found: Mapping[str, Any]) -> Table:
    """One row a file and runtime; fits 80 columns."""
    data = found["data"]
    split = " for testing" if data["split"] == "test" else ""
    table = _table(
        f"{found['bundle']['target']}: {data['n']} photos{split}",
        "top-1, its interval and same label in %; drop: points of top-1 below the float32 file of the format, with paired interval; p: McNemar's",
        ("student file", "runtime", "top-1", "95%", "drop", "95%", "same", "p"),
    )
    ships = {file["name"] for file in found["bundle"]["files"] if file["ships"]}
    for name, row in found["versions"].items():
        file, runtime = _of(name)
        low, high = row["accuracy"]["interval"]
        pair = row["against_float"]
        told = ("-", "", "-", "-")
        if pair is not None:
            below, above = pair["top1_drop_interval_pp"]
            told = (
                f"{pair['top1_drop_pp']:.1f}",
                f"{below:.1f} to {above:.1f}",
                percent(pair["top1_agreement"]),
                f"{pair['mcnemar_p']:.2f}",
            )
        table.add_row(
            Text(file, style="bold" if f"student.{file}" in ships else ""),
            runtime,
            percent(row["accuracy"]["top1"]),
            f"{percent(low)}-{percent(high)}",
            *told,
        )
    return table


def across_table(found: Mapping[str, Any]) -> Table:
    """The integer files of two formats against each other."""
    precision_of = {file["name"]: file["precision"] for file in found["bundle"]["files"]}
    table = _table(
        "Integer files against each other",
        "differences of a photo's probabilities, in steps of the output",
        ("files", "past 2 steps", "largest", "same label"),
    )
    for pair in found["parity_matrix"]["pairs"]:
        names = [pair[side].removeprefix("models/") for side in ("a", "b")]
        if all(precision_of[name.split("@")[0]] in _INTEGER for name in names):
            table.add_row(
                f"{names[0]}\n= {names[1]}",
                f"{percent(1 - pair['within_2_steps'])} %",
                f"{pair['max_steps']:.1f} steps",
                f"{percent(pair['top1_agreement'])} %",
            )
    return table
