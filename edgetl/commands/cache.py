"""`edgetl cache`: results kept between builds."""

from __future__ import annotations

import typer

from edgetl.console.options import CacheOption, JsonOption
from edgetl.console.output import open_store, print_json, stdout

cache_app = typer.Typer(help="Results kept between builds.", no_args_is_help=True)


@cache_app.command("list")
def cache_list(as_json: JsonOption = False, cache: CacheOption = None) -> None:
    """List the kept results and their sizes."""
    from rich.table import Table

    from edgetl.core.words import human_bytes

    entries = open_store(cache).entries()
    if as_json:
        print_json(
            {
                "artifacts": [
                    {"key": key, "kind": record["kind"], "bytes": record["bytes"], "seconds": record["seconds"]}
                    for key, record in entries
                ]
            }
        )
        return
    table = Table()
    for name in ("kind", "key", "size", "made in"):
        table.add_column(name)
    for key, record in entries:
        table.add_row(record["kind"], key[:12], human_bytes(record["bytes"]), f"{record['seconds']:.0f} s")
    stdout().print(table)


@cache_app.command("clear")
def cache_clear(as_json: JsonOption = False, cache: CacheOption = None) -> None:
    """Remove all kept results and downloads."""
    from edgetl.core.words import human_bytes

    freed = open_store(cache).clear()
    if as_json:
        print_json({"bytes_freed": freed})
    else:
        stdout().print(f"{human_bytes(freed)} freed")
