"""Names of backbones: one spelling each, which survives recipes, cache keys and weight files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetl.backbones.catalogue import FAMILIES, canonical, described, family_of, weight_files, width_of


@given(st.floats(0.0, 1.5, allow_nan=False).map(lambda width: f"{width:.12f}"))
def test_a_width_has_one_spelling_or_is_refused(width: str) -> None:
    try:
        name = canonical(f"mobilenetv2-{width}")
    except ValueError:
        assert not 1e-4 <= float(width) <= 1.4
        return
    assert canonical(name) == name
    assert width_of(name) == float(width)
    assert family_of(name) == "mobilenetv2"


@pytest.mark.parametrize("width", ["0.00001", "0.00000000001"], ids=["an exponent", "nothing"])
def test_a_width_whose_name_would_have_an_exponent_is_refused(width: str) -> None:
    with pytest.raises(ValueError, match="too small"):
        canonical(f"mobilenetv2-{width}")


@pytest.mark.parametrize(
    "name", ["", "mobilenetv2", "mobilenetv2-", "mobilenetv2--1", "mobilenetv2-nan", "mobilenetv2-1e0", "vgg16-1",
             "densenet999", "VGG16 ", "mobilenetv2-0.35 "],
)  # fmt: skip
def test_a_name_that_no_family_has_is_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(ValueError, match="there is no such backbone; the backbones are mobilenetv2-A"):
        canonical(name)


def test_every_named_net_is_its_own_canonical_name_and_is_described() -> None:
    for name in [name for family in FAMILIES.values() for name in family.names]:
        assert canonical(name) == name and name in described()
        assert len(weight_files(name)) == 1


def test_weight_files_are_those_that_keras_has() -> None:
    assert sorted(weight_files("mobilenetv2-0.35")) == [96, 128, 160, 192, 224]
    assert list(weight_files("mobilenetv2-1.4")) == [224]
    assert weight_files("mobilenetv2-0.3") == {}
