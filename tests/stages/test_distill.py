"""How a student without a weight file begins."""

from __future__ import annotations

import pytest

from edgetl.stages.distill import begins_without_weights


@pytest.mark.parametrize(
    ("student", "teacher", "begins"),
    [
        ("mobilenetv2-0.35", "mobilenetv2-1.0", "select"),
        ("mobilenetv2-1.0", "mobilenetv2-1.0", "select"),
        ("mobilenetv2-1.0", "mobilenetv2-0.35", "random"),
        ("mobilenetv2-0.35", "densenet121", "random"),
        ("densenet121", "densenet121", "copy"),
        ("densenet121", "densenet169", "random"),
        ("vgg16", "vgg16", "copy"),
        ("xception", "vgg16", "random"),
        ("densenet121", "mobilenetv2-1.0", "random"),
    ],
)
def test_a_student_begins_from_the_weights_of_its_teacher_that_fit(student: str, teacher: str, begins: str) -> None:
    assert begins_without_weights(student, teacher) == begins
