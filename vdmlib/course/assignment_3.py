"""Assignment 3, train, judge, sample: its parts and their properties (chapters 1, 9, 10 and 11)."""

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
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
    of_videos, of_frames = torch.tensor([20 + seed % 7, 3, 49]), 4 * ((5 * torch.arange(12) + 7) % 12).reshape(3, 4)

    def of_one(x0: Tensor, noise: Tensor, level: int = 20 + seed % 7) -> Tensor:
        return answer(x0, noise, torch.full((3,), level), kept)

    def apart(t: Tensor) -> bool:
        """Whatever is made of a level, it is made of each video's or frame's own."""
        alone = {level: of_one(x0, noise, level) for level in t.flatten().tolist()}
        rows = [[alone[level][i, j] for j, level in enumerate(row)] for i, row in enumerate(_by_frame(t).tolist())]
        differ = not same(of_one(x0, noise, 3), of_one(x0, noise, 49))
        return differ and same(answer(x0, noise, t, kept), torch.stack([torch.stack(row) for row in rows]))

    def spread() -> bool:
        many = answer(inputs.normal(40, 4, 2, 8, 8), inputs.normal(40, 4, 2, 8, 8), torch.full((40,), 20), kept)
        return abs(float(many.std()) - 1) < 0.03

    share = kept[20 + seed % 7]
    return {
        "without noise, the signal's share": lambda: same(of_one(x0, 0 * noise), share.sqrt() * x0),
        "without a signal, the noise's": lambda: same(of_one(0 * x0, noise), (1 - share).sqrt() * noise),
        "the variance stays 1": spread,
        "every video has its own level": lambda: apart(of_videos),
        "or every frame": lambda: apart(of_frames),
    }


def _by_frame(t: Tensor) -> Tensor:
    return t if t.ndim == 2 else t[:, None].expand(-1, 4)


def _add_noise_hidden(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed + 50)
    x0, noise = inputs.normal(3, 3, 3, 3, 3), inputs.normal(3, 3, 3, 3, 3)  # sides that are easily mixed up
    kept, t = torch.tensor([1.0, 0.6, 0.3, 0.0]).double(), torch.tensor([[2, 0, 1], [1, 2, 2], [3, 1, 0]])

    def wanted(t: Tensor) -> Tensor:
        share = kept[t].reshape(*t.shape, *(1,) * (5 - t.ndim))
        return share.sqrt() * x0 + (1 - share).sqrt() * noise

    return {
        "as many videos as frames and channels": lambda: same(answer(x0, noise, t[0], kept), wanted(t[0])),
        "as many frames, too": lambda: same(answer(x0, noise, t, kept), wanted(t)),
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

    def pure() -> bool:
        return same(answer(x, output, 0.0, "v"), -output)

    def refused() -> bool:
        try:
            answer(x, output, kept, "score")
        except ValueError as error:
            return "score" in str(error)
        return False

    return {
        "the network says x0": lambda: agrees("x0"),
        "the network says the noise": lambda: agrees("eps"),
        "and where little signal is left": lambda: agrees("eps", 0.04) and agrees("eps", 0.0005),
        "the network says v": lambda: agrees("v"),
        "v works in pure noise, too": pure,
        "another word is refused by name, with a ValueError": refused,
    }


def _guess_clean_hidden(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed + 50)
    x0, noise = inputs.normal(1, 2, 3, 2, 2), inputs.normal(1, 2, 3, 2, 2)

    def found(signal: float, rest: float, prediction: str) -> bool:
        says = {"eps": noise, "v": signal * noise - rest * x0, "x0": x0}[prediction]
        return same(answer(signal * x0 + rest * noise, says, signal**2, prediction), x0)

    return {
        "from the true noise to the true video": lambda: found(0.6, 0.8, "eps") and found(0.28, 0.96, "eps"),
        "from the true v to the true video": lambda: found(0.6, 0.8, "v"),
        "and where nearly all is noise, or nearly none": lambda: (
            found(0.02, 0.9996**0.5, "v") and found(0.96, 0.28, "v")
        ),
        "where there is no noise, x is clean": lambda: all(found(1.0, 0.0, kind) for kind in ("eps", "v", "x0")),
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

    def twice() -> bool:
        once, half = answer(x, x0, 0.2, 0.8, 0.0, fresh), answer(x, x0, 0.2, 0.5, 0.0, fresh)
        return same(answer(half, x0, 0.5, 0.8, 0.0, fresh), once) and same(once, _step(x, x0, 0.2, 0.8, 0.0, fresh))

    def spread() -> bool:
        moved = answer(0.5 * many + 0.75**0.5 * noise, many, 0.25, 0.64, 1.0, other) - 0.8 * many
        return abs(float(moved.std()) / 0.6 - 1) < 0.03

    def from_pure_noise() -> bool:
        """With eta 1 no old noise is left; float32 may leave a remainder of 1e-7, whose root is 0.0003."""
        half = same(answer(x, x0, 0.0, 0.3, 0.5, fresh), _step(x, x0, 0.0, 0.3, 0.5, fresh))
        return half and all(
            same(answer(x, x0, 0.0, 0.1 * after, 1.0, fresh), _step(x, x0, 0.0, 0.1 * after, 1.0, fresh), atol=3e-3)
            for after in range(1, 10)
        )

    return {
        "two steps with one guess are one step": twice,
        "the noise has the variance of the next level": spread,
        "from pure noise": from_pure_noise,
    }


def _captions(inputs: Inputs, b: int, n: int) -> Tensor:
    """Captions of which no two share a word; the words of each stand in any order."""
    order = inputs.normal(b, n).argsort(dim=1)
    return 1 + n * torch.arange(b)[:, None] + order


def _gone(found: Tensor, tokens: Tensor) -> Tensor:
    """Which words are none of their caption's."""
    (b, n), own = tokens.shape, torch.arange(len(tokens))[:, None]
    if found.shape != tokens.shape:
        raise ValueError(f"{tuple(found.shape)} came for captions of {b, n}")
    return torch.div(found - 1, n, rounding_mode="floor") != own


def _emptied(found: Tensor, tokens: Tensor) -> Tensor:
    """Which captions are empty; the others have to be as they were."""
    empty = (found == 0).all(dim=1)
    if not torch.equal(found[~empty], tokens[~empty]):
        raise ValueError("a caption is neither empty nor as it was")
    return empty


def _drop_captions(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    tokens = _captions(inputs, 2000, 6)
    share = 0.1 * inputs.between(2, 4)

    def dropped(share: float = share) -> Tensor:
        return answer(tokens.clone(), share, torch.Generator().manual_seed(seed))

    def whole() -> bool:
        gone = _gone(dropped(), tokens).sum(dim=1)
        return bool(((gone == 0) | (gone == 6)).all()) and bool((gone == 6).any())

    def kept() -> bool:
        found = dropped()
        stays = ~_gone(found, tokens)
        return found.dtype == tokens.dtype and torch.equal(found[stays], tokens[stays]) and not bool(stays.all())

    def zeros() -> bool:
        found = dropped()
        gone = (found < 1) | (found > tokens.max())
        return bool(gone.any()) and not bool(found[gone].any())

    def by_chance() -> bool:
        """No count is fixed, and no throw is for two: then the counts of eight in a row would be spread too far."""
        generator, away = torch.Generator().manual_seed(seed), []
        for b in range(300, 312):
            asked = 0.05 * (b - 293)
            empty = _gone(answer(tokens[:b].clone(), asked, generator), tokens[:b]).all(dim=1)
            away.append(abs(int(empty.sum()) - asked * b))
        half = _gone(answer(tokens.clone(), 0.5, generator), tokens).all(dim=1).double()
        spread = float(half.reshape(250, 8).sum(dim=1).var()) / 2
        return max(away) > 3 and 0.55 < spread < 1.45

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
        "empty words are zeros": zeros,
        "what is kept stays in its place, as whole numbers": kept,
        "the share is as asked": lambda: abs(float(_gone(dropped(), tokens).double().mean()) - share) < 0.05,
        "each caption by itself, by chance": by_chance,
        "a share of 0 drops none, of 1 all": lambda: (
            not bool(_gone(dropped(0.0), tokens).any()) and bool(_gone(dropped(1.0), tokens).all())
        ),
        "chance comes from the generator alone": fresh,
        "the given captions are not changed": untouched,
    }


def _drop_captions_hidden(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed + 50)
    many, four = _captions(inputs, 1000, 9), _captions(inputs, 4, 3)

    def counts(tokens: Tensor, times: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.stack([_emptied(answer(tokens, 0.5, generator), tokens).sum() for _ in range(times)]).double()

    def again() -> bool:
        first, second = (answer(many, 0.5, torch.Generator().manual_seed(seed)) for _ in range(2))
        return bool(_emptied(first, many).any()) and torch.equal(first, second)

    def rare() -> bool:
        found = answer(many, 0.1, torch.Generator().manual_seed(seed))
        return 50 < int(_emptied(found, many).sum()) < 150

    return {
        "a single caption is emptied as often as others": lambda: 11 <= float(counts(four[:1], 60).sum()) <= 49,
        "a few captions, by a throw for each": lambda: 0.3 < float(counts(four, 60).var()) < 1.9,
        "long captions, a few of them empty": rare,
        "equal generators, equal captions": again,
    }


def _network(inputs: Inputs, widths: tuple[int, ...]) -> nn.Sequential:
    layers = [layer for pair in itertools.pairwise(widths) for layer in (nn.Linear(*pair), nn.Tanh())]
    return inputs.fill(nn.Sequential(*layers[:-1]))


def _weights(net: nn.Module) -> list[Tensor]:
    """Of every layer, whatever they have become."""
    return [getattr(layer, name) for layer in net.children() if hasattr(layer, "weight") for name in ("weight", "bias")]


def _copied(net: nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for weight in _weights(net)]


def _all_same(found: Iterable[Tensor], wanted: Iterable[Tensor]) -> bool:
    return all(same(a.detach(), b, atol=1e-7) for a, b in zip(found, wanted, strict=True))


def _mixed(mean: Sequence[Tensor], new: Sequence[Tensor], decay: float) -> list[Tensor]:
    return [decay * a + (1 - decay) * b for a, b in zip(mean, new, strict=True)]


Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclasses.dataclass
class _Trained:
    """What a step made of a network and its average, step by step; and what it should have made of the network."""

    net: nn.Sequential
    average: nn.Sequential
    losses: list[Any]
    nets: list[list[Tensor]]
    averages: list[list[Tensor]]
    wanted: list[Tensor]
    first_loss: float


def _train(
    answer: Any,
    inputs: Inputs,
    widths: tuple[int, ...],
    optimizer: Optimizer,
    decay: float,
    *,
    steps: int = 1,
    **given: Any,
) -> _Trained:
    """A few steps with networks drawn from inputs; given: ``scale`` of the error, ``old`` gradients."""
    net, average = _network(inputs, widths), _network(inputs, widths)
    twin, x, first = copy.deepcopy(net), inputs.normal(5, widths[0]), 0.0
    target = net(x).detach() + given.get("scale", 0.2) * inputs.normal(5, widths[-1])  # the gradient goes with it
    theirs, ours = optimizer(net.parameters()), optimizer(twin.parameters())
    for step in range(steps):
        loss = (twin(x) - target).square().mean()
        first = first if step else float(loss.detach())
        for weight, gradient in zip(twin.parameters(), torch.autograd.grad(loss, [*twin.parameters()]), strict=True):
            weight.grad = gradient
        ours.step()
    for weight in net.parameters():
        weight.grad = torch.ones_like(weight) if given.get("old") else None
    trained = _Trained(net, average, [], [_copied(net)], [_copied(average)], _copied(twin), first)
    for _ in range(steps):
        trained.losses.append(answer(net, average, theirs, x, target, decay))
        trained.nets.append(_copied(net))
        trained.averages.append(_copied(average))
    return trained


def _sgd(weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(weights, lr=0.1, momentum=0.9)


def _adamw(weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(weights, lr=0.1, weight_decay=0.1)


def _training_step(answer: Any, seed: int) -> Properties:
    def trained(optimizer: Optimizer = _sgd, decay: float = 0.75, **given: Any) -> _Trained:
        return _train(answer, Inputs(seed), (3, 4, 2), optimizer, decay, **given)

    def moved(optimizer: Optimizer = _sgd, **given: Any) -> bool:
        made = trained(optimizer, **given)
        return _all_same(_weights(made.net), made.wanted)

    def loss() -> bool:
        made = trained()
        return math.isclose(float(torch.as_tensor(made.losses[0]).detach()), made.first_loss, rel_tol=1e-6)

    def followed(which: slice) -> bool:
        """Whatever the network has become, the average goes after it."""
        made = trained()
        wanted = _mixed(made.averages[0], made.nets[1], 0.75)
        away = any(not same(a, b) for a, b in zip(made.nets[0], made.nets[1], strict=True))
        return away and _all_same(_weights(made.average)[which], wanted[which])

    def ends() -> bool:
        stays, copies = trained(decay=1.0), trained(decay=0.0)
        return _all_same(_weights(stays.average), stays.averages[0]) and _all_same(
            _weights(copies.average), copies.nets[1]
        )

    return {
        "it returns the loss of the batch": loss,
        "the loss is a number that keeps no graph": lambda: not getattr(trained().losses[0], "requires_grad", False),
        "the network takes one step": moved,
        "from this batch alone": lambda: moved(old=True),
        "with its whole gradient, however large": lambda: moved(scale=100.0),
        "and it is the optimizer's step": lambda: moved(_adamw),
        "the average moves towards the new weights": lambda: followed(slice(0, 1)),
        "with every layer and every bias": lambda: followed(slice(1, None)),
        "a decay of 1 leaves the average alone, of 0 copies": ends,
        "the average stays a parameter that keeps no graph": lambda: all(
            weight.is_leaf for weight in _weights(trained().average)
        ),
    }


def _three_steps(answer: Any, seed: int) -> Properties:
    def trained() -> _Trained:
        return _train(answer, Inputs(seed + 50), (2, 3, 3, 1), _adamw, 0.9, steps=3)

    def network() -> bool:
        made = trained()
        return _all_same(_weights(made.net), made.wanted)

    def average() -> bool:
        made = trained()
        mean = made.averages[0]
        for new in made.nets[1:]:
            mean = _mixed(mean, new, 0.9)
        return not same(made.nets[0][0], made.nets[-1][0]) and _all_same(_weights(made.average), mean)

    return {"three steps, one after the other": network, "and the average follows": average}


def _near(found: Any, *wanted: tuple[float, float]) -> bool:
    """A pair of numbers that is one of these."""
    share, error = map(float, found)
    return any(math.isclose(share, a, abs_tol=1e-6) and math.isclose(error, b, abs_tol=1e-6) for a, b in wanted)


def _share(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    n = 10 * inputs.between(3, 9)
    right = torch.arange(n) % 10 < 7

    def error(right: Tensor) -> float:
        return float(answer(right)[1])

    def nearer() -> bool:
        half, tenth = error(torch.arange(n) % 2 < 1), error(torch.arange(n) % 10 < 1)
        return half > 0 and math.isclose(tenth / half, 0.6, abs_tol=1e-4)

    return {
        "the share of the clips that are right": lambda: math.isclose(float(answer(right)[0]), 0.7, abs_tol=1e-6),
        "its error is that of a share": lambda: math.isclose(error(right), math.sqrt(0.21 / n), abs_tol=1e-6),
        "four times the clips, half the error": lambda: math.isclose(
            error(right), 2 * error(right.repeat(4)), abs_tol=1e-6
        ),
        "the nearer to none, the smaller the error": nearer,
        "all right is not certain: 3 / n": lambda: _near(answer(torch.ones(n) > 0), (1.0, 3 / n)),
        "all wrong is not, either": lambda: _near(answer(torch.zeros(n) > 0), (0.0, 3 / n)),
    }


def _share_hidden(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed + 50)
    n, few = 101 + 2 * inputs.between(1, 40), torch.tensor([True, False, True, True, True])
    mostly = torch.arange(n) % 17 == 3

    def agrees(right: Tensor) -> bool:
        return _near(answer(right), share_with_error(right))

    return {
        "most of many are wrong": lambda: agrees(mostly),
        "most of many are right": lambda: agrees(~mostly),
        "a few clips, one of them wrong": lambda: agrees(few),
        "a single clip": lambda: _near(answer(torch.tensor([True])), (1.0, 3.0), (1.0, 1.0)),
    }


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
                "without a signal, the noise's": "the noise is added, and it has the rest of the variance.",
                "the variance stays 1": "the squares of the two factors add up to one.",
                "every video has its own level": "kept[t] is a number for each video: which axes does it lack?",
                "or every frame": "with t of two axes there is a number for each frame of each video, in any order.",
                "as many videos as frames and channels": (
                    "if the sentences above hold, axes of one length are mixed up: say which one the level belongs to."
                ),
                "as many frames, too": "if the sentences above hold, frames are taken for videos or for channels.",
                "all signal and all noise": (
                    "kept may be exactly 1 or 0. If the sentences above hold, something is divided by it."
                ),
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
                "and where little signal is left": (
                    "kept may be as small as 0.0005: the formula holds there, without a floor or another case."
                ),
                "the network says v": (
                    "v is signal times noise minus noise share times x0, both shares as roots. Put x in and solve."
                ),
                "v works in pure noise, too": (
                    "kept is 0 there. If v is right elsewhere, something is divided by the signal."
                ),
                "another word is refused by name, with a ValueError": ("raise ValueError and say what was given."),
                "from the true noise to the true video": ("put the forward process in and solve: x0 has to come out."),
                "from the true v to the true video": (
                    "v is signal times noise minus noise share times x0: put it in, and x0 has to come out."
                ),
                "and where nearly all is noise, or nearly none": (
                    "if v is right elsewhere, something is divided by a share that is nearly 0, or a case is added."
                ),
                "where there is no noise, x is clean": (
                    "kept is 1 there. If the sentences above hold, something is divided by the share of the noise."
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
                    "without fresh noise a step only mixes x0 and the noise in x anew, with the shares of the level."
                ),
                "the noise has the variance of the next level": (
                    "the squares of old and fresh share add up to 1 - kept_next."
                ),
                "from pure noise": (
                    "kept is 0 there. If the sentences above hold, something is divided by it; or with eta 1 a root is "
                    "taken of what rounding has made a little negative."
                ),
            },
        ),
        Part(
            "drop_captions",
            8,
            20,
            _drop_captions,
            _drop_captions_hidden,
            {
                "whole captions, or none of their words": "one throw for each caption, not for each word.",
                "empty words are zeros": "the empty caption is the token 0 everywhere.",
                "what is kept stays in its place, as whole numbers": (
                    "the words of a caption keep their order, a caption its row, and all of them their dtype."
                ),
                "the share is as asked": "which side of the threshold is dropped?",
                "each caption by itself, by chance": (
                    "the share is a probability: no count is fixed, and no two captions share a throw."
                ),
                "a share of 0 drops none, of 1 all": "torch.rand is below 1 and may be 0: mind < and <=.",
                "chance comes from the generator alone": ("hand the generator on to torch.rand, and do not seed it."),
                "the given captions are not changed": "work on a copy: the loader's batch is needed again.",
                "a single caption is emptied as often as others": "one caption is a batch of one: it has a throw, too.",
                "a few captions, by a throw for each": (
                    "with four captions and a share of a half, two are empty on average: not always, nor all or none."
                ),
                "long captions, a few of them empty": "sizes come from the captions that are given.",
                "equal generators, equal captions": "every random number comes from the generator that is given.",
            },
        ),
        Part(
            "training_step",
            10,
            30,
            _training_step,
            _three_steps,
            {
                "it returns the loss of the batch": "the mean of the squares, before the step.",
                "the loss is a number that keeps no graph": (
                    "a tensor that remembers how it was computed keeps all of that in memory: take the number out."
                ),
                "the network takes one step": (
                    "the gradient of the mean of the squares, and one step of the optimizer with it."
                ),
                "from this batch alone": (
                    "gradients of an earlier batch may be there, and new ones are added to them: when are they emptied?"
                ),
                "with its whole gradient, however large": "chapter 9's loop also clips the gradient; here nothing is.",
                "and it is the optimizer's step": "the optimizer knows how far to go: it may be another than SGD.",
                "the average moves towards the new weights": (
                    "it keeps exactly the share `decay` of itself, in the first steps, too; the rest comes from the "
                    "weights after the step."
                ),
                "with every layer and every bias": "all parameters of the network, and in all of them the same share.",
                "a decay of 1 leaves the average alone, of 0 copies": "which of the two has the share `decay`?",
                "the average stays a parameter that keeps no graph": (
                    "nobody trains the average: move it in place, where PyTorch records nothing."
                ),
                "three steps, one after the other": "what is left over from the step before?",
                "and the average follows": (
                    "the average of the last step is where the next one starts, with the same share in each."
                ),
            },
        ),
        Part(
            "share_with_error",
            10,
            25,
            _share,
            _share_hidden,
            {
                "the share of the clips that are right": "a mean of ones and zeros.",
                "its error is that of a share": (
                    "the variance of a single clip is p (1 - p); which is that of a mean of n, and its root?"
                ),
                "four times the clips, half the error": "divide the variance by n, and then take the root.",
                "the nearer to none, the smaller the error": (
                    "the variance p (1 - p) has the share that was found in it, and the error is its root."
                ),
                "all right is not certain: 3 / n": ("the formula says 0 there. Chapter 10 says what to say instead."),
                "all wrong is not, either": "the same rule on the other side.",
                "most of many are wrong": "the same formula for any share and any n.",
                "most of many are right": "the same formula for any share and any n.",
                "a few clips, one of them wrong": "the same formula for five clips; 3 / n only where all agree.",
                "a single clip": "with n = 1 all are right or all are wrong.",
            },
        ),
    ),
    rubric=(
        (
            "The number that your teacher measures with another seed: at most 16 passes a clip, "
            "fixed before it is measured",
            10,
        ),
        ("Every change is tried alone, for a reason from the chapters, and has a number with an error", 10),
        ("What may be chance is not called better; how many clips it would take is said", 8),
        ("Clips that fail are looked at, and what fails in them is sorted by what the judge asks", 6),
        ("Somebody else can run it again: settings, seeds and the time that it took", 6),
    ),
    open_minutes=180,
)
