"""The moving digits: motion, captions, splits and seeds."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from one_sentence import refuses
from torch.utils.data import DataLoader

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
    assert torch.equal(first.batch([7, 8]).video[1], again[8].video)
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


WORDS = st.lists(st.sampled_from(data.VOCABULARY[1:]), max_size=data.CAPTION_TOKENS)
SPACES = st.sampled_from([" ", "  ", "\t", "\n", "\u00a0"])


@settings(max_examples=60)
@given(st.lists(st.tuples(WORDS, SPACES), min_size=1, max_size=4))
def test_words_come_back_from_their_numbers_whatever_stands_between_them(captions):
    tokens = data.tokenize([space.join(words) + space for words, space in captions])
    assert tokens.shape == (len(captions), data.CAPTION_TOKENS)
    for row, (words, _) in zip(tokens.tolist(), captions, strict=True):
        assert [data.VOCABULARY[number] for number in row if number] == words
        assert row[len(words) :] == [0] * (data.CAPTION_TOKENS - len(words))


@given(st.text(st.characters(), max_size=200))
def test_any_other_text_is_refused_in_one_sentence(text):
    words = text.split()
    if len(words) <= data.CAPTION_TOKENS and all(word in data.VOCABULARY for word in words):
        assert data.tokenize([text]).shape == (1, data.CAPTION_TOKENS)
        return
    with pytest.raises(ValueError, match="cannot be read: use at most 6 of the words a, moving, 0") as error:
        data.tokenize([text])
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@settings(max_examples=10)
@given(st.integers(0, 2**31 - 1), st.lists(st.integers(-(2**53), 2**53 - 1), min_size=1, max_size=3))
def test_any_clip_of_any_seed_is_the_same_alone_and_in_a_batch(seed, numbers):
    clips = data.MovingDigits(length=2**53, seed=seed)
    together = clips.batch(numbers)
    for i, number in enumerate(numbers):
        alone = clips[number]
        assert torch.equal(alone.video, together.video[i]) and alone.caption == together.prompts[i].caption


def test_stills_are_one_frame_in_the_middle():
    clips = data.MovingDigits(still=True).batch(range(20))
    assert clips.video.shape[1] == 1
    assert all(p.direction is None and "moving" not in p.caption for p in clips.prompts)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_data_loader_makes_batches_of_it(shuffle):
    clips = data.MovingDigits("train", length=10)
    batches = list(DataLoader(clips, batch_size=4, shuffle=shuffle, drop_last=True))
    assert len(batches) == 2
    for video, tokens, fps, captions in batches:
        assert video.shape == (4, data.FRAMES, 3, data.SIZE, data.SIZE) and fps.shape == (4,)
        assert torch.equal(tokens, data.tokenize(captions))
    if not shuffle:
        together = clips.batch(range(4))
        assert torch.equal(batches[0].video, together.video) and torch.equal(batches[0].fps, together.fps)
        assert list(batches[0].caption) == [p.caption for p in together.prompts]


@pytest.mark.parametrize("index", [np.int64(3), np.uint8(3), torch.tensor(3), -7])
def test_a_clip_may_be_asked_for_by_any_whole_number_and_from_the_end(index):
    clips = data.MovingDigits(length=10)
    assert torch.equal(clips[index].video, clips[3].video)
    assert torch.equal(clips.batch([index]).video[0], clips[3].video)


@pytest.mark.usefixtures("unchecked")
def test_numbers_of_any_library_and_glyphs_of_any_type_make_the_same_clips():
    ours = data.MovingDigits(length=np.uint8(200), seed=np.uint8(250), size=np.int32(32), frames=np.uint8(3))
    theirs = data.MovingDigits(length=200, seed=250, size=32, frames=3)
    assert torch.equal(ours[199].video, theirs[199].video)
    assert [len(some) for some in ours.batches(np.uint8(90), np.uint8(1))] == [90]
    glyphs = data.handwriting("test")[1, :2]
    for dtype in (torch.float64, torch.float16):
        torch.testing.assert_close(
            data.render(glyphs.to(dtype), [PROMPT] * 2), data.render(glyphs, [PROMPT] * 2), atol=2e-3, rtol=0
        )


def test_a_dataset_can_be_gone_through():
    assert [clip.caption for clip in data.MovingDigits(length=3)] == [
        prompt.caption for prompt in data.MovingDigits().batch(range(3)).prompts
    ]


GLYPHS = torch.zeros(2, 28, 28)
PROMPT = data.Prompt(1, "red")
BAD = {
    "unknown word": (lambda: data.tokenize(["a violet 7"]), ValueError, "'a violet 7' cannot be read", "a, moving"),
    "too many words": (lambda: data.tokenize(["a red 7 moving left quickly a"]), ValueError, "at most 6"),
    "a caption": (lambda: data.tokenize("a red 7"), TypeError, "captions is the text 'a red 7'", "['a red 7']"),
    "no captions": (lambda: data.tokenize([]), ValueError, "captions is empty"),
    "numbers": (lambda: data.tokenize([7]), TypeError, "captions is [7]", "one string"),
    "nothing": (lambda: data.tokenize(None), TypeError, "captions is None", "one string"),
    "a mask of clips": (
        lambda: data.MovingDigits().batch(torch.tensor([True, False])),
        TypeError,
        "index is tensor(True)",
        "whole number",
    ),
    "a slice of the data": (lambda: data.MovingDigits().batch(slice(0, 3)), TypeError, "slice(0, 3, None)", "range(8)"),
    "one clip as several": (lambda: data.MovingDigits().batch(3), TypeError, "indices is 3", "range(8)"),
    "a clip far beyond": (lambda: data.MovingDigits()[10**400], IndexError, "Clip 1000", "0 to 999999"),
    "clips backwards": (lambda: data.MovingDigits().batch([0, 1])[::-1], TypeError, "slice(None, None, -1)", "[2:5]"),
    "still in words": (lambda: data.MovingDigits(still="no"), ValueError, "still is 'no'", "True or False"),
    "glyphs in bytes": (
        lambda: data.render(GLYPHS.byte(), [PROMPT] * 2),
        TypeError,
        "glyphs is torch.uint8",
        ".float()",
    ),
    "glyphs to 255": (lambda: data.render(255 + GLYPHS, [PROMPT] * 2), ValueError, "from 255 to 255", "0 to 1"),
    "glyphs of nan": (lambda: data.render(GLYPHS / 0, [PROMPT] * 2), ValueError, "from nan to nan", "0 to 1"),
    "a caption that never ends": (lambda: data.tokenize(["x" * 10**5]), ValueError, "cannot be read", "a, moving"),
    "digit": (lambda: data.Prompt(10, "red"), ValueError, "digit is 10", "from 0 to 9"),
    "digit as text": (lambda: data.Prompt("7", "red"), ValueError, "digit is '7'", "from 0 to 9"),
    "colour": (lambda: data.Prompt(1, "violet"), ValueError, "colour is 'violet'", "red, yellow"),
    "colour as list": (lambda: data.Prompt(1, ["red"]), ValueError, "colour is ['red']", "red, yellow"),
    "direction": (lambda: data.Prompt(1, "red", "north", "slowly"), ValueError, "direction is 'north'", "left, right"),
    "speed": (lambda: data.Prompt(1, "red", "left", "fast"), ValueError, "speed is 'fast'", "slowly, quickly"),
    "half a motion": (lambda: data.Prompt(1, "red", "left"), ValueError, "direction and speed belong together"),
    "no rate": (lambda: data.Prompt(1, "red", fps=0), ValueError, "fps is 0", "from 0.1 to 1000"),
    "combinations": (lambda: data.all_prompts("new"), ValueError, "combinations is 'new'", "seen, unseen, all"),
    "split": (lambda: data.MovingDigits("training"), ValueError, "split is 'training'", "train, test"),
    "handwriting": (lambda: data.handwriting("training"), ValueError, "split is 'training'", "train, test"),
    "length": (lambda: data.MovingDigits(length=0), ValueError, "length is 0", "from 1"),
    "seed": (lambda: data.MovingDigits(seed=-1), ValueError, "seed is -1", "from 0"),
    "frames": (lambda: data.MovingDigits(frames=0), ValueError, "frames is 0", "from 1"),
    "size": (lambda: data.MovingDigits(size=64.0), ValueError, "size is 64.0", "whole number"),
    "beyond the last": (lambda: data.MovingDigits(length=5)[5], IndexError, "Clip 5", "0 to 4"),
    "before the first": (lambda: data.MovingDigits(length=5)[-6], IndexError, "Clip -6", "0 to 4"),
    "a slice": (lambda: data.MovingDigits()[:4], TypeError, "index is slice(None, 4, None)", ".batch(range(8))"),
    "a fraction": (lambda: data.MovingDigits()[1.0], TypeError, "index is 1.0", "whole number"),
    "a list": (lambda: data.MovingDigits()[[1, 2]], TypeError, "index is [1, 2]", ".batch(range(8))"),
    "no clips": (lambda: data.MovingDigits().batch([]), ValueError, "No clips were asked for", "range(8)"),
    "one of a batch": (lambda: data.MovingDigits().batch([0])[0], TypeError, "index is 0", "clips[2:3]"),
    "large batches": (lambda: next(data.MovingDigits(length=5).batches(6)), ValueError, "size is 6", "to 5"),
    "glyphs": (lambda: data.render(GLYPHS, [PROMPT]), ValueError, "(2, 28, 28) for 1 prompts", "(28, 28) for each"),
    "no prompts": (lambda: data.clips_of([], GLYPHS[:0]), ValueError, "(0, 28, 28) for 0 prompts", "one or more"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", BAD)
def test_mistakes_are_explained_in_one_sentence(name):
    refuses(*BAD[name])
