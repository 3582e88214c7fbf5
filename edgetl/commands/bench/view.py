"""What `edgetl bench` shows. No decisions."""

from __future__ import annotations

import contextlib
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from edgetl.console.checks import print_checks
from edgetl.core.words import printable

if TYPE_CHECKING:
    from edgetl.commands.bench.compare import Comparison
    from edgetl.commands.bench.protocol import PlacementJson
    from edgetl.commands.bench.rows import Row, RowJson
    from edgetl.commands.bench.run import BenchResult
    from edgetl.verdicts.check import CheckRow

_PLAIN_EVERY_S = 15.0


@contextlib.contextmanager
def progress_of(console: Console) -> Iterator[Callable[[str, Row, int, int], None]]:
    """Show what is going on: a live line in a terminal, otherwise one printed line every 15 seconds."""
    if not console.is_terminal:
        last = [0.0]

        def plain(doing: str, row: Row, done: int, count: int) -> None:
            if time.monotonic() - last[0] >= _PLAIN_EVERY_S:
                last[0] = time.monotonic()
                console.print(
                    f"  {doing} {printable(row.job.name)}, {done} of {count} rows done", markup=False, highlight=False
                )

        yield plain
        return
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[state]}"),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=1, state="")

        def shown(doing: str, row: Row, done: int, count: int) -> None:
            state = ""
            if row.rounds:
                width = row.relative_width()
                state = f"{statistics.median(row.medians()):.3g} ms" + (f" ±{width / 2:.1%}" if width < 10 else "")
            bar.update(
                task, description=printable(f"{doing} {row.job.name}")[:44], completed=done, total=count, state=state
            )

        yield shown


def print_bench(console: Console, result: BenchResult, checks: Sequence[CheckRow]) -> None:
    """checks: each as verdicts.check.Check, in JSON's form."""
    rows = result["rows"]
    timed = [(i, row) for i, row in enumerate(rows, 1) if row["p50_ms"] is not None]
    about = result["machine"]
    parts = [about.get("board") or about.get("processor") or "unknown device", about.get("os")]
    parts.insert(1, f"{about['cores']} cores" if about.get("cores") else None)
    console.print(Text(", ".join(part for part in parts if part), style="dim"), soft_wrap=True)
    libraries = sorted({row["library"] for row in rows if row["library"]})
    if libraries:
        on = f"; on {', '.join(result['input'])}" if result.get("input") else ""
        console.print(Text(", ".join(libraries) + on, style="dim"), soft_wrap=True)
    if timed:
        console.print(_latencies(timed))
        console.print(_costs(timed))
    for i, row in enumerate(rows, 1):
        if row["status"] != "failed" and row["p50_ms"] is None:
            known = {"min": row["min_ms"], "mean": row["mean_ms"], "max": row["max_ms"], "std": row["std_ms"]}
            figures = [f"{name} {_ms(value)}" for name, value in known.items() if value]
            console.print(Text(f"{i:>2}  {_name(row)}: no median in the log; {', '.join(figures)} ms"))
        if row["status"] == "failed":
            console.print(Text.assemble((f"{i:>2}  {row['failure']}", "bold red"), f"  {_name(row)}: {row['reason']}"))
    for note in _grouped_notes(rows):
        console.print(Text(note, style="yellow"))
    _print_profiles(console, rows)
    for warning in result["disturbance"]["warnings"]:
        console.print(Text(f"Noise: {warning}.", style="yellow"))
    if result["interrupted"]:
        console.print(Text("Interrupted: the figures are from the runs before that.", style="bold yellow"))
    if result["comparison"]:
        console.print(_comparison(result["comparison"]))
    if checks:
        print_checks(console, checks)
        for check in checks:
            if check["status"] == "pass" and check["measured"] is None:
                console.print(Text(f"pass {check['metric']} {check['subject']}: {check['reason']}", style="dim"))
    if result["absent"]:
        console.print(Text(f"Not available: {', '.join(result['absent'])} (`edgetl doctor` says why).", style="dim"))


def _grouped_notes(rows: Sequence[RowJson]) -> list[str]:
    """One line per note, with the numbers of its rows. Notes that differ only in a percentage share a line.

    >>> _grouped_notes([{"notes": ["5% slower"]}, {"notes": ["9% slower", "odd"]}])
    ['1 by 5%, 2 by 9%: slower', '2: odd']
    """
    groups: dict[str, list[str]] = {}
    for i, row in enumerate(rows, 1):
        for note in row["notes"]:
            share, _, rest = note.partition(" ")
            alike = re.fullmatch(r"\d+%", share)
            groups.setdefault(rest if alike else note, []).append(f"{i} by {share}" if alike else str(i))
    return [f"{', '.join(about)}: {note}" for note, about in groups.items()]


def _name(row: RowJson) -> str:
    threads = row["threads"]
    return f"{printable(row['name'])} on {row['backend']}" + (
        f", {threads} thread{'s' if threads > 1 else ''}" if threads else ""
    )


def _table(title: str, columns: tuple[str, ...], left: tuple[str, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, title=Text(title, style="italic"), title_justify="left")
    for name in columns:
        table.add_column(
            name, justify="left" if name in left else "right", no_wrap=True, min_width=2 if name == "" else None
        )
    return table


def _ms(value: float | None) -> str:
    """Three significant digits, never in scientific notation.

    >>> _ms(0.41234), _ms(12.345), _ms(1234.5), _ms(None)
    ('0.412', '12.3', '1234', '–')
    """
    if value is None:
        return "–"
    return (
        f"{value:.3f}"
        if value < 1
        else f"{value:.2f}"
        if value < 10
        else f"{value:.1f}"
        if value < 100
        else f"{value:.0f}"
    )


def _share(width: float | None) -> str:
    """Half the width of an interval, in percent.

    >>> _share(0.021), _share(0.5), _share(None)
    ('1.1%', '25%', '–')
    """
    if width is None:
        return "–"
    return f"{width / 2:.1%}" if width < 0.2 else f"{width / 2:.0%}"


def _latencies(timed: Sequence[tuple[int, RowJson]]) -> Table:
    table = _table(
        "Milliseconds per photo, ± half the 95% interval of the median",
        ("", "file", "backend", "thr", "p50", "±", "p90", "p99", "runs"),
        ("file", "backend"),
    )
    best = min((row["p50_ms"] or 0.0 for _, row in timed if row["status"] == "ok"), default=None)
    for i, row in timed:
        width = row["p50_interval_width"]
        star = "" if row["stopped"] in ("interval", None) else "*"
        table.add_row(
            str(i),
            Text(printable(row["name"].removeprefix("student."))),
            row["backend"],
            str(row["threads"] or "–"),
            Text(_ms(row["p50_ms"]), style="bold green" if row["p50_ms"] == best else "bold"),
            _share(width) + star,
            _ms(row["p90_ms"]),
            _ms(row["p99_ms"]),
            str(row["runs"] or "–"),
            style={"fallback": "yellow", "failed": "red"}.get(row["status"]),
        )
    ends = {row["stopped"] for _, row in timed if row["stopped"]} - {"interval"}
    if ends:
        table.caption = Text(
            f"* stopped by {' or '.join(sorted(ends))}, before the interval was narrow enough", style="dim"
        )
        table.caption_justify = "left"
    return table


def _costs(timed: Sequence[tuple[int, RowJson]]) -> Table:
    table = _table(
        "Milliseconds to load and run; memory; where it ran; answers compared with another row",
        ("", "load", "first", "min", "max", "std", "/s", "MB", "ran on", "same label, differ"),
        ("ran on", "same label, differ"),
    )
    for i, row in timed:
        parity, model_bytes = row["parity"], (row["memory"] or {}).get("model_bytes")
        answers = f"{parity['same_label']}/{parity['images']}, {_difference(parity['max_abs'])}" if parity else "–"
        table.add_row(
            str(i),
            *map(_ms, (row["load_ms"], row["first_ms"], row["min_ms"], row["max_ms"], row["std_ms"])),
            f"{row['throughput_per_s']:.0f}" if row["throughput_per_s"] else "–",
            f"{model_bytes / 1e6:.0f}" if model_bytes else "–",
            _placed(row["placement"]),
            answers,
        )
    return table


def _difference(value: float | None) -> str:
    return "not numbers" if value is None else f"{value:.1g}"


def _placed(placement: PlacementJson | None) -> str:
    """Shares of MACs by device, or of ops if MACs are not counted.

    >>> _placed({"shares": {"cpu": {"ops": 0.25, "macs": 0.1}, "gpu": {"ops": 0.75, "macs": 0.9}}})
    'gpu 90% cpu 10%'
    """
    if placement is None:
        return "–"
    shares = {
        kind: share["ops"] if share["macs"] is None else share["macs"] for kind, share in placement["shares"].items()
    }
    return " ".join(f"{kind} {share:.0%}" for kind, share in sorted(shares.items(), key=lambda item: -item[1]))


def _print_profiles(console: Console, rows: Sequence[RowJson], most: int = 8) -> None:
    for i, row in enumerate(rows, 1):
        if row["profile_reason"]:
            console.print(Text(f"{i:>2}  {row['profile_reason']}", style="dim"))
        if not row["profile"]:
            continue
        # LiteRT truncates to whole microseconds: all ops of a tiny model may take 0.
        total = sum(op["ms"] for op in row["profile"]) or 1.0
        table = _table(f"Slowest ops of {_name(row)}", ("op", "name", "ms", "share"), ("op", "name"))
        for op in row["profile"][:most]:
            table.add_row(
                Text(printable(op["op"])[:27]),
                Text(printable(op["name"])[:36]),
                _ms(op["ms"]),
                f"{op['ms'] / total:.0%}",
            )
        console.print(table)


def _comparison(comparison: Comparison) -> Text:
    low, high = comparison["interval"]
    verdict = {
        "slower": (f"slower: the whole interval is above {comparison['max_ratio']:g}", "bold red"),
        "within": (f"within {comparison['max_ratio']:g}", "bold green"),
        "undecided": (
            f"undecided: the interval includes {comparison['max_ratio']:g}; try more --seconds",
            "bold yellow",
        ),
    }[comparison["verdict"]]
    again = comparison.get("again")
    second = ""
    if again:
        least, most = again["interval"]
        second = f"; again in new processes {again['ratio']:.3f} ({least:.3f} to {most:.3f})"
    return Text.assemble(
        f"{comparison['candidate']} takes {comparison['ratio']:.3f} times as long as {comparison['baseline']} "
        f"(95% interval {low:.3f} to {high:.3f}, {comparison['pairs']} pairs of rounds){second}: ",
        verdict,
    )
