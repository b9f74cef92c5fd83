"""Wrong and right answers to the exercises of chapter 9."""

import torch
from answers import right, wrong


@wrong("ex-training-minsnr", "ignores an argument", "the cap", fails="another cap, 10")
def min_snr_weight(snr, prediction, cap=5.0):
    contained = {"x0": 1, "eps": snr, "v": snr + 1}[prediction]
    return snr.clamp(max=5.0) / contained


@wrong("ex-training-minsnr", "ignores an argument", "what is predicted", fails="eps, SNR 2: left as it is")
def min_snr_weight(snr, prediction, cap=5.0):
    return snr.clamp(max=cap)


@wrong("ex-training-minsnr", "hard-codes the example", fails="x0, SNR 100: cut off at 5")
def min_snr_weight(snr, prediction, cap=5.0):
    return torch.full_like(snr, {"x0": 2.0, "eps": 1.0, "v": 0.5}[prediction])


@wrong("ex-training-minsnr", "has the classic bug", "v like eps", fails="v, SNR 1: 0.5")
def min_snr_weight(snr, prediction, cap=5.0):
    return snr.clamp(max=cap) / (1 if prediction == "x0" else snr)


@wrong("ex-training-minsnr", "has the classic bug", "multiplies instead of dividing", fails="eps, SNR 2: left as it is")
def min_snr_weight(snr, prediction, cap=5.0):
    return snr.clamp(max=cap) * {"x0": 1, "eps": snr, "v": snr + 1}[prediction]


@wrong("ex-training-minsnr", "has the right shape and nothing else", fails="x0, SNR 2: 2")
def min_snr_weight(snr, prediction, cap=5.0):
    return torch.ones_like(snr)


@right("ex-training-minsnr", "with torch.minimum, case by case")
def min_snr_weight(snr, prediction, cap=5.0):
    least = torch.minimum(snr, torch.full_like(snr, cap))
    if prediction == "eps":
        return least / snr
    return least / (snr + 1) if prediction == "v" else least


@right("ex-training-minsnr", "each quotient simplified")
def min_snr_weight(snr, prediction, cap=5.0):
    if prediction == "x0":
        return torch.where(snr < cap, snr, cap)
    if prediction == "eps":
        return torch.where(snr < cap, 1.0, cap / snr)
    return torch.where(snr < cap, 1 - 1 / (1 + snr), cap / (1 + snr))


@wrong("ex-training-two", "ignores an argument", "p", fails="with p = 0.2, neither: 40 %")
def drop(number, p, generator):
    r = torch.rand(number, generator=generator)
    return r < 0.1, (r >= 0.05) & (r < 0.15)


@wrong("ex-training-two", "ignores an argument", "the smaller of the two scales for both", fails="scales 2, 7")
def guide(nothing, image, both, s_image, s_text):
    scale = min(s_text, s_image)
    return nothing + scale * (both - nothing) + (s_image - scale) * (image - nothing)


@wrong("ex-training-two", "hard-codes the example", "the numbers of the check", fails="scales 2, 7")
def guide(nothing, image, both, s_image, s_text):
    known = {(0, 0): nothing, (1, 0): image, (1, 1): both}
    return known.get((s_image, s_text), nothing + 4 * (both - nothing))


@wrong(
    "ex-training-two", "has the classic bug", "each dropped by itself, so both far too seldom", fails="text alone: 5 %"
)
def drop(number, p, generator):
    r = torch.rand(number, 2, generator=generator)
    return r[:, 0] < 2 * p, r[:, 1] < 2 * p


@wrong("ex-training-two", "has the classic bug", "never both", fails="both: 5 %")
def drop(number, p, generator):
    r = torch.rand(number, generator=generator)
    return r < p, (r >= p) & (r < 2 * p)


@wrong("ex-training-two", "has the classic bug", "both scales count from nothing", fails="scales 1, 1: both")
def guide(nothing, image, both, s_image, s_text):
    return nothing + s_image * (image - nothing) + s_text * (both - nothing)


@wrong("ex-training-two", "has the right shape and nothing else", fails="text alone: 5 %")
def drop(number, p, generator):
    return torch.zeros(number, dtype=torch.bool), torch.zeros(number, dtype=torch.bool)


@right("ex-training-two", "other pieces of the line")
def drop(number, p, generator):
    r = torch.rand(number, generator=generator)
    case = torch.bucketize(r, torch.tensor([p, 2 * p, 3 * p]), right=True)
    return (case == 0) | (case == 2), (case == 1) | (case == 2)


@right("ex-training-two", "as a sum of three weighted answers")
def guide(nothing, image, both, s_image, s_text):
    return (1 - s_image) * nothing + (s_image - s_text) * image + s_text * both
