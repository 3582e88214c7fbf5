"""Where a quantized net differs from the float net: each planted defect is found and its layer named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetl.formats.write.tflite_int8 import write_tflite_int8
from edgetl.graph.graph import Graph, Node, same_scale_groups
from edgetl.quantization.fake import all_tensors
from edgetl.quantization.net import QuantizedNet
from edgetl.quantization.signal import DEGRADED_DB, Signal, compare_tensors, first_degraded, sensitivities
from edgetl.runtimes.litert import open_tensors


def signals(net: Any, integers: Any, folder: Path, graph: Any = None) -> list[Any]:
    """The file of these integers compared with float, on four images."""
    graph = graph or net.graph
    file = folder / "net.tflite"
    file.write_bytes(write_tflite_int8(graph, integers, description="", metadata={}))
    exact, tensors_of = all_tensors(net.graph), open_tensors(file)
    names = [node.name for node in net.graph.nodes[1:]]

    def pairs() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        for image in net.images[:4]:
            wanted = [np.asarray(tensor) for tensor in exact(image[None])]
            found = tensors_of(image[None])
            yield dict(zip(names, wanted, strict=True)), {name: found[name] for name in names if name in found}

    return compare_tensors(net.graph, pairs())


def middle(net: Any, op: str) -> Any:
    """A layer with a grid of its own: with a shared grid the others would be wrong as well."""
    groups = Counter(same_scale_groups(net.graph).values())
    alone = [node for node in net.graph.nodes if node.op == op and groups[same_scale_groups(net.graph)[node.name]] == 1]
    return alone[len(alone) // 2]


def test_a_good_file_has_no_degraded_tensor(net: Any, tmp_path: Path) -> None:
    rows = signals(net, net.integers, tmp_path)
    # A padding may be part of the first convolution in the file (formats/write/lowering.py); every other tensor is in it.
    assert [row.node for row in rows if row.op != "pad"] == [n.name for n in net.graph.nodes[1:] if n.op != "pad"]
    assert first_degraded(rows) is None
    assert min(row.snr_db for row in rows) > DEGRADED_DB


def test_a_clipped_bias_is_found_in_the_layer_with_large_biases(net: Any, tmp_path: Path) -> None:
    """As if biases were stored in 8 bits, in the layer that has the largest."""
    groups = Counter(same_scale_groups(net.graph).values())
    convs = [n for n in net.graph.nodes if n.op == "conv" and groups[same_scale_groups(net.graph)[n.name]] == 1]
    victim = max(convs, key=lambda node: int(np.abs(net.integers[node.name].bias).max()))
    own = net.integers[victim.name]
    clipped = np.clip(own.bias, -128, 127)
    found = first_degraded(signals(net, {**net.integers, victim.name: replace(own, bias=clipped)}, tmp_path))
    if (clipped == own.bias).all():
        assert found is None, "VGG16 without weights has no biases: nothing is clipped, and nothing may be found"
    else:
        assert found is not None
        assert found.node in {victim.name} | {node.name for node in net.graph.nodes if victim.name in node.inputs}


@pytest.mark.parametrize("defect", ["zero point", "shifted bias", "gamma", "range"])
def test_a_planted_defect_is_found_and_its_layer_named(net: Any, tmp_path: Path, defect: str) -> None:
    victim = middle(net, "conv")
    own = net.integers[victim.name]
    integers, graph = dict(net.integers), net.graph
    if defect == "zero point":
        # So high that almost no value above 0 has a step.
        integers[victim.name] = replace(own, zero_point=120)
    elif defect == "shifted bias":
        integers[victim.name] = replace(own, bias=own.bias - 2**15)
    elif defect == "gamma":
        integers[victim.name] = replace(own, kernel=own.kernel[..., ::-1])
    else:
        # TFMOT's defaults at their worst: the signal is larger than the grid.
        narrow = QuantizedNet(net.graph, {**net.ranges, victim.name: tuple(e / 12 for e in net.ranges[victim.name])})
        integers = narrow.integers()
    found = first_degraded(signals(net, integers, tmp_path, graph))
    assert found is not None
    shared = {node.name for node in net.graph.nodes if victim.name in node.inputs} | {victim.name}
    assert found.node in shared, f"{found} instead of {victim.name}"


def test_a_coarsely_quantized_layer_is_the_most_sensitive(net: Any) -> None:
    victim = middle(net, "conv")
    coarse = QuantizedNet(net.graph, {**net.ranges, victim.name: tuple(e * 30 for e in net.ranges[victim.name])})
    rows = sensitivities(coarse, net.graph, net.images[:4])
    assert min(rows, key=lambda row: row.snr_db).node == victim.name


def test_a_dead_tensor_that_stays_dead_is_not_degraded() -> None:
    graph = Graph((Node("x", "input"), Node("dead", "conv", ("x",)), Node("alive", "conv", ("dead",))))
    zeros, values = np.zeros((1, 4, 4, 2)), np.ones((1, 4, 4, 2))
    tensors = {"dead": zeros, "alive": values}
    rows = compare_tensors(graph, [(tensors, dict(tensors))])
    assert [row.snr_db for row in rows] == [120.0, 120.0]
    assert first_degraded(rows) is None
    assert first_degraded(compare_tensors(graph, [(tensors, {**tensors, "dead": values})])) is not None


def test_a_node_with_exact_inputs_has_no_ratio_of_its_inputs() -> None:
    assert Signal("first", "conv", 40.0, 120.0).to_json()["inputs_snr_db"] is None
    assert Signal("second", "conv", 30.0, 40.0).to_json()["inputs_snr_db"] == 40.0
