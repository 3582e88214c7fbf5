"""What is wrong with a data set: its photos, each opened and decoded once, and its classes; and the photos to use."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from edgetl.core import machine
from edgetl.core.errors import DataError
from edgetl.dataset.index import PhotoIndex
from edgetl.dataset.scan import Listing, Offender, Photo, shown_name

# Enough for one photo in validation and one in test beside a training side that is not absurd.
MIN_PHOTOS_PER_CLASS = 10


def validate(
    listing: Listing,
    index: PhotoIndex,
    *,
    skip_bad: bool,
    to_train: bool = True,
    on_checked: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Photo], list[Offender]]:
    """The usable photos, one for each content, and what was left out.

    Opens and decodes every photo that was not decoded before. Raises DataError with every offender in one message,
    unless skip_bad: then photos are left out; faults of the classes themselves still raise. to_train: whether there
    must be enough of each class to train on.
    """
    from edgetl.tasks.photos import decode as photo_files

    def check(digest: str) -> tuple[str, bool]:
        try:
            return photo_files.why_refused(path_of[digest]), True
        except OSError as error:  # the disk's fault, not the photo's: not remembered
            return f"cannot be read ({error.strerror})", False

    verdicts = index.verdicts(photo_files.CHECKER_VERSION)
    path_of = listing.path_of()
    unknown = [digest for digest in path_of if digest not in verdicts]
    batch: list[tuple[str, str]] = []
    with ThreadPoolExecutor(machine.cores()) as pool:
        for done, (digest, (why, lasting)) in enumerate(zip(unknown, pool.map(check, unknown), strict=True), 1):
            verdicts[digest] = why
            if lasting:
                batch.append((digest, why))
            on_checked(done, len(unknown))
            if len(batch) == 256 or done == len(unknown):
                index.remember_verdicts(photo_files.CHECKER_VERSION, batch)
                batch = []

    offenders = list(listing.offenders)
    good: list[Photo] = []
    for photo in listing.photos:
        if verdicts[photo.sha256]:
            offenders.append(
                Offender(
                    shown_name(photo.path),
                    verdicts[photo.sha256],
                    "fix or convert it, or leave it out with --skip-bad",
                )
            )
        else:
            good.append(photo)
    unique, conflicts = _one_of_each(good)
    offenders += conflicts
    class_faults = _class_faults(listing, unique, to_train)
    if class_faults or (offenders and not skip_bad):
        _refuse(listing, [*offenders, *class_faults], skippable=not class_faults)
    return unique, offenders


def _one_of_each(photos: Sequence[Photo]) -> tuple[list[Photo], list[Offender]]:
    """One photo of each content; the same content under two labels or in two given splits is an offence."""
    by_digest: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        by_digest[photo.sha256].append(photo)
    kept: list[Photo] = []
    offenders: list[Offender] = []
    for copies in by_digest.values():
        labels = sorted({photo.label for photo in copies})
        splits = sorted({photo.split or "train" for photo in copies})
        where = " = ".join(shown_name(photo.path) for photo in copies)
        if len(labels) > 1:
            offenders.append(
                Offender(
                    where,
                    f"the same photo under the labels {' and '.join(labels)}",
                    "keep the right one; --skip-bad leaves out all of them",
                )
            )
        elif len(splits) > 1:
            offenders.append(
                Offender(
                    where,
                    f"the same photo in {' and '.join(splits)}: accuracy would be measured on what was trained on",
                    "keep one; --skip-bad leaves out all of them",
                )
            )
        else:
            kept.append(copies[0])
    return kept, offenders


def _class_faults(listing: Listing, unique: Sequence[Photo], to_train: bool) -> list[Offender]:
    counts = Counter(dict.fromkeys([*listing.empty, *(photo.label for photo in listing.photos)], 0))
    counts.update(photo.label for photo in unique)
    faults = _name_faults(sorted(counts))
    if not unique:
        return [*faults, Offender(listing.source, "no usable photo is left", "see the other lines")]
    if not to_train:
        return faults
    if len(counts) == 1:
        faults.append(
            Offender(
                f"class {shown_name(next(iter(counts)))}",
                "the only class: a classifier needs at least two",
                "add a folder with photos of something else",
            )
        )
    given = {photo.split for photo in unique} - {""}
    # One photo to train on, and one for each side that has to be taken from the training side.
    needed = 1 + sum(side not in given for side in ("validate", "test"))
    for label, count in sorted(counts.items()):
        if count < MIN_PHOTOS_PER_CLASS:
            faults.append(
                Offender(
                    f"class {shown_name(label)}",
                    f"{count} usable photos; it takes at least {MIN_PHOTOS_PER_CLASS} different ones",
                    f"add {MIN_PHOTOS_PER_CLASS - count}, or take the class out",
                )
            )
        elif given:
            here = Counter(photo.split or "train" for photo in unique if photo.label == label)
            wrong = []
            if here["train"] < needed:
                wrong.append(f"{here['train'] or 'no'} photo in train; it takes at least {needed}")
            if "test" in given and here["test"] == 0:
                wrong.append("no photo in test")
            faults += [
                Offender(f"class {shown_name(label)}", why, "every class needs photos on both sides") for why in wrong
            ]
    return faults


def _name_faults(labels: Iterable[str]) -> list[Offender]:
    spellings: dict[str, set[str]] = defaultdict(set)
    unwritable = []
    for label in labels:
        spellings[unicodedata.normalize("NFC", label).casefold()].add(shown_name(label))
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in label):
            unwritable.append(
                Offender(
                    f"class {shown_name(label)!r}",
                    "its name has a line break, another control character, or bytes that are not UTF-8",
                    "rename it: labels.txt has one name a line",
                )
            )
    return unwritable + [
        Offender(
            " and ".join(sorted(names)),
            "class names that are equal up to upper and lower case",
            "rename or join them: some file systems and apps take them for one",
        )
        for _, names in sorted(spellings.items())
        if len(names) > 1
    ]


def _refuse(listing: Listing, offenders: Sequence[Offender], *, skippable: bool) -> None:
    lines = "\n".join(
        f"  - {offender.what}\n      why: {offender.why}\n      fix: {offender.fix}" for offender in offenders
    )
    count = f"{len(offenders)} problem{'s' if len(offenders) > 1 else ''}"
    raise DataError(
        f"{listing.source} cannot be used as it is: {count}.\n{lines}",
        fix="correct them, or leave out the bad photos with --skip-bad"
        if skippable
        else "correct them: these are faults of the data set, --skip-bad does not help",
    )
