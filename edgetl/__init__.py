"""edgetl: photos in, a small quantized classifier for a named device out, measured on the file that ships.

import edgetl
results = edgetl.build("photos", targets=["raspberry-pi-4"], out="out")
results[0].report["checks"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgetl.core.version import __version__ as __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from edgetl.commands.build.run import Built


def build(
    photos: str | Path,
    *,
    targets: Sequence[str],
    out: str | Path,
    recipe: Mapping[str, Any] | None = None,
    effort: str = "standard",
    cache: str | Path | None = None,
    overwrite: bool = False,
    strict: bool = False,
    accept_estimates: bool = False,
) -> list[Built]:
    """Build for every target, as `edgetl build` does.

    photos: a folder of class folders, a CSV, or a known data set's name. targets: names or paths of .toml files.
    recipe: tables of edgetl.stages.recipe.Recipe with the keys that differ from the defaults; a student.backbone of "auto" is
    chosen by the targets' budgets. accept_estimates: an estimated latency may decide if the target is not this machine.
    Returns one Built per target, in order; the verdicts are in its `report` and `exit_code`. Raises
    edgetl.core.errors.EdgetlError for failures that a user can fix.
    """
    from pathlib import Path

    from edgetl.commands.build import run
    from edgetl.commands.build.student import take_auto
    from edgetl.console.progress import PlainDisplay
    from edgetl.core.store import Store, default_cache
    from edgetl.stages.recipe import EFFORTS, make_recipe, merge
    from edgetl.targets.target import load_target

    store = Store(Path(cache) if cache is not None else default_cache())
    tables, auto = take_auto(merge(EFFORTS[effort], dict(recipe or {})))
    made = make_recipe(tables)
    order = run.Order(
        made, [load_target(name) for name in targets], Path(out), overwrite, strict, auto, accept_estimates
    )
    return run.build(str(photos), order, store, PlainDisplay())
