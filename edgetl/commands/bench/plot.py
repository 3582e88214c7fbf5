"""The Pareto plot: latency against accuracy and size. Needs matplotlib (`pip install 'edgetl[plot]'`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from edgetl.commands.bench.rows import RowJson
from edgetl.core.errors import MissingError, UsageError

_MARKERS = "osD^vP*X<>hp"


def check_plot(path: Path) -> None:
    """Called before anything is measured. Raises MissingError without matplotlib, UsageError for a file that it cannot write."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingError("--plot needs matplotlib.", why="it is not installed", fix="pip install 'edgetl[plot]'")
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--plot {path} is not the name of an image.", fix="give a .png, .svg or .pdf file")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is not a folder.", fix="create it, or give another file name")


def draw(path: Path, rows: Sequence[RowJson], machine: str) -> None:
    """One point per timed row: p50 on the horizontal axis (logarithmic), accuracy on the vertical one, and the file's size as
    the area of the point. A line joins the rows that no other row beats in both. Without accuracies, the vertical axis is
    the size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    timed = [(row, p50) for row in rows if (p50 := row["p50_ms"]) is not None and row["status"] != "failed"]
    if not timed:
        raise UsageError("There is nothing to draw.", why="no row was timed", fix="the table shows why")
    accurate = all(row.get("top1") is not None for row, _ in timed)
    height = [100 * (row.get("top1") or 0.0) if accurate else (row.get("bytes") or 0) / 1e6 for row, _ in timed]
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    backends = sorted({row["backend"] for row, _ in timed})
    colours = pyplot.get_cmap("tab10")
    precisions = sorted({str(row.get("precision") or row["name"]) for row, _ in timed})
    for (row, p50), level in zip(timed, height, strict=True):
        low, high = row["p50_interval_ms"] or (p50, p50)
        axes.errorbar(
            p50,
            level,
            xerr=[[p50 - min(low, p50)], [max(high, p50) - p50]],
            fmt=_MARKERS[precisions.index(str(row.get("precision") or row["name"])) % len(_MARKERS)],
            color=colours(backends.index(row["backend"]) % 10),
            markersize=4 + 3 * ((row.get("bytes") or 1e6) / 1e6) ** 0.5,
            alpha=0.85,
        )
    front = _front([(p50, level) for (_, p50), level in zip(timed, height, strict=True)], higher=accurate)
    axes.plot(*zip(*front, strict=True), color="0.6", linewidth=1, zorder=0)
    for backend in backends:
        axes.plot([], [], "s", color=colours(backends.index(backend) % 10), label=backend)
    for precision in precisions:
        axes.plot([], [], _MARKERS[precisions.index(precision) % len(_MARKERS)], color="0.3", label=precision)
    axes.set_xscale("log")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis("{x:g}")
    axes.tick_params(axis="x", which="minor", labelsize=7)
    axes.set_xlabel("milliseconds per photo, median (log scale)")
    axes.set_ylabel("top-1 on the build's test photos, %" if accurate else "file, MB")
    axes.set_title(f"{machine}: the area of a point is the file's size" if accurate else machine, fontsize=10)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8, ncols=2)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written.", why=str(error), fix="give another file name with --plot"
        ) from None
    finally:
        pyplot.close(figure)


def _front(points: Sequence[tuple[float, float]], *, higher: bool) -> list[tuple[float, float]]:
    """The points that no other point beats in both. higher: whether a higher level is better (accuracy) or worse (size).

    >>> _front([(1.0, 80.0), (2.0, 90.0), (3.0, 85.0)], higher=True)
    [(1.0, 80.0), (2.0, 90.0)]
    """
    front: list[tuple[float, float]] = []
    for time, level in sorted(points, key=lambda point: (point[0], -point[1] if higher else point[1])):
        if not front or (level > front[-1][1] if higher else level < front[-1][1]):
            front.append((time, level))
    return front
