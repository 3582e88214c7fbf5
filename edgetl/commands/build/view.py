"""What `edgetl build` and `edgetl plan` show in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgetl.console.checks import print_checks
from edgetl.core.words import human_bytes, of_threads, percent
from edgetl.stages.catalogue import describe_step

if TYPE_CHECKING:
    from edgetl.measure.records import Latency
    from edgetl.report.records import Report
    from edgetl.stages.plan import Plan


def models_table(report: Report) -> Table:
    """One row per file and runtime; fits 80 columns."""
    first = next(iter(report["models"][0]["latency"].values()), None)
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        title=f"{report['target']['name']}: {report['dataset']['n_test']} test photos",
        caption=_conditions(first),
        title_justify="left",
        caption_justify="left",
    )
    for name, justify in (
        ("file", "left"),
        ("runtime", "left"),
        ("top-1", "right"),
        ("95%", "right"),
        ("p50", "right"),
        ("p90", "right"),
        ("size", "right"),
    ):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for model in report["models"]:
        name = model["file"].removeprefix("models/")
        for runtime, accuracy in model["accuracy"].items():
            latency = model["latency"][runtime]
            low, high = accuracy["interval"]
            table.add_row(
                Text(name, style="bold" if model["ships"] else ""),
                runtime,
                percent(accuracy["top1"]),
                f"{percent(low)}-{percent(high)}",
                f"{latency['p50_ms']:.2f}",
                f"{latency['p90_ms']:.2f}",
                human_bytes(model["bytes"]),
            )
    return table


def _conditions(latency: Latency | None) -> str:
    """The conditions of the latencies, after the first file's."""
    runs, threads, processor = (latency["runs"], latency["threads"], latency["processor"]) if latency else (0, 0, "?")
    return f"ms: p50 and p90, {runs} runs, {of_threads(threads)}, on {processor}"


def print_result(console: Console, report: Report, out: str) -> None:
    """The result of a build: its files, its checks, and where the report is."""
    console.print()
    console.print(models_table(report))
    print_checks(console, report["checks"])
    seconds = sum(stage["seconds"] for stage in report["stages"])
    console.print(
        f"\n{out}/report.html  ({seconds:.0f} s, {sum(1 for stage in report['stages'] if stage['cached'])} of {len(report['stages'])} stages cached)",
        highlight=False,
        soft_wrap=True,
    )


def plan_table(plan: Plan, cached: Mapping[str, bool]) -> Table:
    """The steps of a build, and which of them are cached."""
    table = Table(title=f"Plan for {plan.target.name}", title_justify="left")
    for name in ("step", "what", "with", "cache"):
        table.add_column(name, overflow="fold")
    for step in plan.steps:
        shown = {
            key: step.options[key]
            for key in ("backbone", "weights", "input_size_px", "epochs", "learning_rate", "runs")
            if key in step.options
        }
        table.add_row(
            step.name,
            describe_step(step.name),
            ", ".join(f"{key} {value}" for key, value in shown.items()),
            Text("cached", style="green") if cached[step.name] else Text("to run", style="yellow"),
        )
    return table
