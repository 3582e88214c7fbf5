"""What `edgetl estimate` shows: intervals, whether the files are those that were built, the budget's verdict, the
evidence. No decisions.

Names come from files of strangers: formats.census.printable escaped them, and they are given to rich as Text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgetl.console.bundle import AS_BUILT, print_missing

Row = Mapping[str, Any]
_VERDICT_STYLE = {"fits": "green", "does not fit": "bold red", "cannot tell": "yellow", "no budget": ""}


def print_estimates(console: Console, found: Row) -> None:
    """The table, then for each kind of evidence what it is and what was assumed."""
    target = found["target"]
    limit = target["limit_p90_ms"]
    allowed = f"p90 at most {limit:g} ms" if limit else "no limit for latency"
    console.print(Text.assemble((target["name"], "bold"), f": {target['device']}; {allowed}"))
    console.print(_table(found["models"]))
    for model in found["models"]:
        if model.get("as_built") in ("changed", "not in the report"):
            words, style = AS_BUILT[model["as_built"]]
            console.print(Text(f"{_name(model)}: {words}; this is an estimate of what it is now", style=style))
    print_missing(console, found)
    for row in _no_estimates(found["models"]):
        console.print(Text(row, style="yellow"))
    made = [
        (_name(model), row) for model in found["models"] for row in model.get("estimates", ()) if "why_not" not in row
    ]
    for runtime in dict.fromkeys(row["runtime"] for _, row in made):
        _print_evidence(console, [(name, row) for name, row in made if row["runtime"] == runtime])
    shares = _fastest(found["models"])
    if shares:
        ops = ", ".join(
            f"{op['name'].partition('/')[2][:32] or op['name'][:32]} {100 * op['share']:.0f} % ({op['held_by']})"
            for op in shares["ops"]
        )
        console.print(Text(f"\nmost of the time in {_name(shares)}: {ops}"))
    if target["is_this_machine"]:
        console.print(Text("\nThis machine is the target: what `edgetl build` measures here counts, not this."))


def _fastest(models: list[Row]) -> Row | None:
    """The file that an app would take: of those with an estimate and its ops, the one of the smallest."""
    timed = [
        (made["p50_ms"], i)
        for i, model in enumerate(models)
        for made in model.get("estimates", ())
        if model.get("ops") and "why_not" not in made
    ]
    return models[min(timed)[1]] if timed else None


def _name(model: Row) -> str:
    return str(model["file"]).rsplit("/", 1)[-1].removeprefix("student.")


def _table(models: list[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    for name, justify in (
        ("file", "left"),
        ("on", "left"),
        ("p50 ms", "right"),
        ("p90 ms", "right"),
        ("bound", "right"),
        ("budget", "left"),
    ):
        table.add_column(name, justify=justify, overflow="fold", no_wrap=name not in ("file", "on"))  # type: ignore[arg-type]
    for model in models:
        for made in model.get("estimates", ()):
            if "why_not" not in made:
                table.add_row(
                    Text(_name(model)),
                    f"{made['runtime']}",
                    _figure(made["p50_ms"], made["p50_interval_ms"]),
                    _figure(made["p90_ms"], made["p90_interval_ms"]),
                    f"{made['bound_ms']:.2g}" if made["bound_ms"] is not None else "-",
                    Text(made["verdict"], style=_VERDICT_STYLE[made["verdict"]]),
                )
    table.caption = "(90% interval); bound: what the published peaks do not allow to be beaten"
    table.caption_justify = "left"
    return table


def _figure(value: float, interval: list[float]) -> str:
    """
    >>> _figure(6.107, [2.48, 19.31])
    '6.1 (2.5-19)'
    """
    return f"{_digits(value)} ({_digits(interval[0])}-{_digits(interval[1])})"


def _digits(value: float) -> str:
    return "<0.01" if value < 0.01 else f"{value:.2g}" if value < 100 else f"{value:.0f}"


def _no_estimates(models: list[Row]) -> Iterator[str]:
    for model in models:
        if "error" in model:
            yield f"{_name(model)}: could not be read: the message at the end says why"
        elif not model["estimates"]:
            yield f"{_name(model)}: no runtime of the target opens {model['format']} files"
        for made in model.get("estimates", ()):
            if "why_not" in made:
                yield f"{_name(model)} on {made['runtime']}: no estimate: {made['why_not']}"


def _print_evidence(console: Console, made: list[tuple[str, Row]]) -> None:
    """Of one runtime. made: its files' names and estimates, of which the one with the least interval names the rows."""
    first = min((row for _, row in made), key=lambda row: row["p90_interval_ms"][1] / row["p90_interval_ms"][0])
    count, on_cpu = first["n_evidence"], first["kind"] == "cpu"
    heading = (
        f"\n{first['runtime']}: {count} published row{'' if count == 1 else 's'} of the {first['level'].split(',')[0]}"
    )
    threads = f", reckoned on {_threads(first)}" if on_cpu else ""
    console.print(Text.assemble((heading, "bold"), f", {first['n_rows']} of such processors in all{threads}"))
    for row in first["evidence"]:
        console.print(
            Text(
                f"  {row['latency_ms']:g} ms {row['statistic']}: {row['model']} {row['precision']} at {row['input_size_px']} px, "
                f"{row['runtime']}{', ' + _threads(row) if on_cpu else ''}, {row['device']}; {100 * row['likeness']:.0f} % alike; {row['source']}"
            )
        )
    if count > len(first["evidence"]):
        console.print(Text(f"  and {count - len(first['evidence'])} less alike"))
    of: dict[str, list[str]] = {}
    for name, row in made:
        for note in row["notes"]:
            of.setdefault(note, []).append(name)
    # What holds for all files of the runtime first, then what holds for some of them alone, with their names.
    for note, names in sorted(of.items(), key=lambda item: len(item[1]) < len(made)):
        whose = "" if len(names) == len(made) else f"{', '.join(names)}: "
        console.print(Text(f"  - {whose}{note}", style="dim"))


def _threads(row: Row) -> str:
    return f"{row['threads']} thread{'' if row['threads'] == 1 else 's'}"
