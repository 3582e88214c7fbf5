from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgetl.core.words import human_bytes

_STATUS_STYLE = {"pass": "green", "fail": "bold red", "inconclusive": "yellow", "unmeasured": "yellow"}


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
