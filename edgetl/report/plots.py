"""Where things go in the pictures of report.html. Pure geometry: numbers in, coordinates out; report.html.j2 draws.

Plain SVG and CSS rather than a plotting library's picture: it takes the page's own fonts and colours, light or dark,
and is a tenth of the size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_Box = tuple[float, float, float, float]  # left, top, right, bottom in the plot's own units


def bar(low: float, high: float, point: float, domain: tuple[float, float]) -> dict[str, float]:
    """An interval and a point on a track, in percent of the track's width.

    >>> bar(0.0, 1.0, 0.5, (0.0, 1.0))
    {'left': 8.0, 'width': 84.0, 'point': 50.0}
    """
    left, right = track(low, domain), track(high, domain)
    return {"left": left, "width": round(right - left, 2), "point": track(point, domain)}


def track(value: float, domain: tuple[float, float]) -> float:
    """A value's place on a track, in percent, with 8% of air at both ends of the domain."""
    return round(8 + 84 * (value - domain[0]) / ((domain[1] - domain[0]) or 1.0), 2)


def scatter(dots: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Shares against milliseconds on a log axis. dots: {x, y, low, high, text, ...}, those to be named first coming first.

    Returns {box, dots, x_ticks, y_ticks}; each dot keeps its other keys and gets `label`: where its name goes, or None.
    """
    box = left, top, right, bottom = (46.0, 8.0, 394.0, 250.0)
    x_low, x_high = (math.log(edge(dot["x"] for dot in dots) * air) for edge, air in ((min, 1 / 1.5), (max, 1.5)))
    y_low, y_high = _domain([dot["low"] for dot in dots] + [dot["high"] for dot in dots])

    def x(value: float) -> float:
        return round(left + (right - left) * (math.log(value) - x_low) / (x_high - x_low), 1)

    def y(value: float) -> float:
        return round(bottom - (bottom - top) * (value - y_low) / (y_high - y_low), 1)

    placed = [{**dot, "x": x(dot["x"]), **{key: y(dot[key]) for key in ("y", "low", "high")}} for dot in dots]
    _place_names(placed, box)
    return {
        "box": box,
        "dots": placed,
        "x_ticks": [{"at": x(tick), "value": tick} for tick in log_ticks(math.exp(x_low), math.exp(x_high))],
        "y_ticks": [{"at": y(tick), "value": tick} for tick in nice_ticks(y_low, y_high, 5)],
    }


def _place_names(dots: Sequence[dict[str, Any]], box: _Box, *, radius: float = 6) -> None:
    """Give each dot that has a text the nearest place for it that covers no dot and no other name."""
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


def along(rows: Sequence[Mapping[str, Any]], *, figure: str, beside: str = "", named: int = 3) -> dict[str, Any] | None:
    """A figure of each layer, in the order of the net. rows: {node, op, [figure], [beside]}; `beside` is a second line.

    Figures that are absent or not finite (a tensor without any noise) are left out. The `named` lowest get their name.
    Returns {box, dots, lines: {figure: [(x, y)], ...}, x_ticks, y_ticks}, or None when no figure is left.
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
    dots = []
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
    """Whether a figure is there and is a number to draw."""
    return value is not None and math.isfinite(value)


def _inside(a: _Box, b: _Box) -> bool:
    return a[0] >= b[0] and a[1] >= b[1] and a[2] <= b[2] and a[3] <= b[3]


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def curve(
    points: Sequence[tuple[int, float]], *, best_epoch: int, before: float | None, top: float = math.inf
) -> dict[str, Any]:
    """A figure against the epoch. before: its value before training, drawn at epoch 0. top: never draw ticks above."""
    box = left, high, right, low = (46.0, 8.0, 334.0, 118.0)
    first = points[0][0] if before is None else 0
    last = max(points[-1][0], first + 1)
    y_low, y_high = _domain([value for _, value in points] + ([] if before is None else [before]))

    def place(epoch: float, value: float) -> dict[str, Any]:
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
            {**place(epoch, y_low), "value": int(epoch)}
            for epoch in nice_ticks(first, points[-1][0], 6)
            if epoch == int(epoch)
        ],
        "y_ticks": [{**place(first, tick), "value": tick} for tick in ticks],
    }


def _domain(values: Sequence[float]) -> tuple[float, float]:
    """The values' range with air; never empty."""
    low, high = min(values), max(values)
    air = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - air, high + air


def nice_ticks(low: float, high: float, wanted: int) -> list[float]:
    """About `wanted` round values inside [low, high].

    >>> nice_ticks(0.864, 0.96, 4)
    [0.88, 0.9, 0.92, 0.94, 0.96]
    """
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = power * min((1, 2, 5, 10), key=lambda factor: abs(span / (factor * power) - wanted))
    return [round(i * step, 10) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every power of ten inside [low, high].

    >>> log_ticks(0.4, 6)
    [0.5, 1.0, 2.0, 5.0]
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
    return [tick for tick in ticks if low <= tick <= high]


def write_ticks(ticks: Sequence[dict[str, Any]], write: Callable[[float, int], str], *, scale: float = 1.0) -> None:
    """Give each tick its `text`, with as many digits as their distance needs. scale: of the shown figure."""
    values = sorted(tick["value"] for tick in ticks)
    step = min((b - a for a, b in itertools.pairwise(values)), default=0.1)
    digits = max(0, -math.floor(math.log10(step * scale) + 1e-9))
    for tick in ticks:
        tick["text"] = write(tick["value"], digits)
