"""Train, validate, test: decided by content, so that the same photos get the same split on any machine. Pure."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from edgetl.dataset.scan import Photo


def _rank(photo: Photo, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{photo.sha256}".encode()).hexdigest()


def split_photos(
    photos: Sequence[Photo], *, validate_fraction: float, test_fraction: float, seed: int
) -> dict[str, str]:
    """sha256 -> "train", "validate" or "test", stratified by label.

    A split given by the data is kept; a missing one (validation or test) is drawn from its training photos by the
    fractions. Every class gets at least one photo in each split if it has enough (edgetl.tasks.photos.faults checks
    that), and training always keeps at least one.
    """
    assigned = {photo.sha256: photo.split for photo in photos if photo.split in ("validate", "test")}
    given = set(assigned.values())
    free: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        if photo.sha256 not in assigned:
            free[photo.label].append(photo)
    for members in free.values():
        order = sorted(members, key=lambda photo: _rank(photo, seed))
        n_test = 0 if "test" in given else max(1, round(len(order) * test_fraction))
        n_validate = 0 if "validate" in given else max(1, round(len(order) * validate_fraction))
        spare = max(0, len(order) - 1)
        n_test = min(n_test, max(0, spare - min(1, n_validate)))
        n_validate = min(n_validate, spare - n_test)
        for position, photo in enumerate(order):
            assigned[photo.sha256] = (
                "test" if position < n_test else "validate" if position < n_test + n_validate else "train"
            )
    return assigned


def calibration_order(digests: Sequence[str], seed: int) -> list[str]:
    """Training digests in a fixed random order; the first ones are the calibration photos."""
    return sorted(digests, key=lambda digest: hashlib.sha256(f"calibrate:{seed}:{digest}".encode()).hexdigest())
