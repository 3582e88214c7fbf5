"""Check every photo, drop copies, and split the rest into train, validate and test: dataset.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, cast

from edgetl.core.store import Artifact
from edgetl.dataset.index import PhotoIndex
from edgetl.dataset.split import split_photos
from edgetl.stages.context import Context
from edgetl.stages.records import SplitJson, SplitPhoto
from edgetl.tasks.photos.faults import validate

_Split = Literal["train", "validate", "test"]


def run(options: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Context) -> None:
    """Writes {classes, photos: [{sha256, label, split}], left_out, duplicates, fingerprint}. Raises DataError."""
    listing = context.listing
    assert listing is not None
    index = PhotoIndex(context.cache / "index.sqlite")
    seen = 0

    def on_checked(done: int, total: int) -> None:
        nonlocal seen
        if seen == 0:
            context.progress.begin(total, unit="photos")
        context.progress.advance(done - seen)
        seen = done

    try:
        photos, offenders = validate(listing, index, skip_bad=options["skip_bad"], on_checked=on_checked)
    finally:
        index.close()
    classes = sorted({photo.label for photo in photos})
    splits = split_photos(
        photos,
        validate_fraction=options["validate_fraction"],
        test_fraction=options["test_fraction"],
        seed=options["seed"],
    )
    number = {name: i for i, name in enumerate(classes)}
    # By content, not by path: the artifact must not depend on where the photos are.
    rows = [
        SplitPhoto(sha256=photo.sha256, label=number[photo.label], split=cast(_Split, splits[photo.sha256]))
        for photo in photos
    ]
    dataset: SplitJson = {
        "classes": classes,
        "photos": sorted(rows, key=lambda row: row["sha256"]),
        "left_out": [
            {"what": offender.what.replace(f"{listing.source}/", ""), "why": offender.why} for offender in offenders
        ],
        "duplicates": len(listing.photos) - len({photo.sha256 for photo in listing.photos}),
        "fingerprint": f"sha256:{listing.fingerprint}",
    }
    (context.out / "dataset.json").write_text(json.dumps(dataset, indent=1))
