"""Answers to assignment 3, wrong and right, as students write them."""

import itertools
import math

import torch
from course_answers import hidden, right, wrong
from einops import repeat


def mixed(x0, noise, share, root=True):
    share = share[..., None, None, None] if share.ndim == 2 else share[:, None, None, None, None]
    return (share.sqrt() * x0 + (1 - share).sqrt() * noise) if root else share * x0 + (1 - share) * noise


@wrong("add_noise", "without noise, the signal's share")
def forgets_the_roots(x0, noise, t, kept):
    return mixed(x0, noise, kept[t], root=False)


@wrong("add_noise", "the variance stays 1")
def all_of_the_noise(x0, noise, t, kept):
    return mixed(x0, 0 * noise, kept[t]) + noise


@wrong("add_noise", "every video has its own level")
def one_level_for_all(x0, noise, t, kept):
    return mixed(x0, noise, kept[t.flatten()[:1]].expand(len(x0)))


@wrong("add_noise", "or every frame")
def videos_only(x0, noise, t, kept):
    return mixed(x0, noise, kept[t if t.ndim == 1 else t[:, 0]])


@wrong("add_noise", "without a signal, the noise's")
def minus_the_noise(x0, noise, t, kept):
    return mixed(x0, -noise, kept[t])


@wrong("add_noise", "or every frame")
def frames_in_order_of_their_levels(x0, noise, t, kept):
    return mixed(x0, noise, kept[t.sort(dim=1).values if t.ndim == 2 else t])


@wrong("add_noise", "every video has its own level")
def videos_in_order_of_their_levels(x0, noise, t, kept):
    return mixed(x0, noise, kept[t.sort().values if t.ndim == 1 else t])


@right("add_noise", "one frame after the other")
def frame_by_frame(x0, noise, t, kept):
    out = torch.empty_like(x0)
    for i, j in itertools.product(range(x0.shape[0]), range(x0.shape[1])):
        share = float(kept[t[i] if t.ndim == 1 else t[i, j]])
        out[i, j] = share**0.5 * x0[i, j] + (1 - share) ** 0.5 * noise[i, j]
    return out


@right("add_noise", "einsum")
def by_einsum(x0, noise, t, kept):
    share = kept[t] if t.ndim == 2 else repeat(kept[t], "b -> b f", f=x0.shape[1])
    signal = torch.einsum("bfchw,bf->bfchw", x0, share.sqrt())
    return signal + torch.einsum("bfchw,bf->bfchw", noise, (1 - share).sqrt())


@right("add_noise", "an angle instead of two roots")
def by_angle(x0, noise, t, kept):
    angle = kept.sqrt().acos()[t]
    angle = angle.view(*angle.shape, *[1] * (5 - angle.ndim))
    return angle.cos() * x0 + angle.sin() * noise


def guess(x, output, kept, prediction):
    signal, noise = kept**0.5, (1 - kept) ** 0.5
    if prediction not in ("eps", "v", "x0"):
        raise ValueError(f"{prediction}?")
    return {"eps": (x - noise * output) / (signal or 1), "v": signal * x - noise * output, "x0": output}[prediction]


@wrong("guess_clean", "the network says the noise")
def without_dividing(x, output, kept, prediction):
    return x - (1 - kept) ** 0.5 * output if prediction == "eps" else guess(x, output, kept, prediction)


@wrong("guess_clean", "the network says v")
def v_with_the_wrong_sign(x, output, kept, prediction):
    return guess(x, -output if prediction == "v" else output, kept, prediction)


@wrong("guess_clean", "the network says x0")
def always_noise(x, output, kept, prediction):
    return guess(x, output, kept, "eps")


@wrong("guess_clean", "and where little signal is left")
def a_floor_under_the_signal(x, output, kept, prediction):
    if prediction == "eps":
        return (x - (1 - kept) ** 0.5 * output) / max(kept**0.5, 0.1)
    return guess(x, output, kept, prediction)


@wrong("guess_clean", "and where little signal is left")
def gives_up_on_much_noise(x, output, kept, prediction):
    return guess(x, output, kept, "x0" if prediction == "eps" and kept < 0.2 else prediction)


@wrong("guess_clean", "v works in pure noise, too")
def v_by_way_of_noise(x, output, kept, prediction):
    if prediction == "v":
        eps = kept**0.5 * output + (1 - kept) ** 0.5 * x
        return (x - (1 - kept) ** 0.5 * eps) / torch.tensor(kept).sqrt()
    return guess(x, output, kept, prediction)


@wrong("guess_clean", "another word is refused by name, with a ValueError")
def anything_goes(x, output, kept, prediction):
    return guess(x, output, kept, prediction) if prediction in ("eps", "v") else output


@right("guess_clean", "with angles")
def with_angles(x, output, kept, prediction):
    angle = math.acos(math.sqrt(kept))
    if prediction == "v":
        return math.cos(angle) * x - math.sin(angle) * output
    return guess(x, output, kept, prediction)


@right("guess_clean", "functions in a dictionary")
def in_a_dictionary(x, output, kept, prediction):
    signal, noise = kept**0.5, (1 - kept) ** 0.5
    means = {"eps": lambda: x / signal - noise / signal * output, "v": lambda: signal * x - noise * output}
    means["x0"] = lambda: output.clone()
    if prediction not in means:
        raise ValueError(f"no such prediction: {prediction}")
    return means[prediction]()


def stepped(x, x0, kept, after, sigma, fresh, old=None):
    noise = (x - kept**0.5 * x0) / (1 - kept) ** 0.5
    old = math.sqrt(max(1 - after - sigma**2, 0)) if old is None else old
    return after**0.5 * x0 + old * noise + sigma * fresh


def sigma_of(kept, after, eta):
    return eta * math.sqrt((1 - after) / (1 - kept) * (1 - kept / after))


@wrong("ddim_step", "with all of it")
def never_fresh(x, x0, kept, kept_next, eta, fresh):
    return stepped(x, x0, kept, kept_next, 0.0, fresh)


@wrong("ddim_step", "with all of it")
def fresh_on_top_of_old(x, x0, kept, kept_next, eta, fresh):
    return stepped(x, x0, kept, kept_next, sigma_of(kept, kept_next, eta), fresh, math.sqrt(1 - kept_next))


@wrong("ddim_step", "with half of it")
def all_or_nothing(x, x0, kept, kept_next, eta, fresh):
    return stepped(x, x0, kept, kept_next, sigma_of(kept, kept_next, float(eta > 0)), fresh)


@wrong("ddim_step", "without fresh noise")
def keeps_the_old_noise(x, x0, kept, kept_next, eta, fresh):
    return kept_next**0.5 * x0 + (x - kept**0.5 * x0)


@wrong("ddim_step", "the last step leaves x0 alone")
def fresh_noise_to_the_end(x, x0, kept, kept_next, eta, fresh):
    return stepped(x, x0, kept, kept_next, eta * math.sqrt(1 - kept / kept_next), fresh)


@hidden("ddim_step", "from pure noise")
def a_root_of_less_than_nothing(x, x0, kept, kept_next, eta, fresh):
    sigma = sigma_of(kept, kept_next, eta)
    return stepped(x, x0, kept, kept_next, sigma, fresh, math.sqrt(1 - kept_next - sigma**2))


@right("ddim_step", "noise in x by the difference of both")
def as_one_sum(x, x0, kept, kept_next, eta, fresh):
    sigma = sigma_of(kept, kept_next, eta)
    share = math.sqrt(max(1 - kept_next - sigma**2, 0) / (1 - kept))
    return share * x + (kept_next**0.5 - share * kept**0.5) * x0 + sigma * fresh


@right("ddim_step", "in tensors")
def in_tensors(x, x0, kept, kept_next, eta, fresh):
    a, b = torch.tensor(kept).double(), torch.tensor(kept_next).double()
    variance = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
    noise = (x - a.sqrt() * x0) / (1 - a).sqrt()
    return b.sqrt() * x0 + (1 - b - variance).clamp(min=0).sqrt() * noise + variance.sqrt() * fresh


@right("ddim_step", "in tensors of float32")
def in_tensors_of_float32(x, x0, kept, kept_next, eta, fresh):
    a, b = torch.tensor(kept).float(), torch.tensor(kept_next).float()
    sigma = eta * ((1 - b) / (1 - a) * (1 - a / b)).sqrt()
    noise = (x - a.sqrt() * x0) / (1 - a).sqrt()
    return b.sqrt() * x0 + (1 - b - sigma**2).clamp(min=0).sqrt() * noise + sigma * fresh


@wrong("drop_captions", "whole captions, or none of their words")
def word_by_word(tokens, share, generator):
    return tokens * (torch.rand(tokens.shape, generator=generator) >= share)


@wrong("drop_captions", "the share is as asked")
def the_other_side(tokens, share, generator):
    return tokens * (torch.rand(len(tokens), 1, generator=generator) < share)


@wrong("drop_captions", "chance comes from the generator alone")
def seeds_it_again(tokens, share, generator):
    return tokens * (torch.rand(len(tokens), 1, generator=generator.manual_seed(0)) >= share)


def thrown(tokens, share, generator):
    return torch.rand(len(tokens), generator=generator) < share


@wrong("drop_captions", "each caption by itself, by chance")
def exactly_the_share(tokens, share, generator):
    drop = torch.randperm(len(tokens), generator=generator)[: round(share * len(tokens))]
    out = tokens.clone()
    out[drop] = 0
    return out


@wrong("drop_captions", "each caption by itself, by chance")
def neighbours_share_a_throw(tokens, share, generator):
    pairs = thrown(tokens[::2], share, generator).repeat_interleave(2)[: len(tokens)]
    return tokens.masked_fill(pairs[:, None], 0)


@wrong("drop_captions", "each caption by itself, by chance")
def one_throw_for_all(tokens, share, generator):
    return tokens * (torch.rand(1, generator=generator) >= share)


@wrong("drop_captions", "what is kept stays in its place, as whole numbers")
def sorts_the_words(tokens, share, generator):
    return tokens.masked_fill(thrown(tokens, share, generator)[:, None], 0).sort(dim=1).values


@wrong("drop_captions", "what is kept stays in its place, as whole numbers")
def returns_floats(tokens, share, generator):
    return tokens * (~thrown(tokens, share, generator)[:, None]).float()


@wrong("drop_captions", "chance comes from the generator alone")
def throws_of_its_own(tokens, share, generator):
    return tokens.masked_fill(torch.rand(len(tokens), 1) < share, 0)


@wrong("drop_captions", "the share is as asked")
def empties_none(tokens, share, generator):
    return tokens.clone()


@hidden("drop_captions", "a single caption is emptied as often as others")
def never_a_single_one(tokens, share, generator):
    return tokens.masked_fill(thrown(tokens, share, generator)[:, None], 0) if len(tokens) > 1 else tokens.clone()


@wrong("drop_captions", "the given captions are not changed")
def writes_into_them(tokens, share, generator):
    tokens[torch.rand(len(tokens), generator=generator) < share] = 0
    return tokens


@wrong("drop_captions", "empty words are zeros")
def minus_one(tokens, share, generator):
    return torch.where(torch.rand(len(tokens), 1, generator=generator) < share, -1, tokens)


@right("drop_captions", "where")
def by_where(tokens, share, generator):
    drop = torch.rand(len(tokens), generator=generator) < share
    return torch.where(drop[:, None], torch.zeros_like(tokens), tokens)


@right("drop_captions", "bernoulli")
def by_bernoulli(tokens, share, generator):
    out = tokens.clone()
    out[torch.bernoulli(torch.full((len(tokens),), share), generator=generator).bool()] = 0
    return out


@right("drop_captions", "row by row")
def row_by_row(tokens, share, generator):
    out = tokens.clone()
    for row in out:
        if float(torch.rand(1, generator=generator)) < share:
            row.zero_()
    return out


def trained(net, optimizer, x, target, empty=True):
    loss = (net(x) - target).square().mean()
    if empty:
        optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def follow(average, net, share):
    for mean, weight in zip(average.parameters(), net.parameters(), strict=True):
        mean.mul_(share).add_((1 - share) * weight)


@wrong("training_step", "from this batch alone")
def keeps_old_gradients(net, average, optimizer, x, target, decay):
    loss = trained(net, optimizer, x, target, empty=False)
    follow(average, net, decay)
    return loss


@wrong("training_step", "the average moves towards the new weights")
def averages_before_the_step(net, average, optimizer, x, target, decay):
    follow(average, net, decay)
    return trained(net, optimizer, x, target)


@wrong("training_step", "a decay of 1 leaves the average alone, of 0 copies")
def decay_the_wrong_way_round(net, average, optimizer, x, target, decay):
    loss = trained(net, optimizer, x, target)
    follow(average, net, 1 - decay)
    return loss


@wrong("training_step", "it returns the loss of the batch")
def sums_the_squares(net, average, optimizer, x, target, decay):
    loss = trained(net, optimizer, x, target)
    follow(average, net, decay)
    return loss * target.numel()


@wrong("training_step", "the average stays a parameter that keeps no graph")
def records_the_average(net, average, optimizer, x, target, decay):
    loss, new = trained(net, optimizer, x, target), dict(net.named_parameters())
    for name, mean in list(average.named_parameters()):
        layer, _, name_there = name.rpartition(".")
        delattr(average.get_submodule(layer), name_there)
        setattr(average.get_submodule(layer), name_there, decay * mean + (1 - decay) * new[name])
    return loss


@wrong("training_step", "the loss is a number that keeps no graph")
def hands_out_the_history(net, average, optimizer, x, target, decay):
    loss = (net(x) - target).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    follow(average, net, decay)
    return loss


@wrong("training_step", "with its whole gradient, however large")
def clips_the_gradient(net, average, optimizer, x, target, decay):
    loss = (net(x) - target).square().mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    follow(average, net, decay)
    return loss.item()


@wrong("training_step", "from this batch alone")
def empties_afterwards(net, average, optimizer, x, target, decay):
    loss = trained(net, optimizer, x, target, empty=False)
    optimizer.zero_grad()
    follow(average, net, decay)
    return loss


@wrong("training_step", "and it is the optimizer's step")
def steps_by_hand(net, average, optimizer, x, target, decay):
    loss = (net(x) - target).square().mean()
    rate = optimizer.param_groups[0]["lr"]
    with torch.no_grad():
        for weight, gradient in zip(net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True):
            weight -= rate * gradient
    follow(average, net, decay)
    return loss.item()


@wrong("training_step", "the network takes one step")
def two_steps(net, average, optimizer, x, target, decay):
    loss = trained(net, optimizer, x, target)
    trained(net, optimizer, x, target)
    follow(average, net, decay)
    return loss


@wrong("training_step", "the average moves towards the new weights")
def only_the_last_is_averaged(net, average, optimizer, x, target, decay):
    loss = trained(net, optimizer, x, target)
    with torch.no_grad():
        [*average.parameters()][-1].lerp_([*net.parameters()][-1], 1 - decay)
    return loss


@wrong("training_step", "with every layer and every bias")
def only_the_first_is_averaged(net, average, optimizer, x, target, decay):
    loss = trained(net, optimizer, x, target)
    with torch.no_grad():
        next(average.parameters()).lerp_(next(net.parameters()), 1 - decay)
    return loss


@wrong("training_step", "with every layer and every bias")
def only_matrices_are_averaged(net, average, optimizer, x, target, decay):
    loss = trained(net, optimizer, x, target)
    with torch.no_grad():
        for mean, weight in zip(average.parameters(), net.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay if weight.ndim > 1 else 0)
    return loss


@wrong("training_step", "with every layer and every bias")
def vectors_the_wrong_way_round(net, average, optimizer, x, target, decay):
    loss = trained(net, optimizer, x, target)
    with torch.no_grad():
        for mean, weight in zip(average.parameters(), net.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay if weight.ndim > 1 else decay)
    return loss


@wrong("training_step", "the average moves towards the new weights")
def half_of_it_always(net, average, optimizer, x, target, decay):
    loss = trained(net, optimizer, x, target)
    follow(average, net, 0.5)
    return loss


@wrong("training_step", "the average moves towards the new weights")
def a_short_average(net, average, optimizer, x, target, decay):
    loss = trained(net, optimizer, x, target)
    follow(average, net, min(decay, 0.1))
    return loss


@right("training_step", "the average's data are replaced")
def by_data(net, average, optimizer, x, target, decay):
    loss = trained(net, optimizer, x, target)
    for mean, weight in zip(average.parameters(), net.parameters(), strict=True):
        mean.data = decay * mean.data + (1 - decay) * weight.detach()
    return loss


@right("training_step", "by hand, from the gradients")
def by_gradients(net, average, optimizer, x, target, decay):
    loss = torch.nn.functional.mse_loss(net(x), target)
    for weight, gradient in zip(net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True):
        weight.grad = gradient
    optimizer.step()
    follow(average, net, decay)
    return loss.detach()


@right("training_step", "through the state dictionary")
def by_state(net, average, optimizer, x, target, decay):
    loss = trained(net, optimizer, x, target)
    new = {name: decay * mean + (1 - decay) * net.state_dict()[name] for name, mean in average.state_dict().items()}
    average.load_state_dict(new)
    return torch.tensor(loss)


@wrong("share_with_error", "its error is that of a share")
def forgets_the_root_of_n(right):
    p = float(right.double().mean())
    return p, math.sqrt(p * (1 - p)) if 0 < p < 1 else 3 / len(right)


@wrong("share_with_error", "its error is that of a share")
def variance_for_error(right):
    p = float(right.double().mean())
    return p, p * (1 - p) / len(right) if 0 < p < 1 else 3 / len(right)


@wrong("share_with_error", "all right is not certain: 3 / n")
def certain(right):
    p = float(right.double().mean())
    return p, math.sqrt(p * (1 - p) / len(right))


@wrong("share_with_error", "the share of the clips that are right")
def counts(right):
    p = float(right.double().mean())
    return float(right.sum()), math.sqrt(p * (1 - p) / len(right)) if 0 < p < 1 else 3 / len(right)


@wrong("share_with_error", "all wrong is not, either")
def forgets_the_other_side(right):
    p = float(right.double().mean())
    return p, math.sqrt(p * (1 - p) / len(right)) if p < 1 else 3 / len(right)


def pair(p, n, error):
    return p, error if 0 < p < 1 else 3 / n


@wrong("share_with_error", "its error is that of a share")
def divides_by_n_minus_one(right):
    p = float(right.double().mean())
    return pair(p, len(right), math.sqrt(p * (1 - p) / max(len(right) - 1, 1)))


@wrong("share_with_error", "its error is that of a share")
def two_errors(right):
    p = float(right.double().mean())
    return pair(p, len(right), 2 * math.sqrt(p * (1 - p) / len(right)))


@wrong("share_with_error", "the nearer to none, the smaller the error")
def always_the_widest(right):
    return pair(float(right.double().mean()), len(right), 0.5 / math.sqrt(len(right)))


@wrong("share_with_error", "four times the clips, half the error")
def three_by_n_for_all(right):
    return float(right.double().mean()), 3 / len(right)


@right("share_with_error", "no error above 1")
def at_most_one(right):
    p, n = float(right.double().mean()), len(right)
    return p, min(1, 3 / n) if p in (0, 1) else math.sqrt(p * (1 - p) / n)


@right("share_with_error", "from counts")
def from_counts(right):
    n, k = len(right), int(right.sum())
    return k / n, 3 / n if k in (0, n) else math.sqrt(k * (n - k) / n) / n


@right("share_with_error", "by the standard deviation of ones and zeros")
def by_std(right):
    ones = right.double()
    error = ones.std(correction=0) / len(ones) ** 0.5
    return ones.mean(), torch.where(error > 0, error, 3 / len(ones))
