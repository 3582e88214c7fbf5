"""What a stage is given besides its options and inputs. Light: stages and the pipeline both import it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgetl.core.progress import Progress


@dataclass(frozen=True)
class Context:
    """out: the empty folder the stage fills. scratch: survives a killed run. photos: sha256 -> file.

    listing: the data set as found (split; verify, for the photos' names). local_file: first weights found on this machine (weights stage).
    """

    out: Path
    scratch: Path
    progress: Progress
    photos: Mapping[str, Path]
    cache: Path
    listing: object = None
    local_file: Path | None = None
