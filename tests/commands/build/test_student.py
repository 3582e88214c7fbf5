"""`--student auto`: the largest net that fits the budget, and the reason for the choice."""

from __future__ import annotations

import pytest

from edgetl.commands.build.student import (
    AUTO,
    Auto,
    candidates,
    choose_student,
    estimated_bytes,
    take_auto,
    with_student,
)
from edgetl.core.errors import UsageError
from edgetl.stages.recipe import Recipe, make_recipe
from edgetl.targets.target import Target, load_target

PI = load_target("raspberry-pi-4")


def with_budget(**changes: object) -> Target:
    return PI.model_copy(update={"budget": PI.budget.model_copy(update=changes)})


def test_no_larger_one_fits_and_the_chosen_one_does():
    chosen = choose_student(Recipe(), [PI], classes=5)
    for one in candidates(Recipe(), [PI], 5, (96, 128, 160, 192, 224)):
        fits = one.p90_high_ms() <= PI.budget.latency_p90_ms and one.model_bytes <= PI.budget.model_bytes
        assert not (fits and one.macs > chosen.macs), one
        if (one.backbone, one.input_size_px) == (chosen.backbone, chosen.input_size_px):
            assert fits
    assert "the next, mobilenetv2-" in chosen.reason and "raspberry-pi-4, whose limit is 50" in chosen.reason
    assert "3 published rows of the same chip" in chosen.sentence()


def test_more_room_takes_a_larger_net_and_less_a_smaller():
    macs = [choose_student(Recipe(), [with_budget(latency_p90_ms=limit)], classes=5).macs for limit in (15, 50, 500)]
    assert macs == sorted(set(macs))
    small = choose_student(Recipe(), [with_budget(model_bytes=700_000)], classes=5)
    assert small.backbone == "mobilenetv2-0.35" and small.model_bytes <= 700_000
    # A thousand labels are 1.3 MB of dense layer: the number of classes matters.
    with pytest.raises(UsageError, match="No student fits") as caught:
        choose_student(Recipe(), [with_budget(model_bytes=700_000)], classes=1000)
    assert "would be a file of" in caught.value.why


def test_a_size_the_user_fixed_is_kept_and_no_student_is_wider_than_its_teacher():
    fixed = choose_student(Recipe(), [PI], classes=5, input_size_px=96)
    assert fixed.input_size_px == 96
    narrow = make_recipe({"teacher": {"backbone": "mobilenetv2-0.5"}})
    roomy = with_budget(latency_p90_ms=5000, model_bytes=10**9)
    assert choose_student(narrow, [roomy], classes=5).backbone == "mobilenetv2-0.5"
    other = make_recipe({"teacher": {"backbone": "densenet121"}})
    assert choose_student(other, [roomy], classes=5).backbone == "mobilenetv2-1.4"


def test_where_none_fits_the_smallest_estimate_is_shown_beside_the_budget():
    with pytest.raises(UsageError, match="No student fits raspberry-pi-4") as caught:
        choose_student(Recipe(), [with_budget(latency_p90_ms=0.5)], classes=5)
    assert "mobilenetv2-0.35 at 96 px, is estimated at p90" in caught.value.why and "limit is 0.5" in caught.value.why


def test_one_student_serves_all_targets_named():
    slow = load_target("stm32mp157")
    both = choose_student(Recipe(), [PI, slow], classes=5)
    assert (
        both.macs == choose_student(Recipe(), [slow], classes=5).macs < choose_student(Recipe(), [PI], classes=5).macs
    )
    assert len(both.estimates) == 2


def test_the_reason_names_what_could_not_be_considered():
    without = choose_student(Recipe(), [with_budget(latency_p90_ms=None)], classes=5)
    assert "has no latency limit, so the file size alone decided" in without.reason
    assert (
        "is this machine, for which nothing is published"
        in choose_student(Recipe(), [load_target("this-machine")], classes=5).reason
    )
    npu = PI.model_copy(update={"runtimes": ("litert-npu",), "references": ()})
    with pytest.raises(UsageError, match="No student can be chosen"):
        choose_student(Recipe(), [npu], classes=5)


def test_auto_is_removed_from_a_recipe_and_the_choice_inserted():
    tables = {"student": {"backbone": AUTO, "weights": "none"}, "dataset": {"input_size_px": 128}}
    assert take_auto(tables) == ({"student": {"weights": "none"}, "dataset": {"input_size_px": 128}}, Auto(128))
    assert take_auto({"student": {"backbone": AUTO}})[1] == Auto(None)
    assert take_auto({"student": {"backbone": "vgg16"}}) == ({"student": {"backbone": "vgg16"}}, None)
    recipe = with_student(make_recipe({"distill": {"epochs": 3}}), choose_student(Recipe(), [PI], classes=5))
    assert recipe.distill.epochs == 3 and recipe.student.backbone == choose_student(Recipe(), [PI], classes=5).backbone


@pytest.mark.parametrize(
    ("backbone", "precision", "built"),
    [
        ("mobilenetv2-0.35", "int8", 608_576),
        ("mobilenetv2-1.0", "int8", 2_696_736),
        ("mobilenetv2-0.35", "float32", 1_614_988),
        ("mobilenetv2-1.0", "float32", 8_885_900),
        ("mobilenetv2-1.0", "float16", 4_476_716),
    ],
)
def test_the_estimated_size_is_within_a_few_percent_of_built_files(backbone, precision, built):
    """TFLite files for five classes at 192 px; never estimated smaller than they are, so that a net that should fit does fit."""
    assert 0 <= estimated_bytes(backbone, 192, 5, precision) - built < max(50_000, 0.01 * built)
