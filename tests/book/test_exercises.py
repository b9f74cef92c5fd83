"""What a learner reads below an exercise."""

from vdmlib.exercises import check


def boom():
    raise TypeError("no such thing")


def stub():
    raise NotImplementedError("Write f(x).")


def test_all_hold(capsys):
    assert check("Exercise 9", {"one is one": lambda: 1 == 1, "two is true": lambda: 2})
    assert capsys.readouterr().out == (
        "Exercise 9\n  holds · one is one\n  holds · two is true\n  2 of 2 properties hold.\n"
    )


def test_every_property_is_tried(capsys):
    assert not check("E", {"false": lambda: False, "raises": boom, "holds": lambda: True})
    assert capsys.readouterr().out == (
        "E\n  FAILS · false\n  FAILS · raises (TypeError: no such thing)\n  holds · holds\n  1 of 3 properties hold.\n"
    )


def test_a_stub_is_not_a_mistake(capsys):
    assert not check("E", {"first": stub, "second": boom})
    assert capsys.readouterr().out == "E\n  not yet · Write f(x).\n"
