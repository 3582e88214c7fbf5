"""Samples: the split data set as stages read it from its artifact, with the paths of the photos."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgetl.dataset.split import calibration_order


@dataclass(frozen=True)
class Samples:
    """Photos of one split in a fixed order. labels: the class index of each, int32 [n]."""

    paths: tuple[Path, ...]
    labels: np.ndarray
    digests: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class SplitDataset:
    """The artifact of the split stage."""

    classes: tuple[str, ...]
    train: Samples
    validate: Samples
    test: Samples

    def calibrate(self, count: int, seed: int) -> Samples:
        """The first `count` training photos in calibration order: never validation, never test."""
        position = {digest: i for i, digest in enumerate(self.train.digests)}
        chosen = [position[digest] for digest in calibration_order(self.train.digests, seed)[:count]]
        return Samples(
            tuple(self.train.paths[i] for i in chosen),
            self.train.labels[chosen],
            tuple(self.train.digests[i] for i in chosen),
        )


def load_split(artifact: Path, path_of: Mapping[str, Path]) -> SplitDataset:
    """Read dataset.json. path_of: sha256 -> file."""
    data = json.loads((artifact / "dataset.json").read_text())

    def samples(split: str) -> Samples:
        rows = [row for row in data["photos"] if row["split"] == split]
        return Samples(
            tuple(path_of[row["sha256"]] for row in rows),
            np.array([row["label"] for row in rows], np.int32),
            tuple(row["sha256"] for row in rows),
        )

    return SplitDataset(tuple(data["classes"]), samples("train"), samples("validate"), samples("test"))
