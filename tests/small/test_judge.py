"""The judge is right about clips whose truth is known, and notices what is wrong."""

import warnings
from dataclasses import replace
from math import isfinite

import numpy as np
import pytest
import torch
from one_sentence import refuses
from tiny_training import TinyStage, tiny
from torch import nn

from vdmlib import media
from vdmlib.autoencoder import Autoencoder
from vdmlib.released import encoders
from vdmlib.small import data, judge
from vdmlib.small.model import small_schedule


@pytest.fixture(scope="module")
def clips():
    return data.MovingDigits("test", "all", seed=3).batch(range(120))


def test_direction_speed_and_colour_of_real_clips_are_all_right(clips):
    right = judge.right_answers(judge.DigitClassifier(), clips.video, clips.prompts)
    for name in ("direction", "speed", "colour"):
        assert right[name].all(), name


def test_velocity_is_measured_to_a_tenth_of_a_pixel(clips):
    wanted = torch.tensor([p.velocity for p in clips.prompts])
    torch.testing.assert_close(judge.velocity(clips.video), wanted, atol=0.12, rtol=0)


@pytest.mark.parametrize("condition", ["direction", "speed", "fps", "colour"])
def test_a_wrong_prompt_is_noticed(clips, condition):
    wrong = judge.wrong_prompts(clips.prompts, condition)
    right = judge.right_answers(judge.DigitClassifier(), clips.video, wrong)
    assert not right["speed" if condition == "fps" else condition].any()


def test_noise_and_blur_do_not_change_the_closed_forms(clips):
    generator = torch.Generator().manual_seed(0)
    video = clips.video + 0.05 * torch.randn(clips.video.shape, generator=generator)
    right = judge.right_answers(judge.DigitClassifier(), video, clips.prompts)
    for name in ("direction", "speed", "colour"):
        assert right[name].float().mean() > 0.97, name


def test_a_few_steps_teach_the_classifier_digits(clips):
    torch.manual_seed(0)
    net = judge.DigitClassifier().train()
    glyphs = judge.aligned_glyphs(data.MovingDigits().batch(range(600)).video[:, :1])
    labels = torch.tensor([p.digit for p in data.MovingDigits().batch(range(600)).prompts])
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(glyphs), labels).backward()
        optimizer.step()
    digits = torch.tensor([p.digit for p in clips.prompts])
    assert (judge.predict_digits(net.eval(), clips.video) == digits).float().mean() > 0.7


def test_aligned_glyphs_do_not_depend_on_place_and_colour():
    glyph = data.handwriting("test")[4, :1]
    a = judge.aligned_glyphs(data.render(glyph, [data.Prompt(4, "red", "left", "slowly")]))
    b = judge.aligned_glyphs(data.render(glyph, [data.Prompt(4, "blue", "up", "slowly")]))
    assert judge.correlation(a, b).min() > 0.98
    other = judge.aligned_glyphs(data.render(data.handwriting("test")[1, :1], [data.Prompt(1, "red")]))
    assert judge.correlation(a, other).max() < 0.8


def test_drift_is_seen(clips):
    """Clips whose last frame shows another handwriting."""
    first, last = judge.ends(clips.video)
    steady = judge.correlation(first, last)
    changed = clips.video.clone()
    changed[:, -1] = clips.video.roll(1, 0)[:, -1]
    assert steady.mean() > 0.95 > judge.correlation(*judge.ends(changed)).mean() + 0.2


def test_frechet_distance_of_known_normal_distributions():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(20_000, 3, generator=generator)
    assert judge.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert judge.frechet_distance(a, a + 2) == pytest.approx(12, rel=0.03)  # |2|² in three dimensions
    assert judge.frechet_distance(a, 3 * a) == pytest.approx(12, rel=0.03)  # 3 (3 − 1)²
    with pytest.raises(ValueError, match="more points than dimensions"):
        judge.frechet_distance(a[:3], a)


def test_only_a_network_that_uses_a_condition_loses_by_a_wrong_one(clips):
    """Two oracles: one that is told the whole truth by its condition, one that is blind to it."""

    class Identity(Autoencoder):
        def encode(self, video):
            return video

    schedule = replace(__import__("vdmlib").NoiseSchedule.cosine(), prediction="v")
    some = clips[:8]
    glyphs = some.glyphs

    def oracle(noisy, t, tokens, fps, first_frame):
        prompts = []
        for row, rate in zip(tokens, fps, strict=True):
            words = [data.VOCABULARY[i] for i in row]
            moving = words[2] != data.PADDING
            prompts.append(
                data.Prompt(int(words[2]), words[1], words[4], words[5], int(rate)) if moving else data.Prompt(0, "red")
            )
        x0 = data.render(glyphs, prompts)
        signal, sigma = schedule.coefficients(t, x0)
        return schedule.target(x0, (noisy - signal * x0) / sigma, t)

    def blind(noisy, t, tokens, fps, first_frame):
        return torch.zeros_like(noisy)

    seen = judge.wrong_condition_losses(oracle, Identity(), schedule, some, timesteps=(500,))
    assert seen["correct"][500] < 1e-8
    for condition in ("colour", "direction", "speed", "fps", "caption", "frames"):
        assert seen[condition][500] > 1e-3, condition
    assert seen["digit"][500] < 1e-8  # this oracle draws the true handwriting whatever digit is asked for
    unseen = judge.wrong_condition_losses(blind, Identity(), schedule, some, timesteps=(500,))
    assert len({round(row[500], 6) for name, row in unseen.items() if name != "frames"}) == 1


def test_conditions_are_asked_on_the_device_and_in_the_type_of_the_weights(clips):
    """Imitated by double precision: the clips are made in float32 on the CPU, the weights may be elsewhere."""
    stage = TinyStage(tiny()).double().eval()
    table = judge.wrong_condition_losses(stage.trained, stage.autoencoder, stage.schedule, clips[:4], timesteps=(500,))
    assert all(isfinite(loss) for row in table.values() for loss in row.values())


def test_handwriting_is_recognised_in_image_to_video(clips):
    kept = judge.kept_handwriting(clips.video, clips.video[:, 0])
    assert kept["given"] > 0.95 > kept["another"] + 0.2


def test_the_whole_verdict_on_real_clips_is_the_ceiling(clips):
    verdict = judge.judge(judge.DigitClassifier().eval(), clips.video, clips.prompts, clips.video)
    assert (verdict.direction, verdict.speed, verdict.colour, verdict.clips) == (1.0, 1.0, 1.0, len(clips))
    assert verdict.everything == pytest.approx(verdict.digit)
    assert verdict.frechet == pytest.approx(0, abs=1e-3) and verdict.glyph_similarity > 0.95
    assert "| real |" in judge.verdict_table({"real": verdict})


# What can come into it

CLIPS = data.MovingDigits("test").batch(range(2))
LEVELS = dict(predict=lambda x, *_: x, autoencoder=Autoencoder().eval(), schedule=small_schedule(), clips=CLIPS)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_clips_of_any_float_type_are_judged_alike(dtype):
    classifier, video, prompts = judge.load_classifier(), CLIPS.video, CLIPS.prompts
    for changed in (video.to(dtype), video.to(dtype).requires_grad_()):
        assert judge.predict_digits(classifier, changed).equal(judge.predict_digits(classifier, video))
        assert [seen[:2] for seen in judge.read_clip(changed)] == [seen[:2] for seen in judge.read_clip(video)]
        right = judge.right_answers(classifier, changed, prompts)
        assert all(
            right[name].equal(answers) for name, answers in judge.right_answers(classifier, video, prompts).items()
        )
        found, expected = judge.features(classifier, changed), judge.features(classifier, video)
        torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)


def losses(**changed):
    return lambda: judge.wrong_condition_losses(**LEVELS | dict(timesteps=[5]) | changed)


BAD = {
    "clips of nan": (lambda: judge.read_clip(CLIPS.video / 0), ValueError, "not finite"),
    "digits of nan": (lambda: judge.predict_digits(judge.DigitClassifier(), CLIPS.video / 0), ValueError, "not finite"),
    "one frame": (lambda: judge.velocity(CLIPS.video[:, :1]), ValueError, "one frame does not move"),
    "8 bits": (lambda: judge.ink(CLIPS.video.to(torch.float8_e4m3fn)), ValueError, "float8_e4m3fn"),
    "sparse clips": (lambda: judge.ink(CLIPS.video.to_sparse()), TypeError, "video is sparse"),
    "one speed": (lambda: judge.nearest_speed(torch.tensor(1.5)), ValueError, "pixels_per_frame has shape ()"),
    "speed of nan": (lambda: judge.nearest_speed(torch.tensor([float("nan")])), ValueError, "not finite"),
    "pictures of whole numbers": (
        lambda: judge.correlation(torch.ones(2, 4).int(), torch.ones(2, 4).int()), TypeError, "a is torch.int32",
    ),
    "clouds of whole numbers": (
        lambda: judge.frechet_distance(torch.ones(9, 2).int(), torch.ones(9, 2)), TypeError, "a is torch.int32",
    ),
    "clouds of nan": (
        lambda: judge.frechet_distance(torch.ones(9, 2), torch.ones(9, 2) / 0), ValueError, "b holds numbers", "finite",
    ),
    "a rate that has no next": (
        lambda: judge.wrong_prompts([data.Prompt(7, "red", "left", "slowly", 8)], "fps"), ValueError,
        "fps is 8", "10, 16",
    ),
    "a still made wrong": (
        lambda: judge.wrong_prompts([data.Prompt(7, "red")], "direction"), ValueError,
        "direction is None", "left, right",
    ),
    "verdicts in a list": (lambda: judge.verdict_table([1]), TypeError, "verdicts is [1]"),
    "no predictor": (losses(predict=None), TypeError, "predict is None", "VideoModel"),
    "no autoencoder": (losses(autoencoder=None), TypeError, "autoencoder is None", "load_autoencoder()"),
    "no schedule": (losses(schedule=None), TypeError, "schedule is None", "small_schedule()"),
    "a level": (losses(timesteps=5), ValueError, "timesteps is 5", "a list of levels"),
    "a level too high": (losses(timesteps=[1000]), ValueError, "timesteps lists levels from 1000", "0 ... 999"),
    "seed in words": (losses(seed="lucky"), ValueError, "seed is 'lucky'", "whole number"),
    "a prediction of another shape": (
        losses(predict=lambda *_: torch.zeros(1)), ValueError,
        "What is predicted has shape (1,)",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_judged_is_said_in_one_sentence(name):
    refuses(*BAD[name])


BYTES = 127.5 * (CLIPS.video + 1)
TAKE_CLIPS = {
    "read_clip": judge.read_clip,
    "right_answers": lambda video: judge.right_answers(judge.DigitClassifier(), video, CLIPS.prompts),
    "predict_digits": lambda video: judge.predict_digits(judge.DigitClassifier(), video),
    "features": lambda video: judge.features(judge.DigitClassifier(), video),
    "mean_colour": judge.mean_colour,
    "aligned_glyphs": judge.aligned_glyphs,
    "kept_handwriting": lambda video: judge.kept_handwriting(video, CLIPS.video[:, 0]),
    "encode": lambda video: Autoencoder().encode(video),
    "to_bytes": media.to_bytes,
    "prepare_image": lambda video: encoders.prepare_image(video[:, 0], 8),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", TAKE_CLIPS)
def test_pixels_in_another_range_are_refused_or_where_they_could_be_right_warned_of(name):
    refuses(lambda: TAKE_CLIPS[name](BYTES), ValueError, "to 255, but pixels are fractions in -1 ... 1", "divide bytes")
    with pytest.warns(UserWarning, match=r"if these are fractions of white, pass 2 \* \w+ - 1\.$"):
        TAKE_CLIPS[name](BYTES / 255)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TAKE_CLIPS[name](1.3 * CLIPS.video)  # As a decoder leaves them.


@pytest.mark.usefixtures("unchecked")
def test_levels_and_seeds_of_any_library_are_the_same_losses():
    expected = losses(timesteps=[5, 700], seed=3)()
    for levels, seed in ((np.array([5, 700]), np.int64(3)), (torch.tensor([5, 700]), np.uint8(3))):
        assert losses(timesteps=levels, seed=seed)() == expected
