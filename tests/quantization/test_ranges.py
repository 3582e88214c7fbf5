"""Ranges from calibration photos, on a graph small enough to compute by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.graph.graph import Graph, Node
from edgetl.quantization.ranges import estimate_ranges, least_error_range

INPUT_RANGE = (-128 / 127.5, 127 / 127.5)

# image -> pad -> conv a; conv b; concat(a, b) -> add: pad shares the input's scale, concat the scale of both its inputs.
GRAPH = Graph(
    (
        Node("image", "input", shape=(1, 4, 4, 3)),
        Node("padded", "pad", ("image",)),
        Node("a", "conv", ("padded",)),
        Node("b", "conv", ("image",)),
        Node("joined", "concat", ("a", "b")),
        Node("sum", "add", ("joined", "joined")),
    )
)
RANDOM = np.random.default_rng(0)
BATCHES = [RANDOM.uniform(-1, 1, (8, 4, 4, 3)) for _ in range(3)]


def outputs_of(images):
    a, b = np.maximum(images * 2, 0), images * 5 - 1
    joined = np.concatenate([a, b], axis=-1)
    return [images, a, b, joined, joined * 2]


def estimate(estimator: str, outputs=outputs_of, batches=BATCHES):
    return estimate_ranges(GRAPH, outputs, lambda: iter(batches), estimator=estimator, input_range=INPUT_RANGE)


def test_minmax_has_the_extremes_of_all_batches():
    tensors = [np.concatenate(parts) for parts in zip(*(outputs_of(batch) for batch in BATCHES), strict=True)]
    low, high = estimate("minmax")["sum"]
    assert (low, high) == pytest.approx((tensors[4].min(), tensors[4].max()))
    only_first = estimate("minmax", batches=BATCHES[:1])["sum"]
    assert low <= only_first[0] and only_first[1] <= high and (low, high) != only_first


@pytest.mark.parametrize("estimator", ["minmax", "mse"])
def test_tensors_that_must_share_a_scale_get_one_range(estimator):
    ranges = estimate(estimator)
    assert ranges["a"] == ranges["b"] == ranges["joined"] != ranges["sum"]
    assert ranges.keys() == {node.name for node in GRAPH.nodes}


@pytest.mark.parametrize("estimator", ["minmax", "mse"])
@pytest.mark.parametrize("contrast", [0.1, 3.0])
def test_the_inputs_grid_is_fixed_by_the_contract_whatever_the_photos_are(contrast, estimator):
    ranges = estimate(estimator, batches=[batch * contrast for batch in BATCHES])
    assert ranges["image"] == ranges["padded"] == INPUT_RANGE


@pytest.mark.parametrize("estimator", ["minmax", "mse"])
@pytest.mark.parametrize("shift", [0.0, 50.0, -50.0], ids=["around zero", "all positive", "all negative"])
def test_zero_is_always_inside(estimator, shift):
    ranges = estimate(estimator, outputs=lambda images: [tensor + shift for tensor in outputs_of(images)])
    assert all(low <= 0.0 <= high for low, high in ranges.values())
    if shift:
        assert min(abs(ranges["sum"][0]), abs(ranges["sum"][1])) <= 1e-5


@pytest.mark.parametrize("estimator", ["minmax", "mse"])
def test_a_dead_tensor_has_a_range_too(estimator):
    ranges = estimate(estimator, outputs=lambda images: [tensor * 0 for tensor in outputs_of(images)])
    assert all(high > low for low, high in ranges.values())
    assert ranges["sum"] == ranges["joined"] == (0.0, 1.0), "not a grid so fine that no runtime multiplies by it"


def test_a_dead_tensor_does_not_widen_a_shared_range():
    """GRAPH joins a and b: with b dead the range is that of a."""
    names = [node.name for node in GRAPH.nodes[1:]]

    def outputs(images):
        tensors = dict(zip(names, outputs_of(images), strict=True))
        small = tensors["a"] * 1e-2
        dead = small * 0
        return [{"a": small, "b": dead, "joined": np.concatenate([small, dead], -1)}.get(n, tensors[n]) for n in names]

    low, high = estimate("minmax", outputs=outputs)["joined"]
    assert high - low < 0.5


def test_mse_is_never_wider_than_the_extremes():
    seen, chosen = estimate("minmax"), estimate("mse")
    for name in ("joined", "sum"):
        assert seen[name][0] - 1e-9 <= chosen[name][0] and chosen[name][1] <= seen[name][1] + 1e-9


# --- the range of least error ----------------------------------------------------------------------------------------


def error_of(values: np.ndarray, low: float, high: float) -> float:
    """The real mean squared error of quantizing to 256 steps over [low, high]."""
    step = (high - low) / 255
    restored = np.clip(np.round((values - low) / step), 0, 255) * step + low
    return float(np.mean((values - restored) ** 2))


def least(values: np.ndarray) -> tuple[float, float]:
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    return least_error_range(np.histogram(values, 2048, (low, high))[0], low, high)


def test_evenly_spread_values_keep_their_whole_range():
    low, high = least(np.random.default_rng(1).uniform(-3, 5, 100_000))
    assert (low, high) == pytest.approx((-3, 5), rel=0.03)


@pytest.mark.parametrize("draw", ["laplace", "standard_cauchy"])
def test_a_heavy_tail_is_cut_where_that_reduces_the_error(draw):
    values = np.clip(getattr(np.random.default_rng(2), draw)(size=100_000), -40, 40)
    values[:2] = -40, 40
    low, high = least(values)
    whole = error_of(values, values.min(), values.max())
    assert error_of(values, low, high) <= whole * 1.001
    if draw == "laplace":
        assert -40 < low < -5 and 5 < high < 40
        # Cutting both outliers at 32 costs 2 * 8**2 / 100000 and saves a third of the step's 0.0082.
        assert error_of(values, low, high) < 0.82 * whole


def test_the_chosen_range_is_as_good_as_the_best_of_all_tried():
    values = np.random.default_rng(3).laplace(size=40_000)
    values = np.append(values, [-25.0, 18.0])
    chosen = error_of(values, *least(values))
    tried = min(error_of(values, -25 * a, 18 * b) for a in np.linspace(0.3, 1, 15) for b in np.linspace(0.3, 1, 15))
    # The model of the error (uniform in a step, 2048 bins) is an approximation: five percent.
    assert chosen <= 1.05 * tried


def test_only_the_side_with_the_outlier_is_cut():
    values = np.random.default_rng(4).uniform(-1, 0, 50_000)
    values = np.append(values, np.random.default_rng(5).uniform(0, 1, 50_000))
    low, high = least(np.append(values, 2.0))
    assert low == pytest.approx(-1.0, rel=0.05) and high < 2.0


def test_one_sided_values_keep_zero_as_their_edge():
    low, high = least(np.random.default_rng(6).exponential(size=50_000))
    assert low == 0.0 and high > 1.0


@pytest.mark.parametrize(
    ("counts", "edges"), [(np.zeros(16), (-1.0, 2.0)), (np.ones(16), (0.0, 0.0))], ids=["no values", "no width"]
)
def test_without_values_nothing_changes(counts, edges):
    assert least_error_range(counts, *edges) == edges
