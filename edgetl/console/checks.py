"""The table of checks, and one check per line."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgetl.verdicts.check import CheckRow
from edgetl.verdicts.words import figure_in_terminal

_STATUS_STYLE = {"pass": "green", "fail": "bold red", "inconclusive": "yellow", "unmeasured": "yellow"}
# The reason of a check that has none of its own.
PAST_THE_LIMIT = "past the limit"


def checks_table(checks: Sequence[CheckRow]) -> Table:
    """One row per check."""
    table = Table(title="Checks", title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("check", overflow="fold")
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("limit", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for check in checks:
        table.add_row(
            Text(f"{check['metric']}\n{check['subject'].replace(' = ', chr(10) + '= ')}"),
            figure_in_terminal(check["measured"], check["metric"], check["interval"]),
            figure_in_terminal(check["limit"], check["metric"]),
            Text(_verdict(check), style=_STATUS_STYLE[check["status"]]),
        )
    return table


def print_checks(console: Console, checks: Sequence[CheckRow]) -> None:
    """The table of checks, and one line for each that did not pass or was not measured."""
    console.print(checks_table(checks))
    for check in checks:
        if check["status"] != "pass" or check["estimated"]:
            console.print(check_line(check, check["reason"] or PAST_THE_LIMIT))


def check_line(check: CheckRow, details: str) -> Text:
    """One check without the table: its verdict, its metric and subject, and the details."""
    style = _STATUS_STYLE[check["status"]]
    return Text.assemble((_verdict(check), style), f" {check['metric']} {check['subject']}: {details}")


def check_figures(check: CheckRow) -> str:
    """The measured figure and the limit, as the table shows them; "" for a check that was not measured."""
    if check["measured"] is None:
        return ""
    measured = figure_in_terminal(check["measured"], check["metric"], check["interval"])
    return f"{measured}, limit {figure_in_terminal(check['limit'], check['metric'])}"


def _verdict(check: CheckRow) -> str:
    return f"{check['status']}{', estimated' if check['estimated'] else ''}"
