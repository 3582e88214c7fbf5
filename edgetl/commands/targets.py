"""`edgetl targets`: the devices that models can be built for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgetl.console.options import JsonOption
from edgetl.console.output import print_json, stdout
from edgetl.core.errors import UsageError
from edgetl.core.words import human_bytes, of_threads

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from edgetl.targets.target import Target

targets_app = typer.Typer(help="Devices that a model can be built for.", no_args_is_help=True)


@targets_app.command("list")
def targets_list(as_json: JsonOption = False) -> None:
    """List the targets that come with edgetl."""
    from edgetl.targets.target import read_target, shipped_targets

    targets = [read_target(path) for path in shipped_targets().values()]
    if as_json:
        print_json({"targets": [target.model_dump(mode="json") for target in targets]})
    else:
        stdout().print(targets_table(targets))


@targets_app.command("show")
def targets_show(
    name: Annotated[str, typer.Argument(help="The name of a target, or a .toml file.")],
    as_json: JsonOption = False,
    toml: Annotated[bool, typer.Option("--toml", help="Print the file itself, to copy and edit.")] = False,
) -> None:
    """Show a target: its device, budget, references and sources."""
    from edgetl.targets.target import load_target, shipped_targets

    target = load_target(name)
    if toml:
        typer.echo(shipped_targets().get(name, Path(name)).read_text(encoding="utf-8"), nl=False)
        return
    if as_json:
        print_json({"target": target.model_dump(mode="json"), "is_this_machine": target.is_this_machine()})
        return
    print_target(stdout(), target)


@targets_app.command("check")
def targets_check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Target files. Default: all that come with edgetl.")
    ] = None,
) -> None:
    """Check target files and name every fault."""
    from edgetl.targets.target import read_target, shipped_targets

    faults: list[UsageError] = []
    for path in files or list(shipped_targets().values()):
        try:
            stdout().print(f"{read_target(path).name}: valid")
        except UsageError as fault:
            faults.append(fault)
    if len(faults) > 1:
        raise UsageError(
            f"{len(faults)} target files are not valid.",
            why="\n       ".join(f"{fault.what} {fault.why}" for fault in faults),
            fix=faults[0].fix,
        )
    if faults:
        raise faults[0]


def targets_table(targets: Sequence[Target]) -> Table:
    """One row per target: name, device, precision, budget."""
    from rich.table import Table

    table = Table()
    for name in ("target", "device", "ships"):
        table.add_column(name)
    for name in ("max size", "max p90"):
        table.add_column(name, justify="right")
    for target in targets:
        limit = target.budget.latency_p90_ms
        table.add_row(
            target.name,
            target.device.description,
            target.precision,
            human_bytes(target.budget.model_bytes),
            f"{limit:g} ms" if limit else "-",
        )
    return table


def print_target(console: Console, target: Target) -> None:
    """Print everything in a target file."""
    device, budget = target.device, target.budget
    console.print(f"[bold]{target.name}[/bold]  {device.description}")
    console.print(f"{device.processor}; {device.architecture}, {device.os}, {device.cores} cores")
    console.print(f"ships {target.precision} on {', '.join(target.runtimes)}")
    limit = (
        f", p90 at most {budget.latency_p90_ms:g} ms on {of_threads(budget.threads)}" if budget.latency_p90_ms else ""
    )
    console.print(
        f"budget: top-1 drop at most {budget.top1_drop_pp:g} pp, size at most {budget.model_bytes} bytes{limit}"
    )
    console.print(f"  {budget.reason}")
    for reference in target.references:
        console.print(
            f"reference: {reference.model} {reference.precision} at {reference.input_size_px} px, {reference.runtime} {reference.processor} {reference.threads}: {reference.latency_ms:g} ms ({reference.statistic}; {reference.source})",
            markup=False,
        )
    for source in target.sources:
        console.print(f"source of {', '.join(source.facts)}: {source.where}", markup=False)
