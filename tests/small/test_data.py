"""The moving digits: motion, captions, splits and seeds."""

import pytest
import torch

from vdmlib.small import data, judge


def test_a_digit_moves_by_speed_over_fps():
    for speed, fps in (("slowly", 10), ("slowly", 16), ("quickly", 10), ("quickly", 16)):
        prompt = data.Prompt(3, "green", "down", speed, fps)
        glyph = data.handwriting("test")[3, :1]
        centres = judge.track(data.render(glyph, [prompt]))[0]
        moved = (centres[1:] - centres[:-1]).mean(dim=0)
        assert prompt.pixels_per_frame == data.SPEEDS[speed] / fps
        torch.testing.assert_close(moved, torch.tensor(prompt.velocity), atol=0.05, rtol=0)


def test_slowly_at_10_frames_per_second_looks_like_quickly_at_16():
    glyph = data.handwriting("test")[5, :1]
    slow = data.render(glyph, [data.Prompt(5, "red", "left", "slowly", 10)])
    quick = data.render(glyph, [data.Prompt(5, "red", "left", "quickly", 16)])
    assert torch.equal(slow, quick)
    assert not torch.equal(slow, data.render(glyph, [data.Prompt(5, "red", "left", "slowly", 16)]))


def test_every_clip_starts_in_the_middle_and_the_digit_stays_in_the_frame():
    clips = data.MovingDigits("test", "all").batch(range(200))
    centres = judge.track(clips.video)
    # MNIST puts the centre of mass half a pixel off the middle of 28 × 28 pixels, give or take half a pixel.
    assert (centres[:, 0] - (data.SIZE - 1) / 2).abs().max() < 2
    ink = judge.ink(clips.video).sum(dim=(2, 3))
    # A digit that reaches the edge may lose a little of a stroke, no more.
    assert (ink[:, -1] / ink[:, 0]).min() > 0.8


def test_values_and_shapes():
    clips = data.MovingDigits().batch(range(3))
    assert clips.video.shape == (3, data.FRAMES, 3, data.SIZE, data.SIZE)
    assert clips.video.min() >= -1 and clips.video.max() <= 1
    assert clips.fps.tolist() == [p.fps for p in clips.prompts]
    assert clips[1:].prompts == clips.prompts[1:]


def test_a_clip_depends_on_seed_and_number_alone():
    first, again = data.MovingDigits(seed=4), data.MovingDigits(seed=4)
    assert torch.equal(first.batch([7, 8]).video[1], again[8].video[0])
    assert not torch.equal(first[8].video, data.MovingDigits(seed=5)[8].video)
    assert not torch.equal(first[8].video, first[9].video)


def test_training_and_test_handwriting_are_different():
    train, test = data.handwriting("train"), data.handwriting("test")
    assert train.shape == (10, 400, 28, 28) and test.shape == (10, 100, 28, 28)
    seen = {glyph.numpy().tobytes() for glyph in train.flatten(0, 1)}
    assert not seen & {glyph.numpy().tobytes() for glyph in test.flatten(0, 1)}


def test_unseen_combinations_never_occur_in_training():
    seen, unseen = data.all_prompts("seen"), data.all_prompts("unseen")
    assert len(seen) + len(unseen) == len(data.all_prompts()) == 800

    def combinations(prompts):
        return {(p.digit, p.colour, p.direction) for p in prompts}

    assert not combinations(seen) & combinations(unseen)
    assert len(combinations(unseen)) == 20
    # Each word occurs among both.
    for prompts in (seen, unseen):
        assert {p.digit for p in prompts} == set(range(10)) and {p.colour for p in prompts} == set(data.COLOURS)
    drawn = combinations(data.MovingDigits("train").batch(range(500)).prompts)
    assert not drawn & combinations(unseen)


def test_captions_become_words():
    prompt = data.Prompt(7, "red", "left", "quickly")
    assert prompt.caption == "a red 7 moving left quickly"
    tokens = data.tokenize([prompt.caption, "a red 7", ""])
    assert [data.VOCABULARY[i] for i in tokens[0]] == prompt.caption.split()
    assert tokens[1, 3:].tolist() == [0, 0, 0] and tokens[2].tolist() == [0] * 6


def test_stills_are_one_frame_in_the_middle():
    clips = data.MovingDigits(still=True).batch(range(20))
    assert clips.video.shape[1] == 1
    assert all(p.direction is None and "moving" not in p.caption for p in clips.prompts)


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: data.tokenize(["a violet 7"]), "violet"),
        (lambda: data.tokenize(["a red 7 moving left quickly a"]), "at most 6"),
        (lambda: data.Prompt(10, "red"), "digit"),
        (lambda: data.Prompt(1, "red", "left"), "direction and speed"),
        (lambda: data.MovingDigits(length=5)[5], "0 to 4"),
    ],
)
def test_mistakes_are_explained(make, says):
    with pytest.raises((ValueError, IndexError), match=says):
        make()
