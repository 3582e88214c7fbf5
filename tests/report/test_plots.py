"""The geometry of the plots: names cover nothing, and every point is inside its frame."""

from __future__ import annotations

import itertools

import pytest

from edgetl.report.plots import along, scatter


@pytest.mark.parametrize("n", [1, 6, 40])
def test_names_in_the_picture_cover_neither_each_other_nor_a_dot(n: int) -> None:
    dots = [
        {"x": 1 + 0.05 * i, "y": 0.9, "low": 0.86, "high": 0.95, "text": f"student.int{i}.tflite"} for i in range(n)
    ]
    picture = scatter(dots)
    named = [dot for dot in picture["dots"] if dot["label"]]
    assert named
    boxes = [(dot["x"] - 4, dot["y"] - 4, dot["x"] + 4, dot["y"] + 4) for dot in picture["dots"]]
    for dot in named:
        label, width = dot["label"], 6 * len(dot["text"])
        left = label["x"] - width if label["end"] else label["x"]
        boxes.append((left, label["y"] - 6, left + width, label["y"] + 6))
    overlaps = [
        (a, b)
        for a, b in itertools.combinations(boxes, 2)
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]
    assert all(pair in itertools.combinations(boxes[:n], 2) for pair in overlaps)  # dots alone may lie on each other


@pytest.mark.parametrize("n", [1, 2, 54, 430])
def test_a_plot_along_the_net_keeps_every_layer_inside_its_frame(n: int) -> None:
    rows = [{"node": f"n{i}", "op": "conv", "snr_db": 40 - 30 * i / n, "inputs_snr_db": 41.0} for i in range(n)]
    plot = along(rows, figure="snr_db", beside="inputs_snr_db")
    left, top, right, bottom = plot["box"]
    points = [(dot["x"], dot["y"]) for dot in plot["dots"]] + plot["lines"]["inputs_snr_db"]
    assert len(points) == 2 * n
    assert all(left < x < right and top < y < bottom for x, y in points)
    xs = [x for x, _ in plot["lines"]["snr_db"]]
    assert xs == sorted(xs)
    ticks = [tick["value"] for tick in plot["x_ticks"]]
    assert ticks and ticks == sorted(set(ticks)) and ticks[-1] <= n
    assert sum(bool(dot["text"]) for dot in plot["dots"]) == min(n, 3)


def test_a_net_without_a_finite_figure_has_no_plot() -> None:
    assert (
        along([{"node": "a", "snr_db": None}, {"node": "b", "snr_db": float("inf")}, {"node": "c"}], figure="snr_db")
        is None
    )
