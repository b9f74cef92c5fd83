"""Assignment 3, train, judge, sample: its parts and their properties (chapters 1, 9, 10 and 11)."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from .inputs import Inputs, same
from .leaderboard import share_with_error
from .parts import Assignment, Part, Properties


def _add_noise(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    x0, noise = inputs.normal(3, 4, 2, 3, 3), inputs.normal(3, 4, 2, 3, 3)
    kept = torch.linspace(0.999, 0.01, 50).double() ** 2
    t, of_frames = torch.tensor([3, 20 + seed % 7, 49]), torch.arange(12).reshape(3, 4) * 4

    def wanted(t: Tensor) -> Tensor:
        share = kept[t].reshape(*t.shape, *(1,) * (5 - t.ndim))
        return share.sqrt() * x0 + (1 - share).sqrt() * noise

    def spread() -> bool:
        many = answer(inputs.normal(40, 4, 2, 8, 8), inputs.normal(40, 4, 2, 8, 8), torch.full((40,), 20), kept)
        return abs(float(many.std()) - 1) < 0.03

    return {
        "without noise, the signal's share": lambda: same(
            answer(x0, 0 * noise, t, kept), kept[t].sqrt().reshape(3, 1, 1, 1, 1) * x0
        ),
        "the variance stays 1": spread,
        "every video has its own level": lambda: same(answer(x0, noise, t, kept), wanted(t)),
        "or every frame": lambda: same(answer(x0, noise, of_frames, kept), wanted(of_frames)),
    }


def _add_noise_hidden(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed + 50)
    x0, noise = inputs.normal(3, 3, 3, 3, 3), inputs.normal(3, 3, 3, 3, 3)  # sides that are easily mixed up
    kept = torch.tensor([1.0, 0.6, 0.3, 0.0]).double()

    def wanted(share: Tensor) -> Tensor:
        return share.sqrt() * x0 + (1 - share).sqrt() * noise

    return {
        "as many videos as frames and channels": lambda: same(
            answer(x0, noise, torch.tensor([2, 1, 2]), kept), wanted(kept[[2, 1, 2]].reshape(3, 1, 1, 1, 1))
        ),
        "all signal and all noise": lambda: same(
            answer(x0, noise, torch.tensor([0, 3, 0]), kept), torch.stack([x0[0], noise[1], x0[2]])
        ),
    }


def _clean(x: Tensor, output: Tensor, kept: float, prediction: str) -> Tensor:
    signal, noise = kept**0.5, (1 - kept) ** 0.5
    return {"eps": (x - noise * output) / signal, "v": signal * x - noise * output, "x0": output}[prediction]


def _guess_clean(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    x, output = inputs.normal(2, 3, 2, 2, 2), inputs.normal(2, 3, 2, 2, 2)
    kept = 0.2 + 0.1 * inputs.between(1, 6)

    def agrees(prediction: str, kept: float = kept) -> bool:
        return same(answer(x, output, kept, prediction), _clean(x, output, kept, prediction))

    def refused() -> bool:
        try:
            answer(x, output, kept, "score")
        except ValueError as error:
            return "score" in str(error)
        return False

    return {
        "the network says x0": lambda: agrees("x0"),
        "the network says the noise": lambda: agrees("eps"),
        "the network says v": lambda: agrees("v"),
        "v works in pure noise, too": lambda: agrees("v", 0.0),
        "another word is refused by name, with a ValueError": refused,
    }


def _guess_clean_hidden(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed + 50)
    x0, noise = inputs.normal(1, 2, 3, 2, 2), inputs.normal(1, 2, 3, 2, 2)
    signal, rest = 0.6, 0.8
    x, v = signal * x0 + rest * noise, signal * noise - rest * x0
    return {
        "from the true noise to the true video": lambda: same(answer(x, noise, signal**2, "eps"), x0),
        "from the true v to the true video": lambda: same(answer(x, v, signal**2, "v"), x0),
        "where there is no noise, x is clean": lambda: all(same(answer(x, v, 1.0, kind), x) for kind in ("eps", "v")),
    }


def _step(x: Tensor, x0: Tensor, kept: float, after: float, eta: float, fresh: Tensor) -> Tensor:
    noise = (x - kept**0.5 * x0) / (1 - kept) ** 0.5
    sigma = eta * math.sqrt((1 - after) / (1 - kept) * (1 - kept / after))
    return after**0.5 * x0 + math.sqrt(max(1 - after - sigma**2, 0)) * noise + sigma * fresh


def _ddim_step(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    x, x0, fresh = (inputs.normal(2, 3, 2, 4, 4) for _ in range(3))
    kept = 0.1 + 0.05 * inputs.between(1, 6)

    def agrees(after: float, eta: float, before: float = kept) -> bool:
        return same(answer(x, x0, before, after, eta, fresh), _step(x, x0, before, after, eta, fresh))

    return {
        "to the same level without fresh noise, nothing changes": lambda: agrees(kept, 0.0),
        "the last step leaves x0 alone": lambda: same(answer(x, x0, kept, 1.0, 1.0, fresh), x0),
        "without fresh noise": lambda: agrees(0.7, 0.0),
        "with all of it": lambda: agrees(0.7, 1.0),
        "with half of it": lambda: agrees(0.6, 0.5),
    }


def _ddim_step_hidden(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed + 50)
    x, x0, fresh = (inputs.normal(1, 2, 1, 3, 3) for _ in range(3))
    many, noise, other = (inputs.normal(8, 8, 4, 8, 8) for _ in range(3))

    def spread() -> bool:
        moved = answer(0.5 * many + 0.75**0.5 * noise, many, 0.25, 0.64, 1.0, other) - 0.8 * many
        return abs(float(moved.std()) / 0.6 - 1) < 0.03

    return {
        "two steps with one guess are one step": lambda: same(
            answer(answer(x, x0, 0.2, 0.5, 0.0, fresh), x0, 0.5, 0.8, 0.0, fresh), answer(x, x0, 0.2, 0.8, 0.0, fresh)
        ),
        "the noise has the variance of the next level": spread,
        "from pure noise": lambda: same(answer(x, x0, 0.0, 0.3, 0.5, fresh), _step(x, x0, 0.0, 0.3, 0.5, fresh)),
    }


def _drop_captions(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    tokens = torch.arange(1, 1 + 6 * 2000).reshape(2000, 6)
    share = 0.1 * inputs.between(2, 4)

    def dropped(share: float = share) -> Tensor:
        return answer(tokens.clone(), share, torch.Generator().manual_seed(seed))

    def whole() -> bool:
        kept = (dropped() == tokens).sum(dim=1)
        return bool(((kept == 0) | (kept == 6)).all()) and bool((kept == 0).any())

    def fresh() -> bool:
        generator = torch.Generator().manual_seed(seed)
        first, second = answer(tokens.clone(), 0.5, generator), answer(tokens.clone(), 0.5, generator)
        return not torch.equal(first, second) and torch.equal(dropped(), dropped())

    def untouched() -> bool:
        given = tokens.clone()
        answer(given, 0.5, torch.Generator().manual_seed(seed))
        return torch.equal(given, tokens)

    return {
        "whole captions, or none of their words": whole,
        "empty words are zeros": lambda: bool(((dropped() == 0) | (dropped() == tokens)).all()),
        "the share is as asked": lambda: abs(float((dropped() == 0).all(dim=1).double().mean()) - share) < 0.05,
        "a share of 0 drops none, of 1 all": lambda: torch.equal(dropped(0.0), tokens) and not bool(dropped(1.0).any()),
        "chance comes from the generator alone": fresh,
        "the given captions are not changed": untouched,
    }


def _one_caption(answer: Any, seed: int) -> Properties:
    tokens, generator = torch.tensor([[1, 2, 3]]), torch.Generator().manual_seed(seed)
    return {"a single caption": lambda: torch.equal(answer(tokens, 0.0, generator), tokens)}


def _training_step(answer: Any, seed: int, steps: int = 1, decay: float = 0.75) -> Properties:
    inputs = Inputs(seed)
    x, target, weight, start = (inputs.normal(*shape) for shape in ((5, 3), (5, 2), (2, 3), (2, 3)))

    def layer(weight: Tensor) -> nn.Linear:
        made = nn.Linear(3, 2, bias=False, dtype=torch.double)
        made.weight.data.copy_(weight)
        return made

    def trained(decay: float = decay) -> tuple[nn.Linear, nn.Linear, list[float]]:
        net, average = layer(weight), layer(start)
        net.weight.grad = torch.ones_like(net.weight)  # of a batch before
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        losses = [torch.as_tensor(answer(net, average, optimizer, x, target, decay)) for _ in range(steps)]
        return net, average, [float(loss.detach()) for loss in losses]

    def wanted(decay: float = decay) -> tuple[Tensor, Tensor, list[float]]:
        now, mean, losses = weight, start, []
        for _ in range(steps):
            error = x @ now.T - target
            losses.append(float(error.square().mean()))
            now = now - 0.1 * 2 * error.T @ x / error.numel()
            mean = decay * mean + (1 - decay) * now
        return now, mean, losses

    return {
        "it returns the loss of the batch": lambda: math.isclose(trained()[2][0], wanted()[2][0], rel_tol=1e-6),
        "the network takes one step, from this batch alone": lambda: same(trained()[0].weight, wanted()[0]),
        "the average moves towards the new weights": lambda: same(trained()[1].weight, wanted()[1]),
        "a decay of 1 leaves the average alone, of 0 copies": lambda: (
            same(trained(1.0)[1].weight, start) and same(trained(0.0)[1].weight, wanted()[0])
        ),
        "the average stays a parameter without a history": lambda: trained()[1].weight.is_leaf,
    }


def _three_steps(answer: Any, seed: int) -> Properties:
    tests = _training_step(answer, seed + 50, steps=3, decay=0.5)
    return {
        "three steps, one after the other": tests["the network takes one step, from this batch alone"],
        "and the average follows": tests["the average moves towards the new weights"],
    }


def _share(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    n = 10 * inputs.between(3, 9)
    right = torch.arange(n) % 10 < 7

    def near(found: Any, wanted: tuple[float, float]) -> bool:
        return all(math.isclose(float(a), b, abs_tol=1e-6) for a, b in zip(found, wanted, strict=True))

    def fewer() -> bool:
        once, four = answer(right), answer(right.repeat(4))
        return math.isclose(float(once[1]), 2 * float(four[1]), abs_tol=1e-6)

    return {
        "the share of the clips that are right": lambda: math.isclose(float(answer(right)[0]), 0.7, abs_tol=1e-6),
        "its error is that of a share": lambda: near(answer(right), share_with_error(right)),
        "four times the clips, half the error": fewer,
        "all right is not certain: 3 / n": lambda: near(answer(torch.ones(n) > 0), (1.0, 3 / n)),
        "all wrong is not, either": lambda: near(answer(torch.zeros(n) > 0), (0.0, 3 / n)),
    }


def _one_clip(answer: Any, seed: int) -> Properties:
    return {"a single clip": lambda: [float(number) for number in answer(torch.tensor([True]))] == [1.0, 3.0]}


ASSIGNMENT = Assignment(
    3,
    "Train, judge, sample",
    (1, 9, 10, 11),
    (
        Part(
            "add_noise",
            10,
            30,
            _add_noise,
            _add_noise_hidden,
            {
                "without noise, the signal's share": (
                    "`kept` is the share of the variance: which factor has the signal itself?"
                ),
                "the variance stays 1": "the squares of the two factors add up to one.",
                "every video has its own level": "kept[t] is a number for each video: which axes does it lack?",
                "or every frame": "with t of two axes there is a number for each frame of each video.",
                "as many videos as frames and channels": (
                    "axes of one length are easily mixed up: say which one the level belongs to."
                ),
                "all signal and all noise": ("kept may be exactly 1 or 0; nothing may be divided by it."),
            },
        ),
        Part(
            "guess_clean",
            10,
            30,
            _guess_clean,
            _guess_clean_hidden,
            {
                "the network says x0": "then there is nothing to do.",
                "the network says the noise": "solve the forward process for x0; the factors are roots.",
                "the network says v": (
                    "v is signal times noise minus noise share times x0, both shares as roots. Put x in and solve."
                ),
                "v works in pure noise, too": "at kept = 0 nothing may be divided by the signal.",
                "another word is refused by name, with a ValueError": ("raise ValueError and say what was given."),
                "from the true noise to the true video": ("put the forward process in and solve: x0 has to come out."),
                "from the true v to the true video": (
                    "v is signal times noise minus noise share times x0: put it in, and x0 has to come out."
                ),
                "where there is no noise, x is clean": (
                    "at kept = 1 nothing may be divided by the share of the noise."
                ),
            },
        ),
        Part(
            "ddim_step",
            12,
            45,
            _ddim_step,
            _ddim_step_hidden,
            {
                "to the same level without fresh noise, nothing changes": (
                    "how much noise is in x? What x0 does not explain, divided by its factor."
                ),
                "the last step leaves x0 alone": "at kept_next = 1 no noise is left, neither old nor fresh.",
                "without fresh noise": ("the guess and the noise are mixed again, with the shares of the next level."),
                "with all of it": (
                    "fresh noise takes the place of old noise: their variances add up to 1 - kept_next."
                ),
                "with half of it": "eta multiplies sigma; the old noise gets what the square of sigma leaves.",
                "two steps with one guess are one step": (
                    "without fresh noise a step only mixes x0 and the noise in x anew."
                ),
                "the noise has the variance of the next level": (
                    "the squares of old and fresh share add up to 1 - kept_next."
                ),
                "from pure noise": ("kept may be 0: nothing may be divided by it."),
            },
        ),
        Part(
            "drop_captions",
            8,
            25,
            _drop_captions,
            _one_caption,
            {
                "whole captions, or none of their words": "one throw for each caption, not for each word.",
                "empty words are zeros": "the empty caption is the token 0 everywhere.",
                "the share is as asked": ("which side of the threshold is dropped, and is the share a probability?"),
                "a share of 0 drops none, of 1 all": "torch.rand is below 1 and may be 0: mind < and <=.",
                "chance comes from the generator alone": ("hand the generator on to torch.rand, and do not seed it."),
                "the given captions are not changed": "work on a copy: the loader's batch is needed again.",
                "a single caption": ("one caption is a batch of one, and stays one."),
            },
        ),
        Part(
            "training_step",
            10,
            30,
            _training_step,
            _three_steps,
            {
                "it returns the loss of the batch": "the mean of the squares, before the step, as a number.",
                "the network takes one step, from this batch alone": (
                    "gradients add up until somebody empties them: when, and then what comes in which order?"
                ),
                "the average moves towards the new weights": (
                    "it keeps the share `decay` of itself; the rest comes from the weights after the step."
                ),
                "a decay of 1 leaves the average alone, of 0 copies": "which of the two has the share `decay`?",
                "the average stays a parameter without a history": (
                    "nobody trains the average: move it in place, where PyTorch records nothing."
                ),
                "three steps, one after the other": "is anything left over from the step before?",
                "and the average follows": "the average of the last step is where the next one starts.",
            },
        ),
        Part(
            "share_with_error",
            10,
            25,
            _share,
            _one_clip,
            {
                "the share of the clips that are right": "a mean of ones and zeros.",
                "its error is that of a share": (
                    "the variance of a single clip is p (1 - p); which is that of a mean of n?"
                ),
                "four times the clips, half the error": "divide by the root of n.",
                "all right is not certain: 3 / n": ("the formula says 0 there. Chapter 10 says what to say instead."),
                "all wrong is not, either": "the same rule on the other side.",
                "a single clip": ("with n = 1 all are right or all are wrong."),
            },
        ),
    ),
    rubric=(
        (
            "The number: `leaderboard` with another seed, its error, at most 16 passes a clip, settings fixed before",
            10,
        ),
        ("Every change is tried alone, for a reason from the chapters, and has a number with an error", 10),
        ("What may be chance is not called better; how many clips it would take is said", 8),
        ("Clips that fail are looked at, and what fails in them is sorted by what the judge asks", 6),
        ("Somebody else can run it again: settings, seeds and the time that it took", 6),
    ),
    open_minutes=180,
)
