"""The result of an attempt, and which of several is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgetl.quantization.attempts import Attempt, best, judge_attempt, mean_divergence, nearest

N = 200


def probabilities(labels: Any, *, sure: float = 0.9, classes: int = 4) -> Any:
    rows = np.full((len(labels), classes), (1 - sure) / (classes - 1))
    rows[np.arange(len(labels)), labels] = sure
    return rows


LABELS = np.arange(N) % 4


def attempt(answers: Any, *, budget_pp: float = 1.0) -> Attempt:
    float_answers = np.where(np.arange(N) < 10, (LABELS + 1) % 4, LABELS)
    wanted = probabilities(float_answers)
    return judge_attempt("a", "", wanted, probabilities(answers), LABELS, budget_pp=budget_pp, size=1, seconds=1.0)


def test_lost_and_gained_photos_are_counted_relative_to_the_float_net() -> None:
    answers = np.array(LABELS)
    answers[50:56] = (LABELS[50:56] + 1) % 4  # six lost; the float net's ten mistakes are all gained
    found = attempt(answers)
    assert (found.lost, found.gained, found.n) == (6, 10, N)
    assert found.drop_pp == pytest.approx(-2.0)
    assert found.same_label == pytest.approx(1 - 16 / N)
    assert found.met and not found.collapsed(1.0)


def test_one_class_is_a_collapse_whatever_the_budget() -> None:
    found = attempt(np.zeros(N, int), budget_pp=100.0)
    assert found.one_class and not found.met and found.collapsed(100.0)


def test_a_drop_within_chance_is_not_a_collapse() -> None:
    answers = np.where(np.arange(N) < 10, (LABELS + 1) % 4, LABELS)
    answers[50:54] = (LABELS[50:54] + 1) % 4
    found = attempt(answers)
    assert found.drop_pp == pytest.approx(2.0)
    assert not found.met, "past the budget as measured"
    assert not found.collapsed(1.0), "the interval reaches below it"
    answers[60:100] = (LABELS[60:100] + 1) % 4
    assert attempt(answers).collapsed(1.0)


def test_the_first_that_meets_the_budget_is_chosen_otherwise_the_one_that_lost_least() -> None:
    right = np.where(np.arange(N) < 10, (LABELS + 1) % 4, LABELS)
    worse, bad = right.copy(), right.copy()
    worse[50:56], bad[50:90] = (LABELS[50:56] + 1) % 4, (LABELS[50:90] + 1) % 4
    one = np.zeros(N, int)
    assert best([attempt(bad), attempt(right), attempt(right)]) == 1
    assert best([attempt(bad), attempt(worse), attempt(one)]) == 1


def test_the_nearest_has_the_least_divergence_and_is_never_of_one_class() -> None:
    right = np.where(np.arange(N) < 10, (LABELS + 1) % 4, LABELS)
    few, many = right.copy(), right.copy()
    few[50:52], many[50:60] = (LABELS[50:52] + 1) % 4, (LABELS[50:60] + 1) % 4
    assert nearest([attempt(many), attempt(few), attempt(np.zeros(N, int))]) == 1


def test_divergence_is_zero_for_the_same_and_finite_for_an_int8_zero() -> None:
    same = probabilities(LABELS)
    assert mean_divergence(same, same) == pytest.approx(0.0, abs=1e-12)
    hard = probabilities(LABELS, sure=1.0)
    assert 0.0 < mean_divergence(same, hard) < 1.0
