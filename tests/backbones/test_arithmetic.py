"""The architecture's arithmetic agrees with the net that Keras builds."""

from __future__ import annotations

import pytest

from edgetl.backbones.catalogue import backbone_of, net_ops

CLASSES = 7


@pytest.mark.parametrize(("backbone", "size_px"), [("mobilenetv2-0.35", 96), ("mobilenetv2-1.3", 64)])
def test_mobilenetv2_has_the_multiply_accumulates_and_weights_of_the_folded_graph(backbone: str, size_px: int) -> None:
    import numpy as np

    from edgetl.backbones.models import ModelSpec, build_classifier
    from edgetl.graph.fold import fold

    graph = fold(build_classifier(ModelSpec(backbone, size_px, CLASSES)))
    ops = net_ops(backbone, size_px, CLASSES)
    assert sum(op.macs for op in ops) == graph.macs()
    kernels = [node for node in graph.nodes if node.kernel is not None]
    assert sum(op.weights for op in ops) == sum(node.kernel.size for node in kernels)
    assert sum(op.channels for op in ops) == sum(node.bias.size for node in kernels)
    # What is written, op by op: the bytes that move are counted from it.
    written = [int(np.prod(node.shape[1:])) for node in graph.nodes if node.op != "input"]
    assert sorted(op.written for op in ops) == sorted(written)


def test_densenet121_has_the_multiply_accumulates_of_keras_convolutions() -> None:
    import numpy as np
    from tf_keras import layers

    from edgetl.backbones import load_family

    model = load_family("densenet121").build("densenet121", 64)
    found = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]
    macs = sum(int(np.prod(layer.output_shape[1:3])) * int(np.prod(layer.kernel.shape)) for layer in found)
    ops = net_ops("densenet121", 64, CLASSES)
    assert sum(op.macs for op in ops if op.type == "conv") == macs
    assert len([op for op in ops if op.type == "conv"]) == len(found)


def test_a_net_without_arithmetic_is_refused() -> None:
    with pytest.raises(ValueError, match="arithmetic of vgg16 is not known"):
        net_ops("vgg16", 224)
    with pytest.raises(ValueError, match="arithmetic of mobilenet_v3 is not known"):
        backbone_of("mobilenet_v3")
