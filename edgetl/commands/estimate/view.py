"""What `edgetl estimate` prints: intervals, whether the files are as they were built, the budget's verdict, the evidence.
Decides nothing.

Names come from files of unknown origin: core.words.printable escaped them, and they are given to rich as Text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgetl.console.bundle import AS_BUILT, print_missing

if TYPE_CHECKING:
    from edgetl.commands.estimate.result import EstimatedModel, Estimates
    from edgetl.latency.records import EstimateRow, EvidenceRow, NoEstimate

_VERDICT_STYLE = {"fits": "green", "does not fit": "bold red", "cannot tell": "yellow", "no budget": ""}


def print_estimates(console: Console, found: Estimates) -> None:
    """The table, then the evidence for each runtime and the assumptions."""
    target = found["target"]
    limit = target["limit_p90_ms"]
    allowed = f"p90 at most {limit:g} ms" if limit else "no latency limit"
    console.print(Text.assemble((target["name"], "bold"), f": {target['device']}; {allowed}"))
    console.print(_table(found["models"]))
    for model in found["models"]:
        if model.get("as_built") in ("changed", "not in the report"):
            words, style = AS_BUILT[model["as_built"]]
            console.print(Text(f"{_name(model)}: {words}; the estimate is for the file as it is now", style=style))
    print_missing(console, found["bundle"]["missing"] if found["bundle"] else ())
    for row in _no_estimates(found["models"]):
        console.print(Text(row, style="yellow"))
    made = [(_name(model), row) for model in found["models"] for row in _estimates(model)]
    for runtime in dict.fromkeys(row["runtime"] for _, row in made):
        _print_evidence(console, [(name, row) for name, row in made if row["runtime"] == runtime])
    shares = _fastest(found["models"])
    if shares:
        ops = ", ".join(
            f"{op['name'].partition('/')[2][:32] or op['name'][:32]} {100 * op['share']:.0f} % ({op['held_by']})"
            for op in shares["ops"]
        )
        console.print(Text(f"\nops that take most of the time in {_name(shares)}: {ops}"))
    if target["is_this_machine"]:
        console.print(
            Text(
                "\nThis machine is the target: `edgetl build` measures latency here, which is better than this estimate."
            )
        )


def _estimates(model: EstimatedModel) -> list[EstimateRow]:
    """Those of its rows that are estimates."""
    return [row for row in model.get("estimates", ()) if "why_not" not in row]


def _fastest(models: list[EstimatedModel]) -> EstimatedModel | None:
    """The file that an app would use: the one with the smallest estimate, of those with ops."""
    timed = [(made["p50_ms"], i) for i, model in enumerate(models) if model.get("ops") for made in _estimates(model)]
    return models[min(timed)[1]] if timed else None


def _name(model: EstimatedModel) -> str:
    return str(model["file"]).rsplit("/", 1)[-1].removeprefix("student.")


def _table(models: list[EstimatedModel]) -> Table:
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
        for made in _estimates(model):
            table.add_row(
                Text(_name(model)),
                f"{made['runtime']}",
                _figure(made["p50_ms"], made["p50_interval_ms"]),
                _figure(made["p90_ms"], made["p90_interval_ms"]),
                f"{made['bound_ms']:.2g}" if made["bound_ms"] is not None else "-",
                Text(made["verdict"], style=_VERDICT_STYLE[made["verdict"]]),
            )
    table.caption = "(90% interval); bound: lower limit computed from the device's published peaks"
    table.caption_justify = "left"
    return table


def _figure(value: float, interval: Sequence[float]) -> str:
    """
    >>> _figure(6.107, [2.48, 19.31])
    '6.1 (2.5-19)'
    """
    return f"{_digits(value)} ({_digits(interval[0])}-{_digits(interval[1])})"


def _digits(value: float) -> str:
    return "<0.01" if value < 0.01 else f"{value:.2g}" if value < 100 else f"{value:.0f}"


def _no_estimates(models: list[EstimatedModel]) -> Iterator[str]:
    for model in models:
        if "error" in model:
            yield f"{_name(model)}: could not be read; the reason is at the end"
        elif not model.get("estimates"):
            yield f"{_name(model)}: no runtime of the target opens {model['format']} files"
        for made in model.get("estimates", ()):
            if "why_not" in made:
                none = cast("NoEstimate", made)
                yield f"{_name(model)} on {none['runtime']}: no estimate: {none['why_not']}"


def _print_evidence(console: Console, made: list[tuple[str, EstimateRow]]) -> None:
    """For one runtime. made: names and estimates of its files; the one with the smallest interval names the rows."""
    first = min((row for _, row in made), key=lambda row: row["p90_interval_ms"][1] / row["p90_interval_ms"][0])
    count, on_cpu = first["n_evidence"], first["kind"] == "cpu"
    heading = (
        f"\n{first['runtime']}: {count} published row{'' if count == 1 else 's'} of the {first['level'].split(',')[0]}"
    )
    threads = f", computed for {_threads(first)}" if on_cpu else ""
    console.print(Text.assemble((heading, "bold"), f", {first['n_rows']} of such processors in all{threads}"))
    for row in first["evidence"]:
        console.print(
            Text(
                f"  {row['latency_ms']:g} ms {row['statistic']}: {row['model']} {row['precision']} at {row['input_size_px']} px, "
                f"{row['runtime']}{', ' + _threads(row) if on_cpu else ''}, {row['device']}; {100 * row['likeness']:.0f} % similar; {row['source']}"
            )
        )
    if count > len(first["evidence"]):
        console.print(Text(f"  and {count - len(first['evidence'])} less similar"))
    of: dict[str, list[str]] = {}
    for name, estimate in made:
        for note in estimate["notes"]:
            of.setdefault(note, []).append(name)
    # First what applies to all files of the runtime, then what applies to some of them, with their names.
    for note, names in sorted(of.items(), key=lambda item: len(item[1]) < len(made)):
        whose = "" if len(names) == len(made) else f"{', '.join(names)}: "
        console.print(Text(f"  - {whose}{note}", style="dim"))


def _threads(row: EstimateRow | EvidenceRow) -> str:
    return f"{row['threads']} thread{'' if row['threads'] == 1 else 's'}"
