"""Every fact about a backbone that is known without building it. One family is one entry of FAMILIES."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from edgetl.backbones import arithmetic
from edgetl.backbones.arithmetic import NetOp

# (width or depth, input size, classes) -> the net's ops.
Arithmetic = Callable[[float, int, int], Iterator[NetOp]]


@dataclass(frozen=True)
class Family:
    """Nets of one architecture that differ in width or depth.

    module: builds them; backbones/__init__.py says what it offers. names: of nets that each have a name. widths: of nets
    that are called FAMILY-WIDTH, those with ImageNet weights from Keras; any width up to `widest` can be built.
    smallest_px: of the input. weights_file: the name of Keras' ImageNet weights without the top, with {name}, {width}
    and {size_px} to fill in; "" for a family without weights. weights_px: the input sizes they were trained at; weights_px_of:
    exceptions by name. ops: the cost of a net; None where it is not written down. published: patterns of names in
    targets/published_latencies.csv -> names here.
    """

    module: str
    names: tuple[str, ...] = ()
    widths: tuple[float, ...] = ()
    widest: float = 0.0
    smallest_px: int = 32
    weights_file: str = ""
    weights_px: tuple[int, ...] = (224,)
    weights_px_of: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ops: Arithmetic | None = None
    published: Mapping[str, str] = field(default_factory=dict)


_NO_TOP = "{name}_weights_tf_dim_ordering_tf_kernels_notop.h5"
FAMILIES: dict[str, Family] = {
    "mobilenetv2": Family(
        "edgetl.backbones.mobilenetv2",
        widths=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
        widest=1.4,
        weights_file="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_{size_px}_no_top.h5",
        weights_px=(96, 128, 160, 192, 224),
        weights_px_of={"mobilenetv2-1.3": (224,), "mobilenetv2-1.4": (224,)},
        ops=arithmetic.mobilenetv2,
        published={r"mobilenet_v2_(\d(?:\.\d+)?)": r"mobilenetv2-\1"},
    ),
    "densenet": Family(
        "edgetl.backbones.densenet",
        names=("densenet121", "densenet169", "densenet201"),
        weights_file=_NO_TOP,
        ops=arithmetic.densenet,
        # TensorFlow's hosted models and Coral's table do not say which depth their "densenet" has; it is counted as
        # DenseNet-121, the smallest.
        published={"densenet": "densenet121", r"(densenet\d+)": r"\1"},
    ),
    "vgg16": Family("edgetl.backbones.vgg16", names=("vgg16",), weights_file=_NO_TOP),
    "xception": Family(
        "edgetl.backbones.xception",
        names=("xception",),
        smallest_px=96,  # Keras needs at least 71 pixels, and inputs are multiples of 32
        weights_file=_NO_TOP,
        weights_px=(299,),
    ),
}


def described() -> str:
    """The names of all backbones, for messages and --help.

    >>> described()
    'mobilenetv2-A with A in (0, 1.4], densenet121, densenet169, densenet201, vgg16 or xception'
    """
    names = [f"{name}-A with A in (0, {family.widest:g}]" for name, family in FAMILIES.items() if family.widths]
    names += [name for family in FAMILIES.values() for name in family.names]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def canonical(backbone: str) -> str:
    """The one spelling of a backbone's name: it is part of cache keys and of weight files' names.

    Raises ValueError for an unknown name.

    >>> canonical("mobilenetv2-1"), canonical("densenet121")
    ('mobilenetv2-1.0', 'densenet121')
    """
    if any(backbone in family.names for family in FAMILIES.values()):
        return backbone
    name, dash, width = backbone.partition("-")
    if not dash or not re.fullmatch(r"\d+(\.\d+)?", width) or not getattr(FAMILIES.get(name), "widths", ()):
        raise ValueError(f"there is no such backbone; the backbones are {described()}")
    if not 0 < float(width) <= FAMILIES[name].widest:
        raise ValueError(f"the width multiplier must be in (0, {FAMILIES[name].widest:g}]")
    if "e" in str(float(width)):
        raise ValueError(
            f"the width multiplier {width} is too small: all layers already have their minimum number of channels at larger values"
        )
    return f"{name}-{float(width)}"


def family_of(backbone: str) -> str:
    """The family of a backbone's canonical name. Raises KeyError for an unknown name.

    >>> family_of("mobilenetv2-0.35"), family_of("densenet121")
    ('mobilenetv2', 'densenet')
    """
    for name, family in FAMILIES.items():
        if backbone in family.names or (family.widths and backbone.startswith(f"{name}-")):
            return name
    raise KeyError(backbone)


def width_of(backbone: str) -> float:
    """The number that a name ends with, its width multiplier or depth; 1.0 for a name without a number.

    >>> width_of("mobilenetv2-0.35"), width_of("densenet121")
    (0.35, 121.0)
    """
    found = re.search(r"\d+(\.\d+)?$", backbone.partition("-")[2] or backbone)
    return float(found[0]) if found else 1.0


def weight_file(backbone: str, size_px: int | str) -> str:
    """The name of Keras' ImageNet weights of a net for an input size."""
    template = FAMILIES[family_of(backbone)].weights_file
    return template.format(name=backbone, width=width_of(backbone), size_px=size_px)


def weight_files(backbone: str) -> dict[int, str]:
    """Input size in pixels -> the name of Keras' file of ImageNet weights; empty for a net that Keras has none for."""
    family = FAMILIES[family_of(backbone)]
    if not family.weights_file or (family.widths and width_of(backbone) not in family.widths):
        return {}
    return {size: weight_file(backbone, size) for size in family.weights_px_of.get(backbone, family.weights_px)}


@functools.lru_cache(maxsize=256)
def net_ops(backbone: str, input_size_px: int, classes: int = 1000) -> tuple[NetOp, ...]:
    """The ops of a backbone with a dense layer on its mean; BatchNorm is folded where a convolution comes before it.

    input_size_px: one side, a multiple of 32. Raises ValueError for a family without arithmetic.

    >>> round(sum(op.macs for op in net_ops("mobilenetv2-1.0", 224)) / 1e6)
    301
    """
    ops = FAMILIES[family_of(backbone)].ops
    if ops is None:
        raise ValueError(f"the arithmetic of {backbone} is not known here")
    return tuple(ops(width_of(backbone), input_size_px, classes))


def backbone_of(published: str) -> str:
    """The backbone that a published name means. Raises ValueError for a net with unknown arithmetic.

    >>> backbone_of("mobilenet_v2_0.35"), backbone_of("densenet")
    ('mobilenetv2-0.35', 'densenet121')
    """
    for family in FAMILIES.values():
        for pattern, name in family.published.items():
            found = re.fullmatch(pattern, published)
            if found:
                return canonical(found.expand(name))
    raise ValueError(f"the arithmetic of {published} is not known here")
