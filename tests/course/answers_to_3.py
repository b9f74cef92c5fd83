"""Answers to assignment 3, wrong and right, as students write them."""

import math

import torch
from course_answers import right, wrong
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


@right("ddim_step", "noise in x by the difference of both")
def as_one_sum(x, x0, kept, kept_next, eta, fresh):
    sigma = sigma_of(kept, kept_next, eta)
    share = math.sqrt((1 - kept_next - sigma**2) / (1 - kept))
    return share * x + (kept_next**0.5 - share * kept**0.5) * x0 + sigma * fresh


@right("ddim_step", "in tensors")
def in_tensors(x, x0, kept, kept_next, eta, fresh):
    a, b = torch.tensor(kept).double(), torch.tensor(kept_next).double()
    variance = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
    noise = (x - a.sqrt() * x0) / (1 - a).sqrt()
    return b.sqrt() * x0 + (1 - b - variance).clamp(min=0).sqrt() * noise + variance.sqrt() * fresh


@wrong("drop_captions", "whole captions, or none of their words")
def word_by_word(tokens, share, generator):
    return tokens * (torch.rand(tokens.shape, generator=generator) >= share)


@wrong("drop_captions", "the share is as asked")
def the_other_side(tokens, share, generator):
    return tokens * (torch.rand(len(tokens), 1, generator=generator) < share)


@wrong("drop_captions", "chance comes from the generator alone")
def seeds_it_again(tokens, share, generator):
    return tokens * (torch.rand(len(tokens), 1, generator=generator.manual_seed(0)) >= share)


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


@wrong("training_step", "the network takes one step, from this batch alone")
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


@wrong("training_step", "the average stays a parameter without a history")
def records_the_average(net, average, optimizer, x, target, decay):
    loss = trained(net, optimizer, x, target)
    for name, mean in list(average.named_parameters()):
        delattr(average, name)
        setattr(average, name, decay * mean + (1 - decay) * dict(net.named_parameters())[name])
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


@right("share_with_error", "from counts")
def from_counts(right):
    n, k = len(right), int(right.sum())
    return k / n, 3 / n if k in (0, n) else math.sqrt(k * (n - k) / n) / n


@right("share_with_error", "by the standard deviation of ones and zeros")
def by_std(right):
    ones = right.double()
    error = ones.std(correction=0) / len(ones) ** 0.5
    return ones.mean(), torch.where(error > 0, error, 3 / len(ones))
