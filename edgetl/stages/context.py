"""What a stage gets besides its options and inputs. Light: stages and the pipeline both import it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.core.progress import Progress

if TYPE_CHECKING:
    from edgetl.dataset.scan import Listing


@dataclass(frozen=True)
class Context:
    """out: the empty folder that the stage fills. scratch: survives a killed run. photos: sha256 -> file. cache: the folder of
    everything that builds share.

    listing: the data set as it is on disk (for split, and for the photos' names in verify). local_file: first weights on this
    machine (for weights).
    """

    out: Path
    scratch: Path
    progress: Progress
    photos: Mapping[str, Path]
    cache: Path
    listing: Listing | None = None
    local_file: Path | None = None
