"""The preprocessing contract: what is written is what is read back, and nothing else is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgetl.core.errors import DataError
from edgetl.tasks.photos.contract import Normalization, View, describe_input, read_input, to_grid

NORMALIZATION = Normalization((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))
VIEW = View(160, "crop", 0.875)


@pytest.mark.parametrize("view", [VIEW, View(96, "stretch", 1.0)], ids=lambda view: view.resize)
def test_a_contract_read_back_is_the_one_written(view):
    assert read_input(json.loads(json.dumps(describe_input(NORMALIZATION, view)))) == (NORMALIZATION, view)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["shape"], [1, 160, 96, 3]),
        (["shape"], [1]),
        (["shape"], [1, -160, -160, 3]),
        (["layout"], "NCHW"),
        (["colour_order"], "BGR"),
        (["orientation"], "as stored"),
        (["transparency"], "laid over black"),
        (["resize", "mode"], "letterbox"),
        (["resize", "centre_fraction"], 0),
        (["resize", "centre_fraction"], "0.875"),
        (["normalization", "mean"], [127.5]),
        (["normalization", "scale"], [0, 1, 1]),
        (["normalization", "scale"], [float("nan"), 1, 1]),
        (["normalization"], None),
        (["resize"], None),
    ],
    ids=str,
)
def test_what_edgetl_does_not_do_to_photos_is_refused_not_guessed(place, value):
    data = json.loads(json.dumps(describe_input(NORMALIZATION, VIEW)))
    owner = data
    for key in place[:-1]:
        owner = owner[key]
    owner[place[-1]] = value
    with pytest.raises(DataError, match=r"The input part of contract\.json is not one that edgetl writes"):
        read_input(data)


@pytest.mark.parametrize(
    ("value", "step"), [(0.0, 3), (0.49, 3), (0.51, 4), (1.5, 5), (-200.0, -128), (200.0, 127)], ids=str
)
def test_a_grid_rounds_to_its_nearest_step_and_stops_at_its_ends(value, step):
    assert to_grid(np.array([value], np.float32), np.int8, 1.0, 3).tolist() == [step]


def test_a_float_input_has_no_grid():
    image = np.array([0.25], np.float32)
    assert to_grid(image, np.float32, 0.0, 0).tolist() == [0.25]
