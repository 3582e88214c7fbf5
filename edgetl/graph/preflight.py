"""Preflight: what int8 makes of each layer of a Keras model, and what it cannot take, before anything is trained."""

from __future__ import annotations

from typing import Any

from edgetl.graph.fold import Rewrite, folding

__all__ = ["Rewrite", "preflight"]


def preflight(model: Any) -> list[Rewrite]:
    """The rewrites that folding does to a model, a row a layer; layers that are not named stay what they are.

    A model just built will do: weights decide only whether a BatchNorm before a convolution becomes an addition or, where
    training leaves it a factor that cannot move (graph/preactivation.py), stays a depthwise convolution. Raises
    TrainingError naming all layers that have no int8 form.
    """
    return folding(model).rewrites
