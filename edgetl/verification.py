"""Verification: a bundle's files on photos that a user gives, judged as a build judges them on its test split. Light:
photos and model files are opened by the folders below."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetl import machine
from edgetl.bundle import Bundle, open_bundle
from edgetl.errors import DataError, UsageError
from edgetl.formats.census import printable
from edgetl.report import Check, drop_check, exact_check, parity_checks
from edgetl.store import Store

if TYPE_CHECKING:
    from edgetl.pipeline import Display

_FLOAT32 = "float32"
_OF_FLOATS = {"float32", "float16", "dynamic"}
# Float files on golden's own tensors differ by the order of additions alone (report._FLOAT_LIMITS). Where activations lie
# on a grid (dynamic's too, drawn on each run), kernels may round half a step either way: one step of an int8 softmax.
_GOLDEN_LIMITS = {"float32": 1e-3, "float16": 1e-3}
_GOLDEN_STEP = 1 / 256
# Both sides are float32 by way of decimal numbers: one step may be 1.0000001 of it.
_ROUNDED = 1.0001


def verify_bundle(
    folder: Path,
    photos: str,
    store: Store,
    display: Display,
    *,
    max_drop_pp: float | None = None,
    skip_bad: bool = False,
) -> dict[str, Any]:
    """Plain data: {bundle, data, max_drop_pp, machine, runtimes, versions, parity_matrix, golden, checks}.

    photos: as for a build. max_drop_pp: None for the target's budget. store: where what is known of photos is kept.
    Raises DataError for a bundle that is not as it was built, or photos of other classes; MissingError without a runtime;
    UsageError for a limit that is none.
    """
    from edgetl.measure.versions import measure_versions

    if max_drop_pp is not None and not 0 <= max_drop_pp <= 100:
        raise UsageError(f"A drop of {max_drop_pp} points cannot be a limit.", fix="give points from 0 to 100")
    bundle = open_bundle(folder)
    with display.stage(1, 2, "photos") as progress:
        chosen, data = _photos(bundle, photos, store, progress, skip_bad)
    number = _numbers(bundle.classes)
    with display.stage(2, 2, "verify") as progress:
        measured = measure_versions(
            bundle,
            [photo.path for photo in chosen],
            [number[_composed(photo.label)] for photo in chosen],
            [photo.sha256 for photo in chosen],
            progress,
        )
    limit = bundle.top1_drop_pp if max_drop_pp is None else max_drop_pp
    against_float = _against_float(bundle, measured)
    for name, row in measured["versions"].items():
        row["against_float"] = against_float.get(name)
    return {
        "bundle": {
            "folder": printable(str(folder), 4096),
            "target": bundle.target,
            "classes": list(bundle.classes),
            "files": [asdict(file) for file in bundle.files],
        },
        "data": data,
        "max_drop_pp": limit,
        "machine": machine.describe(),
        **measured,
        "checks": [asdict(check) for check in judge_versions(bundle, measured, max_drop_pp=limit)],
    }


def _composed(label: str) -> str:
    """A class's name however a file system spells its accents."""
    return unicodedata.normalize("NFC", label)


def _numbers(classes: Sequence[str]) -> dict[str, int]:
    return {_composed(label): i for i, label in enumerate(classes)}


def _photos(
    bundle: Bundle, photos: str, store: Store, progress: Any, skip_bad: bool
) -> tuple[list[Any], dict[str, Any]]:
    """The photos to measure on, and the result's `data`. Where the photos are split, those for testing alone."""
    from edgetl.dataset.catalogue import resolve
    from edgetl.dataset.index import PhotoIndex
    from edgetl.dataset.scan import list_photos, validate

    def on_checked(done: int, total: int) -> None:
        if done == 1:
            progress.begin(total, unit="photos")
        progress.advance(1)

    store.prepare()
    index = PhotoIndex(store.root / "index.sqlite")
    try:
        listing = list_photos(resolve(photos, store.downloads, progress.note, fetch=True), index)
        if listing.photos:
            check_classes(bundle.classes, [*listing.empty, *(photo.label for photo in listing.photos)], listing.source)
        good, offenders = validate(listing, index, skip_bad=skip_bad, to_train=False, on_checked=on_checked)
    finally:
        index.close()
    split = "test" if any(photo.split == "test" for photo in good) else ""
    chosen = [photo for photo in good if photo.split == split] if split else good
    check_classes(bundle.classes, [photo.label for photo in chosen], listing.source)
    counts = Counter(_composed(photo.label) for photo in chosen)
    fingerprint = f"sha256:{listing.fingerprint}"
    return chosen, {
        "source": printable(listing.source, 4096),
        "split": split or "all",
        "n": len(chosen),
        "per_class": {label: counts[_composed(label)] for label in bundle.classes},
        "fingerprint": fingerprint,
        # Then most of them trained the net, unless only those for testing are taken.
        "trained_on": fingerprint == bundle.fingerprint and not split,
        "left_out": [{"what": printable(offender.what, 4096), "why": offender.why} for offender in offenders],
    }


def check_classes(classes: Sequence[str], found: Sequence[str], source: str) -> None:
    """Raises DataError naming every class of the photos that the bundle does not know, and the other way round.

    Names decide, not positions: a bundle's outputs are in the order of its labels.txt, folders in that of their names.
    """
    known, seen = set(_numbers(classes)), {_composed(label) for label in found}
    lines = [f"  - {printable(label)}: the bundle does not know this class" for label in sorted(seen - known)]
    lines += [f"  - {printable(label)}: no photo of this class" for label in sorted(known - seen)]
    if lines:
        raise DataError(
            f"{printable(source, 4096)} has not the classes of the bundle:\n" + "\n".join(lines),
            why=f"the bundle tells apart {', '.join(printable(label) for label in classes)}",
            fix="name the class folders (or the CSV's labels) like the lines of the bundle's labels.txt",
        )


def _runtimes_of(bundle: Bundle) -> list[tuple[Any, str, str]]:
    """(file, runtime, the version's name) of every file on every runtime that opens its kind, here or not."""
    from edgetl.runtimes import runtimes_for

    return [
        (file, runtime, f"models/{file.name}@{runtime}")
        for file in bundle.student_files
        for runtime in runtimes_for(Path(file.name))
    ]


def _against_float(bundle: Bundle, measured: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Version -> its pair with the float32 file of its format on the same runtime; float32 files have none."""
    pairs = {(pair["a"], pair["b"]): pair for pair in measured["parity_matrix"]["pairs"]}
    rows = _runtimes_of(bundle)
    floats = {(file.format, runtime): name for file, runtime, name in rows if file.precision == _FLOAT32}
    return {
        name: {key: value for key, value in pair.items() if key != "flipped"}
        for file, runtime, name in rows
        if (pair := pairs.get((floats.get((file.format, runtime), ""), name))) is not None
    }


def judge_versions(bundle: Bundle, measured: Mapping[str, Any], *, max_drop_pp: float) -> list[Check]:
    """Every check of a verification, in the order shown. Pure. measured: as measure.versions gives it."""
    against_float = _against_float(bundle, measured)
    rows = _runtimes_of(bundle)
    absent = {name: state for name, state in measured["runtimes"].items() if state != "ready"}
    checks = _golden_checks(rows, measured["golden"], absent)
    for file, runtime, name in rows:
        if not file.ships or file.precision == _FLOAT32:
            continue
        subject = f"{file.name}@{runtime}"
        pair = against_float.get(name)
        if pair is None:
            reason = absent.get(runtime, f"the bundle has no float32 file of the {file.format} format to compare with")
            checks.append(Check("top1_drop_pp", subject, max_drop_pp, None, None, "unmeasured", reason))
        else:
            checks.append(drop_check(subject, max_drop_pp, pair, reference=pair["a"].removeprefix("models/")))
    file_of = {name: file for file, _, name in rows}
    precision_of = {file.name: file.precision for file in bundle.files}
    for pair in measured["parity_matrix"]["pairs"]:
        a, b = file_of[pair["a"]], file_of[pair["b"]]
        # Two files of one set of numbers: of the float weights, of the integers. Dynamic ranges are each run's own.
        halved = a.precision == _FLOAT32 and b.precision == "float16" and a.format == b.format
        if halved or a.precision == b.precision == _FLOAT32 or not {a.precision, b.precision} & _OF_FLOATS:
            checks += parity_checks(pair, precision_of)
    return checks


def _golden_checks(
    rows: Sequence[tuple[Any, str, str]], golden: Mapping[str, Any] | None, absent: Mapping[str, str]
) -> list[Check]:
    """The preprocessing, then each file on golden's tensors: is this machine's answer the one the build wrote down?"""
    if golden is None or not golden["photos"]:
        reason = "the bundle has no golden/ with photos to replay"
        return [Check("golden", "golden/", 0.0, None, None, "unmeasured", reason)]
    reason = f"{golden['differing']} of {golden['values']} values of {golden['photos']} golden photos' tensors are not golden's"
    checks = [exact_check("golden_input", "contract.json", 0.0, golden["differing"], reason)]
    for file, runtime, name in rows:
        subject, limit = f"{file.name}@{runtime}", _GOLDEN_LIMITS.get(file.precision, _GOLDEN_STEP)
        apart = golden["files"].get(name)
        if apart is None:
            reason = absent.get(runtime, "golden/ has no probabilities of it: the build had no such runtime")
            checks.append(Check("golden", subject, limit, None, None, "unmeasured", reason))
        else:
            reason = f"a probability of a golden photo is up to {apart:.2g} from what the build measured"
            status = exact_check("golden", subject, limit * _ROUNDED, apart, reason).status
            checks.append(Check("golden", subject, limit, apart, None, status, reason))
    return checks
