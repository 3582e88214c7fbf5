"""What `edgetl verify` prints: failed checks and what explains them; then one row per file and runtime, the integer files compared with each
other, the classes of the file that ships; last the undecided checks and how many passed. Decides nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgetl.commands.verify.diagnosis_view import print_diagnosis
from edgetl.console.checks import check_figures, check_line
from edgetl.core.words import percent
from edgetl.verdicts.check import CheckRow, output_step_of

if TYPE_CHECKING:
    from edgetl.commands.verify.result import Verification, VersionRow

_INTEGER = ("int8", "int16x8", "int8-float32")
# A confusion matrix of more classes does not fit 80 columns; of so many rows the worst are shown.
_MOST_COLUMNS, _MOST_ROWS = 12, 12
_WIDTH = 80


def print_verification(console: Console, found: Verification) -> None:
    """The whole result."""
    data = found["data"]
    for note in found["notes"]:
        console.print(Text(note, style="yellow"))
    if data["trained_on"]:
        console.print(
            Text(
                "The bundle was built from these photos, and most of them were used for training: the accuracy shown here is too high, and drops may be smaller than on new photos.",
                style="bold yellow",
            )
        )
    if data["left_out"]:
        console.print(Text(f"{len(data['left_out'])} photos left out (--json names them).", style="yellow"))
    failed = [check for check in found["checks"] if check["status"] == "fail"]
    if failed:
        console.print(Text(f"{len(failed)} of {len(found['checks'])} checks failed", style="bold red"))
        _print_lines(console, failed)
    for diagnosis in found["diagnoses"]:
        print_diagnosis(console, diagnosis)
    if failed or found["diagnoses"]:
        console.print()
    console.print(versions_table(found))
    across = across_table(found)
    if across.row_count:
        console.print(across)
    name = shown_version(found)
    console.print(classes_table(name, found["versions"][name]))
    rows = found["versions"][name]["confusion"]
    if len(rows) <= _MOST_COLUMNS:
        # Not as a title, which is folded to the width of its table: two classes make a narrow one.
        console.print(Text(f"Confusion: {' on '.join(_of(name))} (rows: true classes)", style="italic"))
        console.print(confusion_table(found["versions"][name]))
    else:
        console.print(confusions_table(found["versions"][name]))
    if found["checks"]:
        _print_lines(console, [check for check in found["checks"] if check["status"] not in ("pass", "fail")])
        console.print(_count(found["checks"]))


def _print_lines(console: Console, checks: Sequence[CheckRow]) -> None:
    for check in checks:
        told = "; ".join(filter(None, (check_figures(check), check["reason"])))
        console.print(check_line(check, told or "past the limit"))


def _count(checks: Sequence[CheckRow]) -> Text:
    """All checks in one line, the last that is read: passed checks are counted by metric, not listed."""
    of = Counter(check["status"] for check in checks)
    kinds = Counter(check["metric"] for check in checks if check["status"] == "pass")
    which = f" ({', '.join(f'{count} {metric}' for metric, count in kinds.items())})" if kinds else ""
    parts = [
        (f"{of['pass']} of {len(checks)} checks passed", "green" if of["pass"] == len(checks) else ""),
        (which, ""),
    ]
    parts += [(f", {of[status]} {status}", "yellow") for status in ("inconclusive", "unmeasured") if of[status]]
    parts += [(f", {of['fail']} failed, listed at the top", "bold red")] if of["fail"] else []
    return Text.assemble(*parts, "; --json has every check with its figures.")


def shown_version(found: Verification) -> str:
    """The version whose classes are shown: the first that ships, otherwise the first measured; --json has all."""
    ships = {file["name"] for file in found["files"] if file["ships"]}
    names = list(found["versions"])
    return next((name for name in names if name.rsplit("@", 1)[0] in ships), names[0])


_NAMES = ("student file", "file", "runtime", "files", "class", "photos of", "taken for")


def _table(title: str, caption: str, columns: tuple[str, ...]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        title=Text(title, style="italic"),
        caption=Text(caption),
        title_justify="left",
        caption_justify="left",
    )
    for name in columns:
        table.add_column(
            name,
            justify="left" if name in _NAMES else "right",
            # A long name continues on the next line; a figure never does.
            overflow="fold",
            no_wrap=name not in _NAMES,
        )
    return table


def _of(name: str) -> tuple[str, str]:
    """File and runtime of a version.

    >>> _of("models/student.int8.tflite@litert-cpu")
    ('int8.tflite', 'litert-cpu')
    """
    file, runtime = name.removeprefix("models/").rsplit("@", 1)
    return file.removeprefix("student."), runtime


def versions_table(found: Verification) -> Table:
    """One row per file and runtime; fits 80 columns."""
    data, bundle = found["data"], found["bundle"]
    split = " of the test split" if data["split"] == "test" else ""
    below = "the float32 file of the format" if bundle else found["reference"] or "a float file, but there is none"
    table = _table(
        f"{bundle['target'] + ': ' if bundle else ''}{data['n']} photos{split}",
        f"top-1, its interval, same label, macro-F1 and calibration error (ECE) in %; drop: points of top-1 below {below}, with paired interval",
        ("student file" if bundle else "file", "runtime", "top-1", "95%", "drop", "95%", "same", "F1", "ECE"),
    )
    ships = {file["name"] for file in found["files"] if file["ships"]}
    for name, row in found["versions"].items():
        file, runtime = _of(name)
        low, high = row["accuracy"]["interval"]
        pair = row.get("against_float")
        drop = ("-", "", "-")
        if pair is not None:
            below_pp, above_pp = pair["top1_drop_interval_pp"]
            drop = (
                f"{pair['top1_drop_pp']:.1f}",
                f"{below_pp:.1f} to {above_pp:.1f}",
                percent(pair["top1_agreement"]),
            )
        table.add_row(
            Text(file, style="bold" if name.rsplit("@", 1)[0] in ships else ""),
            runtime,
            percent(row["accuracy"]["top1"]),
            f"{percent(low)}-{percent(high)}",
            *drop,
            percent(row["by_class"]["macro"]["f1"]),
            percent(row["calibration"]["ece"]),
        )
    return table


def classes_table(name: str, row: VersionRow) -> Table:
    """Precision, recall and F1 by class; of many classes those with the smallest F1."""
    classes = row["by_class"]["classes"]
    shown = classes if len(classes) <= _MOST_ROWS else sorted(classes, key=lambda one: one["f1"])[:_MOST_ROWS]
    some = "" if len(shown) == len(classes) else f", the worst {len(shown)} of {len(classes)}"
    macro, ece = row["by_class"]["macro"], row["calibration"]
    table = _table(
        f"Classes{some}: {' on '.join(_of(name))}",
        f"macro-F1 {percent(macro['f1'])} % ({' to '.join(map(percent, macro['f1_interval']))}); ECE {percent(ece['ece'])} % ({' to '.join(map(percent, ece['interval']))}); with so few photos up to {percent(ece['bias_at_most'])} of it may be chance",
        ("class", "photos", "precision", "95%", "recall", "95%", "F1"),
    )
    for one in shown:
        precision = one["precision"]
        table.add_row(
            Text(one["name"]),
            str(one["photos"]),
            "-" if precision is None else percent(precision),
            "" if precision is None else "-".join(map(percent, one["precision_interval"])),
            "-" if one["recall"] is None else percent(one["recall"]),
            "" if one["recall"] is None else "-".join(map(percent, one["recall_interval"])),
            percent(one["f1"]),
        )
    return table


def confusion_table(row: VersionRow) -> Table:
    """Counts: one row per true class, one column per answered class, headed by as much of its name as fits."""
    names = [one["name"] for one in row["by_class"]["classes"]]
    left = min(20, max(len(label) for label in names) + 3)
    width = max(3, min(12, (_WIDTH - left) // len(names) - 1))
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    table.add_column("class", overflow="fold", max_width=left)
    for i, label in enumerate(names, 1):
        table.add_column(Text(f"{i} {label}"[:width]), justify="right", no_wrap=True)
    for i, (label, counts) in enumerate(zip(names, row["confusion"], strict=True)):
        cells = [
            Text(str(count) if count else ".", style="bold" if i == j else "red" if count else "dim")
            for j, count in enumerate(counts)
        ]
        table.add_row(Text(f"{i + 1} {label}"), *cells)
    return table


def confusions_table(row: VersionRow) -> Table:
    """The most frequent confusions, where a matrix would not fit."""
    from edgetl.measure.by_class import worst_confusions

    names = [one["name"] for one in row["by_class"]["classes"]]
    table = _table("Worst confusions", "", ("photos of", "taken for", "count", "of"))
    for one in worst_confusions(row["confusion"], names, most=_MOST_ROWS):
        table.add_row(Text(one["true"]), Text(one["answered"]), str(one["count"]), str(one["of"]))
    return table


def across_table(found: Verification) -> Table:
    """The integer files of the two formats, compared with each other."""
    precision_of = {file["name"]: file["precision"] for file in found["files"]}
    table = _table(
        "Integer files compared with each other",
        "differences of a photo's probabilities, in steps of the coarser output",
        ("files", "past 2 steps", "largest", "same label"),
    )
    for pair in found["parity_matrix"]["pairs"]:
        names = [pair[side].removeprefix("models/") for side in ("a", "b")]
        if all(precision_of[pair[side].rsplit("@", 1)[0]] in _INTEGER for side in ("a", "b")):
            table.add_row(
                f"{names[0]}\n= {names[1]}",
                f"{percent(1 - pair['within_2_steps'])} %",
                f"{pair['max_steps']:.1f} of {output_step_of(pair)}",
                f"{percent(pair['top1_agreement'])} %",
            )
    return table
