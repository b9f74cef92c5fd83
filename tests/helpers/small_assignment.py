"""A small assignment with which the grader is tried."""

import torch

from vdmlib.course.parts import Assignment, Part


def _x(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def doubles(answer, seed):
    x = _x(seed, 3, 4)
    return {
        "it doubles": lambda: torch.allclose(answer(x), 2 * x),
        "it keeps the shape": lambda: answer(x).shape == (3, 4),
    }


def doubles_hidden(answer, seed):
    secret_input = _x(seed, 0)
    return {
        "nothing stays nothing": lambda: answer(secret_input).shape == (0,),
        "whole numbers stay whole": lambda: answer(torch.tensor([seed])).dtype == torch.int64,
    }


def halves(answer, seed):
    return {
        "the half of an even number": lambda: answer(2 * seed + 4) == seed + 2,
        "the half of 0": lambda: answer(0) == 0,
        "an odd number has none": lambda: answer(2 * seed + 1) is None,
    }


def shifts(answer, seed):
    net, x = answer(3), _x(seed, 2, 3)

    def learns():
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        (net(x) - x - 1).square().sum().backward()
        optimizer.step()
        return (net(x) - x).min() > 0.1

    return {"it starts as nothing": lambda: torch.equal(net(x), x), "it learns": learns}


ASSIGNMENT = Assignment(
    9,
    "A small one",
    (1, 2),
    (
        Part("double", 4, 5, doubles, doubles_hidden, {"it doubles": "does every element count?"}),
        Part("half", 3, 5, halves, hints={"an odd number has none": "what does it return for 7?"}),
        Part("Shift", 2, 5, shifts),
    ),
    (("The text", 5),),
)
