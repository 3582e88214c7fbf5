"""Where things go in the plots of report.html. Pure geometry: numbers in, coordinates out; the templates draw.

Plain SVG and CSS rather than a plotting library's image: it uses the page's own fonts and colours, light or dark, and is
a tenth of the size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NotRequired, TypedDict

_Box = tuple[float, float, float, float]  # left, top, right, bottom in the plot's own units


class Bar(TypedDict):
    """An interval and a point on a track, in percent of the track's width. limit, zero: marks on the track."""

    left: float
    width: float
    point: float
    limit: NotRequired[float]
    zero: NotRequired[float]


class Tick(TypedDict):
    """at: its place on the axis. text: set by write_ticks."""

    at: float
    value: float
    text: NotRequired[str]


class Label(TypedDict):
    """Where a dot's name goes. end: the text ends there. far: a line has to lead to it."""

    x: float
    y: float
    end: bool
    far: bool


class Named(TypedDict):
    """Something at (x, y) with a name, "" for none. label: set once the plot is laid out; None where there is no room."""

    x: float
    y: float
    text: str
    label: NotRequired[Label | None]


class Dot(Named):
    """A share with its interval against milliseconds; in a finished plot, all of them as coordinates."""

    low: float
    high: float
    ships: NotRequired[bool]
    title: NotRequired[str]


class Scatter(TypedDict):
    """A finished scatter plot."""

    box: _Box
    dots: list[Dot]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


class LayerDot(Named):
    """The figure of one layer."""

    node: str
    op: str
    value: float


class Along(TypedDict):
    """A finished plot along the net. lines: figure -> points."""

    box: _Box
    dots: list[LayerDot]
    lines: dict[str, list[tuple[float, float]]]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


class Point(TypedDict):
    """A place in a plot."""

    x: float
    y: float


class BestPoint(Point):
    """The point of the epoch that was kept, with its figure."""

    value: float


class Curve(TypedDict):
    """A finished plot of a figure against the epoch. before: the point before training."""

    box: _Box
    points: list[Point]
    before: Point | None
    best: BestPoint | None
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def bar(low: float, high: float, point: float, domain: tuple[float, float]) -> Bar:
    """An interval and a point on a track, in percent of the track's width.

    >>> bar(0.0, 1.0, 0.5, (0.0, 1.0))
    {'left': 8.0, 'width': 84.0, 'point': 50.0}
    """
    left, right = track(low, domain), track(high, domain)
    return {"left": left, "width": round(right - left, 2), "point": track(point, domain)}


def track(value: float, domain: tuple[float, float]) -> float:
    """A value's place on a track, in percent, with a margin of 8% at both ends of the domain."""
    return round(8 + 84 * (value - domain[0]) / ((domain[1] - domain[0]) or 1.0), 2)


def scatter(dots: Sequence[Dot]) -> Scatter:
    """Shares against milliseconds on a log axis. dots: the first ones get a place for their name first."""
    box = left, top, right, bottom = (46.0, 8.0, 394.0, 250.0)
    x_low, x_high = (math.log(edge(dot["x"] for dot in dots) * factor) for edge, factor in ((min, 1 / 1.5), (max, 1.5)))
    y_low, y_high = _domain([dot["low"] for dot in dots] + [dot["high"] for dot in dots])

    def x(value: float) -> float:
        return round(left + (right - left) * (math.log(value) - x_low) / (x_high - x_low), 1)

    def y(value: float) -> float:
        return round(bottom - (bottom - top) * (value - y_low) / (y_high - y_low), 1)

    placed: list[Dot] = [
        {**dot, "x": x(dot["x"]), "y": y(dot["y"]), "low": y(dot["low"]), "high": y(dot["high"])} for dot in dots
    ]
    _place_names(placed, box)
    return {
        "box": box,
        "dots": placed,
        "x_ticks": [{"at": x(tick), "value": tick} for tick in log_ticks(math.exp(x_low), math.exp(x_high))],
        "y_ticks": [{"at": y(tick), "value": tick} for tick in nice_ticks(y_low, y_high, 5)],
    }


def _place_names(dots: Sequence[Named], box: _Box, *, radius: float = 6) -> None:
    """Give each dot that has a name the nearest place for it that covers no dot and no other name."""
    taken: list[_Box] = [(dot["x"] - radius, dot["y"] - radius, dot["x"] + radius, dot["y"] + radius) for dot in dots]
    for dot in dots:
        dot["label"] = None  # too many dots for names: the table and the tooltip have them
        width = 6.2 * len(dot["text"])  # of 11 px type
        if not width:
            continue
        for dy, side in ((dy, side) for dy in sorted(range(-210, 211, 15), key=abs) for side in (1, -1)):
            near, middle = dot["x"] + 9 * side, dot["y"] + dy
            edges = (min(near, near + side * width), middle - 7, max(near, near + side * width), middle + 7)
            if _inside(edges, box) and not any(_overlap(edges, other) for other in taken):
                taken.append(edges)
                dot["label"] = {"x": near, "y": middle, "end": side < 0, "far": abs(dy) > 15}
                break


def along(rows: Sequence[Mapping[str, Any]], *, figure: str, beside: str = "", named: int = 3) -> Along | None:
    """A figure of each layer, in the order of the net. rows: {node, op, [figure], [beside]}; `beside` is a second line.

    Figures that are missing or not finite (a tensor without any noise) are left out. The `named` lowest show their name.
    None when no figure is left.
    """
    box = left, top, right, bottom = (46.0, 8.0, 532.0, 190.0)
    found = {
        key: [(i, float(row[key])) for i, row in enumerate(rows) if is_finite(row.get(key))]
        for key in (figure, beside)
        if key
    }
    if not found[figure]:
        return None
    y_low, y_high = _domain([value for points in found.values() for _, value in points])

    def place(i: float, value: float) -> tuple[float, float]:
        x = left + 8 + (right - left - 16) * (i / (len(rows) - 1) if len(rows) > 1 else 0.5)
        return round(x, 1), round(bottom - (bottom - top) * (value - y_low) / (y_high - y_low), 1)

    lowest = sorted(found[figure], key=lambda point: point[1])
    dots: list[LayerDot] = []
    for rank, (i, value) in enumerate(lowest):
        x, y = place(i, value)
        name = rows[i]["node"] if rank < named else ""
        dots.append(
            {"x": x, "y": y, "node": rows[i]["node"], "op": rows[i].get("op", ""), "value": value, "text": name}
        )
    _place_names(dots, box, radius=2.5)
    return {
        "box": box,
        "dots": dots,
        "lines": {key: [place(*point) for point in points] for key, points in found.items()},
        # Layers are counted from 1.
        "x_ticks": [
            {"at": place(tick - 1, y_low)[0], "value": int(tick)}
            for tick in nice_ticks(1, max(2, len(rows)), 6)
            if tick == int(tick) and 1 <= tick <= len(rows)
        ],
        "y_ticks": [{"at": place(0, tick)[1], "value": tick} for tick in nice_ticks(y_low, y_high, 5)],
    }


def is_finite(value: Any) -> bool:
    """Whether a figure is a number that can be drawn."""
    return value is not None and math.isfinite(value)


def _inside(a: _Box, b: _Box) -> bool:
    return a[0] >= b[0] and a[1] >= b[1] and a[2] <= b[2] and a[3] <= b[3]


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def curve(
    points: Sequence[tuple[int, float]], *, best_epoch: int, before: float | None, top: float = math.inf
) -> Curve:
    """A figure against the epoch. before: its value before training, drawn at epoch 0. top: no ticks are drawn above it."""
    box = left, high, right, low = (46.0, 8.0, 334.0, 118.0)
    first = points[0][0] if before is None else 0
    last = max(points[-1][0], first + 1)
    y_low, y_high = _domain([value for _, value in points] + ([] if before is None else [before]))

    def place(epoch: float, value: float) -> Point:
        x = left + 8 + (right - left - 16) * (epoch - first) / (last - first)
        return {"x": round(x, 1), "y": round(low - (low - high) * (value - y_low) / (y_high - y_low), 1)}

    ticks = [tick for tick in nice_ticks(y_low, y_high, 3) if tick <= top]
    best = next((value for epoch, value in points if epoch == best_epoch), None)
    return {
        "box": box,
        "points": [place(*point) for point in points],
        "before": None if before is None else place(0, before),
        "best": None if best is None else {**place(best_epoch, best), "value": best},
        "x_ticks": [
            {"at": place(epoch, y_low)["x"], "value": int(epoch)}
            for epoch in nice_ticks(first, points[-1][0], 6)
            if epoch == int(epoch)
        ],
        "y_ticks": [{"at": place(first, tick)["y"], "value": tick} for tick in ticks],
    }


def _domain(values: Sequence[float]) -> tuple[float, float]:
    """The values' range with a margin; never empty."""
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """About so many round values inside [low, high].

    >>> nice_ticks(0.864, 0.96, 4)
    [0.88, 0.9, 0.92, 0.94, 0.96]
    """
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / about))
    step = power * min((1, 2, 5, 10), key=lambda factor: abs(span / (factor * power) - about))
    return [round(i * step, 10) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every power of ten inside [low, high].

    >>> log_ticks(0.4, 6)
    [0.5, 1.0, 2.0, 5.0]
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
    return [tick for tick in ticks if low <= tick <= high]


def write_ticks(ticks: Sequence[Tick], write: Callable[[float, int], str], *, scale: float = 1.0) -> None:
    """Give each tick its text, with as many digits as their distance needs. scale: the shown figure is so many times the value."""
    values = sorted(tick["value"] for tick in ticks)
    step = min((b - a for a, b in itertools.pairwise(values)), default=0.1)
    digits = max(0, -math.floor(math.log10(step * scale) + 1e-9))
    for tick in ticks:
        tick["text"] = write(tick["value"], digits)
