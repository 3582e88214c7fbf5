"""What a person sees: tables, progress, messages. No decisions. Everything here goes to stderr unless a caller says else."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from edgetl.context import Progress

if TYPE_CHECKING:
    from edgetl.plan import Plan
    from edgetl.target import Target

_VERBS = {
    "photos": "check the photos",
    "split": "check and split the photos",
    "teacher-weights": "first weights of the teacher",
    "student-weights": "first weights of the student",
    "finetune": "fine-tune the teacher",
    "distill": "distil the student",
    "quantize": "bring to integers",
    "export": "export",
    "verify": "verify",
    "diagnose": "look for the cause",
}
_STATUS_STYLE = {"pass": "green", "fail": "bold red", "inconclusive": "yellow", "unmeasured": "yellow"}
_PLAIN_EVERY_S = 15.0


def describe_step(name: str) -> str:
    """A step in words."""
    return _VERBS.get(name, name)


class _PlainProgress:
    """Lines for logs and pipes: a count every quarter of a minute."""

    def __init__(self, write: Any) -> None:
        self._write, self._total, self._done, self._unit, self._last = write, 0, 0, "", time.monotonic()

    def begin(self, total: int, *, done: int = 0, unit: str = "steps") -> None:
        self._total, self._done, self._unit, self._last = total, done, unit, time.monotonic()

    def advance(self, count: int, detail: str = "") -> None:
        self._done += count
        if time.monotonic() - self._last >= _PLAIN_EVERY_S:
            self._last = time.monotonic()
            self._write(f"    {self._done}/{self._total} {self._unit}{f', {detail}' if detail else ''}")

    def note(self, text: str) -> None:
        self._write(f"    {text}")


class PlainDisplay:
    """A build in plain lines."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr, highlight=False, soft_wrap=True)

    def _write(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def stage(self, position: int, count: int, name: str) -> Iterator[Progress]:
        """See pipeline.Display."""
        begun = time.monotonic()
        self._write(f"[{position}/{count}] {describe_step(name)}")
        yield _PlainProgress(self._write)
        self._write(f"[{position}/{count}] {describe_step(name)}: {time.monotonic() - begun:.1f} s")

    def cached(self, position: int, count: int, name: str) -> None:
        """See pipeline.Display."""
        self._write(f"[{position}/{count}] {describe_step(name)}: cached")

    def note(self, text: str) -> None:
        """See pipeline.Display."""
        self._write(text)


class _BarProgress:
    def __init__(self, bar: RichProgress, console: Console) -> None:
        self._bar, self._console = bar, console
        self._task = bar.add_task("", total=None, detail="")

    def begin(self, total: int, *, done: int = 0, unit: str = "steps") -> None:
        self._bar.reset(self._task, total=total, completed=done, description=unit, detail="")

    def advance(self, count: int, detail: str = "") -> None:
        self._bar.update(self._task, advance=count, detail=detail)

    def note(self, text: str) -> None:
        self._console.print(Text(f"    {text}", style="dim"))


class BarDisplay(PlainDisplay):
    """A build on a terminal: one bar for the stage under way."""

    @contextlib.contextmanager
    def stage(self, position: int, count: int, name: str) -> Iterator[Progress]:
        """See pipeline.Display."""
        begun = time.monotonic()
        self._console.print(Text.assemble((f"[{position}/{count}] ", "bold"), describe_step(name)))
        columns = (
            TextColumn("    {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(compact=True),
        )
        with RichProgress(*columns, console=self._console, transient=True) as bar:
            yield _BarProgress(bar, self._console)
        self._console.print(Text(f"    done in {time.monotonic() - begun:.1f} s", style="green"))

    def cached(self, position: int, count: int, name: str) -> None:
        """See pipeline.Display."""
        self._console.print(Text.assemble((f"[{position}/{count}] ", "bold"), describe_step(name), (" cached", "dim")))


def make_display(console: Console) -> PlainDisplay:
    """Bars on a terminal, lines elsewhere."""
    return BarDisplay(console) if console.is_terminal else PlainDisplay(console)


def human_bytes(count: float) -> str:
    """Decimal units, three digits.

    >>> human_bytes(608480), human_bytes(14_200_000), human_bytes(12)
    ('608 kB', '14.2 MB', '12 B')
    """
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def percent(value: float) -> str:
    """A share in percent, one digit after the point.

    >>> percent(0.9156)
    '91.6'
    """
    return f"{100 * value:.1f}"


def models_table(report: Mapping[str, Any]) -> Table:
    """One row a file and runtime; fits 80 columns."""
    first: Mapping[str, Any] = next(iter(next(iter(report["models"]))["latency"].values()), {})
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        title=f"{report['target']['name']}: {report['dataset']['n_test']} test photos",
        caption=f"ms: p50 and p90, {first.get('runs', 0)} runs, {first.get('threads', 0)} thread, on {first.get('processor', '?')}",
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


def checks_table(report: Mapping[str, Any]) -> Table:
    """One row a check."""
    table = Table(title="Checks", title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("check", overflow="fold")
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("limit", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for check in report["checks"]:
        table.add_row(
            Text(f"{check['metric']}\n{check['subject'].replace(' = ', chr(10) + '= ')}"),
            _figure(check["metric"], check["measured"], check["interval"]),
            _figure(check["metric"], check["limit"], None),
            Text(_verdict(check), style=_STATUS_STYLE[check["status"]]),
        )
    return table


def print_checks(console: Console, report: Mapping[str, Any]) -> None:
    """The table of checks, and a line for each that did not pass or was not measured."""
    console.print(checks_table(report))
    for check in report["checks"]:
        if check["status"] != "pass" or check["estimated"]:
            console.print(check_line(check, check["reason"] or "past the limit"))


def check_line(check: Mapping[str, Any], told: str) -> Text:
    """A check without its table: the verdict, of what, and what is told of it."""
    style = _STATUS_STYLE[check["status"]]
    return Text.assemble((_verdict(check), style), f" {check['metric']} {check['subject']}: {told}")


def check_figures(check: Mapping[str, Any]) -> str:
    """Measured and limit, as the table has them; "" of a check that was not measured."""
    if check["measured"] is None:
        return ""
    metric = check["metric"]
    return f"{_figure(metric, check['measured'], check['interval'])}, limit {_figure(metric, check['limit'], None)}"


def _verdict(check: Mapping[str, Any]) -> str:
    return f"{check['status']}{', estimated' if check['estimated'] else ''}"


def _figure(metric: str, value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "-"
    if metric == "model_bytes":
        return human_bytes(value)
    if metric in ("top1_disagreement", "share_past_2_steps", "top1_error_up_to"):
        shown = f"{100 * value:.1f} %"
        return f"{shown} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else shown
    if metric == "golden_input":
        return f"{value:.0f}"
    if metric in ("max_abs_probability", "golden"):
        return f"{value:.1g}"
    if metric == "max_output_steps":
        return f"{value:.1f}"
    shown = f"{value:.2f}"
    return f"{shown} ({interval[0]:.1f} to {interval[1]:.1f})" if interval else shown


def print_result(console: Console, report: Mapping[str, Any], out: str) -> None:
    """The closing words of a build."""
    console.print()
    console.print(models_table(report))
    print_checks(console, report)
    seconds = sum(stage["seconds"] for stage in report["stages"])
    console.print(
        f"\n{out}/report.html  ({seconds:.0f} s, {sum(1 for stage in report['stages'] if stage['cached'])} of {len(report['stages'])} stages cached)",
        highlight=False,
        soft_wrap=True,
    )


def plan_table(plan: Plan, cached: Mapping[str, bool]) -> Table:
    """What a build would do."""
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


def targets_table(targets: Sequence[Target]) -> Table:
    """Name, device, precision, budget."""
    table = Table()
    for name, justify in (
        ("target", "left"),
        ("device", "left"),
        ("ships", "left"),
        ("max size", "right"),
        ("max p90", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
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


@contextlib.contextmanager
def native_chatter_to(log: Path) -> Iterator[Console]:
    """Send what C++ libraries write to stdout and stderr into a file; yields a console on the real stderr.

    TensorFlow's libraries write to file descriptors 1 and 2 directly, before and past any setting of theirs.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    terminal = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace")
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        yield Console(file=terminal, highlight=False)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for fd, original in zip((1, 2), kept, strict=True):
            os.dup2(original, fd)
            os.close(original)
        os.close(sink)
        terminal.close()


def _under_another_name(package: str, versions: Mapping[str, str]) -> bool:
    """Whether onnxruntime is installed as onnxruntime-gpu, or the other way round."""
    plain = package.removesuffix("-gpu")
    return bool(versions.get(plain) or versions.get(f"{plain}-gpu"))


def print_doctor(console: Console, facts: Mapping[str, Any]) -> None:
    """What `edgetl doctor` found, as it gives it in JSON."""
    machine = facts["machine"]
    console.print(f"edgetl {facts['edgetl']}, Python {machine['python']}, {machine['os']}")
    named = " ".join(part for part in (machine["processor"], machine["board"]) if part)
    console.print(f"{named}: {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.1f} GiB", markup=False)
    table = Table()
    for name in ("backend", "version", "runs on, or what it lacks"):
        table.add_column(name)
    # Backends that lack the same are one row.
    alike: dict[tuple[str, str], list[str]] = {}
    for name, found in facts["runtimes"].items():
        text = f"ready: {found['device']}" if found["available"] else f"not ready: {found['reason']}"
        alike.setdefault((found["version"], text), []).append(name)
    for (version, text), names in alike.items():
        table.add_row("\n".join(names), version, Text(text))
    console.print(table)
    versions = facts["packages"]
    table = Table()
    for name in ("package", "version"):
        table.add_column(name)
    for name, version in versions.items():
        if version or not _under_another_name(name, versions):
            table.add_row(name, version or "not installed")
    console.print(table)
    console.print(f"cache: {facts['cache']}", soft_wrap=True)
    lacking = facts["missing_for_build"]
    ready = "`edgetl build` is ready." if not lacking else "`edgetl build` needs: pip install 'edgetl[build]'"
    console.print(ready, markup=False)


def print_target(console: Console, target: Target) -> None:
    """Everything a target file says, in lines."""
    device, budget = target.device, target.budget
    console.print(f"[bold]{target.name}[/bold]  {device.description}")
    console.print(f"{device.processor}; {device.architecture}, {device.os}, {device.cores} cores")
    console.print(f"ships {target.precision} on {', '.join(target.runtimes)}")
    limit = f", p90 at most {budget.latency_p90_ms:g} ms on {budget.threads} thread(s)" if budget.latency_p90_ms else ""
    console.print(f"budget: top-1 drop at most {budget.top1_drop_pp:g} points, {budget.model_bytes} bytes{limit}")
    console.print(f"  {budget.reason}")
    for reference in target.references:
        console.print(
            f"reference: {reference.model} {reference.precision} at {reference.input_size_px} px, {reference.runtime} {reference.processor} {reference.threads}: {reference.latency_ms:g} ms ({reference.statistic}; {reference.source})",
            markup=False,
        )
    for source in target.sources:
        console.print(f"source of {', '.join(source.facts)}: {source.where}", markup=False)
