"""The parts of an assignment, as a student tries them."""

import pytest
import torch

from vdmlib import course
from vdmlib.course import parts
from vdmlib.course.parts import Assignment, Part


def doubles(answer, seed):
    x = torch.randn(3, generator=torch.Generator().manual_seed(seed))
    return {"it doubles": lambda: torch.equal(answer(x), 2 * x), "it keeps the shape": lambda: answer(x).shape == (3,)}


DOUBLE = Part("double", 4, 5, doubles, hints={"it doubles": "every element counts"})


def test_a_right_answer(capsys):
    report = parts.try_part("Assignment 1 · double", DOUBLE, lambda x: x + x)
    assert report and report.holding == ("it doubles", "it keeps the shape")
    assert capsys.readouterr().out.startswith("Assignment 1 · double\n  holds · it doubles\n")


def test_a_wrong_answer_gets_a_hint_and_a_stub_gets_none(capsys):
    assert parts.try_part("A", DOUBLE, lambda x: x).failing == ("it doubles",)
    assert capsys.readouterr().out.endswith("  hint · it doubles: every element counts\n")

    def overwrites(x):
        return x.mul_(2)

    assert not parts.try_part("A", DOUBLE, overwrites)
    assert "work on a copy" in (said := capsys.readouterr().out) and "hint" not in said

    def stub(x):
        raise NotImplementedError("Write double(x).")

    assert not parts.try_part("A", DOUBLE, stub)
    assert capsys.readouterr().out == "A\n  not yet · Write double(x).\n"


@pytest.mark.parametrize("answer", [None, lambda: 0, lambda x: 1 / 0, 3, str])
def test_nothing_is_raised_whatever_is_tried(answer, capsys):
    assert not parts.try_part("A", DOUBLE, answer)


def test_an_answer_that_fails_while_the_properties_are_made(capsys):
    def properties(answer, seed):
        made = answer()
        return {"it is made": lambda: made is not None}

    assert parts.try_part("A", Part("Net", 1, 1, properties), lambda: 1 / 0).failing == ("it can be called",)

    def stub():
        raise NotImplementedError("Write Net.")

    assert not parts.try_part("A", Part("Net", 1, 1, properties), stub).failing
    assert "not yet · Write Net." in capsys.readouterr().out


def test_trying_does_not_change_the_random_numbers_of_the_page(capsys):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    parts.try_part("A", DOUBLE, lambda x: x + torch.rand(3))
    assert torch.equal(torch.rand(1), expected)


def test_unknown_numbers_and_names_are_said(capsys):
    assert not course.try_part(7, "double", len)
    assert capsys.readouterr().out == "assignment is 7, but must be one of 1, 2, 3.\n"
    with pytest.raises(ValueError, match="part is 'treble', but must be one of double"):
        Assignment(1, "T", (1,), (DOUBLE,)).part("treble")
    with pytest.raises(ValueError, match="Several parts are called double: give each a name"):
        Assignment(1, "T", (1,), (DOUBLE, DOUBLE))
    with pytest.raises(ValueError, match="must be that of a function or class"):
        Part("two words", 1, 1, doubles)
    with pytest.raises(ValueError, match="points is -1: use a whole number from 0"):
        Part("double", -1, 1, doubles)
    assert Assignment(1, "T", (1,), (DOUBLE,)).points == 4
