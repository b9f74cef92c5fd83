"""What the small model is trained on: the loss of each stage (chapter 9).

A *stage* is a module that draws its own batches and whose ``forward`` is the loss: autoencoder, judge, text to video,
image to video. Everything random in step ``n`` follows from the seed and ``n`` alone, but for what layers draw by
themselves: the noise on the autoencoder's latents and the judge's dropout.
"""

import contextlib
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..autoencoder import Autoencoder, psnr
from ..checks import check_instance
from . import data
from .judge import DigitClassifier, aligned_glyphs, predict_digits, wrong_condition_losses
from .model import Pipeline, VideoModel, small_schedule
from .settings import TrainingConfig
from .weights import load_autoencoder

Trained = TypeVar("Trained", bound=nn.Module)


def generator_for(seed: int, step: int) -> torch.Generator:
    """Where everything random in a step of a run comes from."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


class Stage(nn.Module, Generic[Trained]):
    """What :func:`vdmlib.small.training.train` trains.

    ``trained`` holds the weights; ``forward`` is the loss of a share of batch ``step``, and every share draws what is
    random for the whole batch, so that the shares of several processes make up the batch of one.
    """

    trained: Trained

    def forward(self, step: int, share: slice) -> Float[Tensor, ""]:
        raise NotImplementedError

    @torch.no_grad()
    def report(self, trained: Trained) -> dict[str, float]:
        """A few numbers on held-out clips, for the log."""
        return {}

    @torch.no_grad()
    def sheet(self, trained: Trained) -> Float[Tensor, "b f 3 h w"] | None:
        """Clips to look at while it trains."""
        return None


def numbers_of(step: int, batch: int) -> range:
    """The clips of batch number ``step``."""
    return range(step * batch, (step + 1) * batch)


class AutoencoderStage(Stage[Autoencoder]):
    """Two frames of each clip there and back: squared plus a little absolute error."""

    def __init__(self, config: TrainingConfig):
        super().__init__()
        self.config, self.trained = config, Autoencoder()
        self.clips = data.MovingDigits("train", "all", length=config.steps * config.batch, seed=config.seed)
        self.held_out = data.MovingDigits("test", combinations="all").batch(range(16)).video

    def forward(self, step: int, share: slice) -> Float[Tensor, ""]:
        generator, numbers = generator_for(self.config.seed, step), numbers_of(step, self.config.batch)
        which = torch.randint(data.FRAMES, (len(numbers), 2), generator=generator)[share]
        video = self.clips.batch(numbers[share]).video
        video = video[torch.arange(len(video))[:, None], which].to(_like(self.trained))
        error = self.trained(video) - video
        return error.square().mean() + 0.05 * error.abs().mean()

    @torch.no_grad()
    def report(self, trained: Autoencoder) -> dict[str, float]:
        video = self.held_out.to(_like(trained))
        return {"psnr": psnr(trained(video).clamp(-1, 1), video)}

    @torch.no_grad()
    def sheet(self, trained: Autoencoder) -> Float[Tensor, "b f 3 h w"]:
        video = self.held_out[:4].to(_like(trained))
        return torch.cat([video, trained(video).clamp(-1, 1)])


class JudgeStage(Stage[DigitClassifier]):
    """The digit classifier of the judge, on frames of training handwriting."""

    def __init__(self, config: TrainingConfig):
        super().__init__()
        self.config, self.trained = config, DigitClassifier()
        self.clips = data.MovingDigits("train", "all", length=config.steps * config.batch, seed=config.seed)
        self.held_out = data.MovingDigits("test", combinations="all").batch(range(200))

    def forward(self, step: int, share: slice) -> Float[Tensor, ""]:
        generator, numbers = generator_for(self.config.seed, step), numbers_of(step, self.config.batch)
        which = torch.randint(data.FRAMES, (len(numbers), 2), generator=generator)
        clips = self.clips.batch(numbers)
        video = augment(clips.video[torch.arange(len(clips))[:, None], which], generator)[share]
        glyphs = aligned_glyphs(video.to(_like(self.trained)))
        labels = torch.tensor([p.digit for p in clips.prompts[share]], device=glyphs.device)
        return F.cross_entropy(self.trained(glyphs), repeat(labels, "b -> (b two)", two=2))

    @torch.no_grad()
    def report(self, trained: DigitClassifier) -> dict[str, float]:
        digits = torch.tensor([p.digit for p in self.held_out.prompts])
        video = self.held_out.video.to(_like(trained))
        return {"accuracy": float((predict_digits(trained, video).cpu() == digits).float().mean())}


def augment(video: Float[Tensor, "b f 3 h w"], generator: torch.Generator) -> Float[Tensor, "b f 3 h w"]:
    """Noise and a little blur, so that a classifier does not stumble over what an autoencoder does to pictures."""
    frames = rearrange(video, "b f c h w -> (b f) c h w")
    mix, strength = (torch.rand(len(frames), 1, 1, 1, generator=generator) for _ in range(2))
    frames = torch.lerp(frames, F.avg_pool2d(frames, 3, stride=1, padding=1, count_include_pad=False), mix)
    frames = frames + 0.1 * strength * torch.randn(frames.shape, generator=generator)
    return rearrange(frames, "(b f) c h w -> b f c h w", b=len(video))


def hide_look(tokens: Int[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Captions without their words for digit and colour: padding stands in their place."""
    look = torch.tensor([data.VOCABULARY.index(word) for word in (*map(str, range(10)), *data.COLOURS)])
    return tokens.masked_fill((tokens[..., None] == look.to(tokens.device)).any(dim=-1), 0)


@torch.no_grad()
def picture_losses(
    model: VideoModel, autoencoder: Autoencoder, clips: data.Clips, level: int = 900, seed: int = 0
) -> dict[str, float]:
    """Loss at one noise level with the clips' own pictures, with each other's and with none, words for the look hidden.

    What a model takes from the picture shows here long before its samples show it. The noise is the same in all.
    """
    check_instance("model", model, VideoModel, 'load_video_model("i2v")')
    check_instance("clips", clips, data.Clips, 'MovingDigits("test").batch(range(8))')
    like, schedule = _like(model), small_schedule()
    latents, fps = autoencoder.encode(clips.video.to(like)), clips.fps.to(like)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(like)
    t, first = torch.full((len(latents),), level, device=like.device), latents[:, 0]
    noisy, target = schedule.add_noise(latents, noise, t), schedule.target(latents, noise, t)
    tokens, nothing = hide_look(clips.tokens.to(like.device)), torch.zeros_like(t, dtype=torch.bool)
    predicted = {
        "own picture": model(noisy, t, tokens, fps, first),
        "another picture": model(noisy, t, tokens, fps, first.roll(1, 0)),
        "no picture": model(noisy, t, tokens, fps, first, shown=nothing),
    }
    return {f"{name} {level}": float((v - target).square().mean()) for name, v in predicted.items()}


class DenoiserStage(Stage[VideoModel]):
    """v-prediction of noisy latents, from text and, for I2V, a frame: the first one, unless asked otherwise.

    Clips are rendered and encoded when they are needed: both cost a fraction of a training step.
    """

    def __init__(self, config: TrainingConfig, autoencoder: Autoencoder | None = None):
        super().__init__()
        check_instance("config", config, TrainingConfig, 'CONFIGS["t2v"]')
        self.config, self.trained = config, VideoModel(config.unet, config.text_layers, config.image_tokens)
        self.autoencoder = (load_autoencoder() if autoencoder is None else autoencoder).eval().requires_grad_(False)
        self.schedule = small_schedule()
        self.clips = data.MovingDigits("train", length=config.steps * config.batch, seed=config.seed)
        self.pictures = data.MovingDigits(
            "train", length=config.steps * max(config.stills, 1), seed=config.seed, still=True
        )
        self.held_out = data.MovingDigits("test", combinations="all", seed=1)

    def train(self, mode: bool = True):
        super().train(mode)
        self.autoencoder.eval()
        return self

    def timesteps(self, number: int, generator: torch.Generator) -> Int[Tensor, " {number}"]:
        """Noise levels, one in each of ``number`` equal parts of the range, so that the loss is less noisy."""
        u = (torch.randperm(number, generator=generator) + torch.rand(number, generator=generator)) / number
        u = self.config.shift * u / (1 + (self.config.shift - 1) * u)
        return (u * len(self.schedule)).long().clamp(max=len(self.schedule) - 1)

    def given_frames(self, number: int, frames: int, generator: torch.Generator) -> Int[Tensor, " {number}"]:
        """Which of its frames each clip is given as its picture."""
        if self.config.given_frame == "first":
            return torch.zeros(number, dtype=torch.long)
        return torch.randint(frames, (number,), generator=generator)

    def forward(self, step: int, share: slice) -> Float[Tensor, ""]:
        generator, config = generator_for(self.config.seed, step), self.config
        loss = self.denoise(self.clips, numbers_of(step, config.batch), share, generator)
        if config.stills:
            weight = config.stills / (config.stills + config.batch)
            pictures = self.denoise(self.pictures, numbers_of(step, config.stills), share, generator)
            loss = (1 - weight) * loss + weight * pictures
        return loss

    def denoise(
        self, clips: data.MovingDigits, numbers: range, share: slice, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """The loss of a share of these clips."""
        like, n = _like(self.trained), len(numbers)
        batch = clips.batch(numbers[share])
        with torch.no_grad(), _full_precision(like.device):
            latents = self.autoencoder.encode(batch.video.to(like))
        t = self.timesteps(n, generator)[share]
        noise = torch.randn(n, *latents.shape[1:], generator=generator)[share].to(like)
        empty = (torch.rand(n, generator=generator) < self.config.caption_dropout)[share]
        tokens = batch.tokens.masked_fill(empty[:, None], 0).to(like.device)
        shown = {}
        if self.config.word_dropout:
            hidden = (torch.rand(n, generator=generator) < self.config.word_dropout)[share]
            tokens = torch.where(hidden[:, None].to(like.device), hide_look(tokens), tokens)
        if self.config.picture_dropout:
            kept = (torch.rand(n, generator=generator) >= self.config.picture_dropout)[share]
            shown = {"shown": kept.to(like.device)}
        which = self.given_frames(n, latents.shape[1], generator)[share]
        given = latents[torch.arange(len(latents)), which] if self.trained.takes_frame else None
        noisy = self.schedule.add_noise(latents, noise, t)
        predicted = self.trained(noisy, t.to(like.device), tokens, batch.fps.to(like), given, **shown)
        error = (predicted - self.schedule.target(latents, noise, t)).square().flatten(1).mean(dim=1)
        if self.config.snr_cap is not None:
            snr = self.schedule.snr()[t]
            # The loss on v weighs the error of x0 by SNR + 1.
            error = error * (snr.clamp(max=self.config.snr_cap) / (snr + 1)).to(error)
        return error.mean()

    @torch.no_grad()
    def report(self, trained: VideoModel) -> dict[str, float]:
        clips = self.held_out.batch(range(48))
        table = wrong_condition_losses(trained, self.autoencoder, self.schedule, clips, timesteps=(800, 950))
        report = {f"{name} {t}": loss for name, row in table.items() for t, loss in row.items()}
        if self.config.word_dropout and trained.takes_frame:
            report |= picture_losses(trained, self.autoencoder, clips)
        return report

    @torch.no_grad()
    def sheet(self, trained: VideoModel) -> Float[Tensor, "b f 3 h w"]:
        clips = self.held_out.batch(range(8))
        given = clips.video[:, 0] if trained.takes_frame else None
        captions = [prompt.caption for prompt in clips.prompts]
        return Pipeline(trained, self.autoencoder).generate(captions, clips.fps.tolist(), given, steps=20)


def _like(module: nn.Module) -> Tensor:
    """What data have to be like, in device and type, for a module."""
    return next(module.parameters())


def _full_precision(device: torch.device) -> contextlib.AbstractContextManager:
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else contextlib.nullcontext()


STAGES: dict[str, Callable[[TrainingConfig], Stage]] = {
    "autoencoder": AutoencoderStage,
    "judge": JudgeStage,
    "t2v": DenoiserStage,
    "i2v": DenoiserStage,
    "i2v_attention": DenoiserStage,
}
