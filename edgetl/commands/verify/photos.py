"""The photos that `edgetl verify` measures on, and whether they have the classes of the net."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.core.errors import DataError
from edgetl.core.progress import Progress
from edgetl.core.store import Store
from edgetl.core.words import composed, printable

if TYPE_CHECKING:
    from edgetl.commands.verify.result import PhotosRow


@dataclass(frozen=True)
class Photos:
    """The photos to measure on: paths, labels and digests in one order. source: the folder they were listed from. data: about them, for the
    result."""

    paths: list[Path]
    labels: list[str]
    digests: list[str]
    source: Path
    data: PhotosRow

    def numbers(self, classes: Sequence[str]) -> list[int]:
        """For each photo, the position of its class."""
        number = _numbers(classes)
        return [number[composed(label)] for label in self.labels]


def _numbers(classes: Sequence[str]) -> dict[str, int]:
    return {composed(label): i for i, label in enumerate(classes)}


def find_photos(
    classes: Sequence[str] | None,
    fingerprint: str,
    owner: str,
    photos: str,
    store: Store,
    progress: Progress,
    skip_bad: bool,
) -> Photos:
    """The photos to measure on; of a data set with splits, the test photos only.

    classes: None for the classes that the photos have. fingerprint: of the photos that the owner was built from, "" if unknown. owner: for
    messages. Raises DataError.
    """
    from edgetl.dataset.catalogue import resolve
    from edgetl.dataset.index import PhotoIndex
    from edgetl.dataset.scan import list_photos
    from edgetl.tasks.photos.faults import validate

    def on_checked(done: int, total: int) -> None:
        if done == 1:
            progress.begin(total, unit="photos")
        progress.advance(1)

    store.prepare()
    index = PhotoIndex(store.root / "index.sqlite")
    try:
        source = resolve(photos, store.downloads, progress.note, fetch=True)
        listing = list_photos(source, index)
        if listing.photos and classes is not None:
            labels = [*listing.empty, *(photo.label for photo in listing.photos)]
            check_classes(classes, labels, listing.source, owner=owner)
        good, offenders = validate(listing, index, skip_bad=skip_bad, to_train=False, on_checked=on_checked)
    finally:
        index.close()
    split = "test" if any(photo.split == "test" for photo in good) else ""
    chosen = [photo for photo in good if photo.split == split] if split else good
    if classes is not None:
        check_classes(classes, [photo.label for photo in chosen], listing.source, owner=owner)
    counts = Counter(composed(photo.label) for photo in chosen)
    here = f"sha256:{listing.fingerprint}"
    data: PhotosRow = {
        "source": printable(listing.source, 4096),
        "split": split or "all",
        "n": len(chosen),
        "per_class": {label: counts[composed(label)] for label in classes or sorted(counts)},
        "fingerprint": here,
        # Then most of them trained the net, unless only the test photos are used.
        "trained_on": here == fingerprint and not split,
        "left_out": [{"what": printable(offender.what, 4096), "why": offender.why} for offender in offenders],
    }
    return Photos(
        [photo.path for photo in chosen],
        [photo.label for photo in chosen],
        [photo.sha256 for photo in chosen],
        source if source.is_dir() else source.parent,
        data,
    )


def check_classes(classes: Sequence[str], found: Sequence[str], source: str, *, owner: str = "the bundle") -> None:
    """Raises DataError that names every class of the photos that the owner of `classes` does not know, and the other way round.

    Names are compared, not positions: the outputs of a bundle are in the order of its labels.txt, folders in alphabetical order.
    """
    known, seen = set(_numbers(classes)), {composed(label) for label in found}
    lines = [f"  - {printable(label)}: not a class of {owner}" for label in sorted(seen - known)]
    lines += [f"  - {printable(label)}: no photo of this class" for label in sorted(known - seen)]
    if lines:
        raise DataError(
            f"{printable(source, 4096)} does not have the classes of {owner}:\n" + "\n".join(lines),
            why=f"the classes of {owner} are {', '.join(printable(label) for label in classes)}",
            fix="name the class folders (or the CSV's labels) like the lines of its labels.txt",
        )
