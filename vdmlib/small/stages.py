"""What the small model is trained on: the settings of a run, and the loss of each stage (chapter 9).

A *stage* is a module that draws its own batches and whose ``forward`` is the loss: autoencoder, judge, text to video,
image to video. Everything random in step ``n`` follows from the seed and ``n`` alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..autoencoder import Autoencoder, psnr
from ..configuration import UNet3DConfig
from . import data
from .judge import DigitClassifier, aligned_glyphs, predict_digits, wrong_condition_losses
from .model import Pipeline, VideoModel, small_schedule, small_unet
from .weights import load_autoencoder


@dataclass(frozen=True)
class TrainingConfig:
    """Everything a run depends on.

    Attributes:
        stage: "autoencoder", "judge", "t2v" or "i2v".
        steps: optimizer steps.
        batch: clips in a step, over all processes; a multiple of their number.
        stills: pictures (clips of one frame) in a step beside them.
        learning_rate: after ``warmup`` steps; over the last ``decay`` of the steps it falls to zero.
        ema: how much of the averaged weights is kept in a step; the averaged weights are the result.
        caption_dropout: the share of captions replaced by the empty one, for classifier-free guidance.
        shift: 1 draws all noise levels alike, more draws high noise more often, by t → shift·t / (1 + (shift − 1)·t).
        snr_cap: weight the loss at low noise down to min(SNR, cap) / SNR (Hang et al. 2023); ``None`` for no weights.
        unet: the denoiser; for "i2v" with more input channels the given frame's latent fills those (DynamiCrafter).
        text_layers: transformer layers of the text encoder, over the words' embeddings.
        init_from: weights to start from: a file (.safetensors), or the name of shipped ones.
        trained_parts: train only the weights whose names contain one of these; ``None`` trains all.
        checkpoint_seconds: how much a kill may cost.
        sample_every: steps between sample sheets.
        seed: of weights, data and noise.
    """

    stage: str = "t2v"
    steps: int = 20_000
    batch: int = 16
    stills: int = 0
    learning_rate: float = 2e-3
    warmup: int = 100
    decay: float = 0.25
    weight_decay: float = 1e-4
    ema: float = 0.998
    caption_dropout: float = 0.1
    shift: float = 1.0
    snr_cap: float | None = None
    unet: UNet3DConfig = field(default_factory=small_unet)
    text_layers: int = 0
    init_from: str | None = None
    trained_parts: tuple[str, ...] | None = None
    checkpoint_seconds: float = 40.0
    log_every: int = 50
    sample_every: int = 1000
    seed: int = 0

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> "TrainingConfig":
        """From a YAML file's mapping: ``stage`` names the defaults, the rest changes them (``unet``: a mapping too)."""
        given = dict(given)
        stage = given.pop("stage", "t2v")
        if stage not in CONFIGS:
            raise ValueError(f"stage is {stage!r}, but must be one of {', '.join(CONFIGS)}.")
        config = CONFIGS[stage]
        unknown = given.keys() - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(
                f"Unknown settings {', '.join(sorted(unknown))}: use {', '.join(f.name for f in fields(cls))}."
            )
        if "unet" in given:
            unet = {k: tuple(v) if isinstance(v, list) else v for k, v in given["unet"].items()}
            given["unet"] = replace(config.unet, **unet)
        if isinstance(given.get("trained_parts"), list):
            given["trained_parts"] = tuple(given["trained_parts"])
        return replace(config, **given)


CONFIGS: dict[str, TrainingConfig] = {
    "autoencoder": TrainingConfig(stage="autoencoder", steps=560, batch=32, learning_rate=3e-3, decay=0.6, ema=0.99),
    "judge": TrainingConfig(stage="judge", steps=500, batch=64, decay=0.6, ema=0.98),
    "t2v": TrainingConfig(stage="t2v", steps=9600, batch=8, decay=0.4, shift=3.0),
    # As VideoCrafter1's I2V: the text-to-video model with image attention beside the text's. Its transformers stay as
    # they are, so that the two models share these weights; what is new and the convolutions are trained.
    "i2v": TrainingConfig(
        stage="i2v",
        steps=4000,
        batch=8,
        decay=0.5,
        shift=3.0,
        unet=small_unet(image_attention=True, in_channels=16),
        init_from="t2v",
        trained_parts=("image", "convolution", "resnet", "conv_out", "norm_out", "embedding", "sample"),
    ),
}


def device_of(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


class Stage(nn.Module):
    """What :func:`vdmlib.small.training.train` trains.

    ``trained`` holds the weights, ``forward`` is the loss of a part of batch ``step``.
    """

    trained: nn.Module

    def forward(self, step: int, part: slice) -> Float[Tensor, ""]:
        raise NotImplementedError

    @torch.no_grad()
    def report(self, trained: nn.Module) -> dict[str, float]:
        """A few numbers on held-out clips, for the log."""
        return {}

    @torch.no_grad()
    def sheet(self, trained: nn.Module) -> Float[Tensor, "b f 3 h w"] | None:
        """Clips to look at while it trains."""
        return None


class AutoencoderStage(Stage):
    """Two frames of each clip there and back: squared plus a little absolute error."""

    def __init__(self, config: TrainingConfig):
        super().__init__()
        self.config, self.trained = config, Autoencoder()
        self.clips = data.MovingDigits("train", combinations="all", seed=config.seed)
        self.held_out = data.MovingDigits("test", combinations="all").batch(range(16)).video

    def forward(self, step: int, part: slice) -> Float[Tensor, ""]:
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        numbers = range(step * self.config.batch, (step + 1) * self.config.batch)
        which = torch.randint(data.FRAMES, (len(numbers), 2), generator=generator)[part]
        video = self.clips.batch(numbers[part]).video
        video = video[torch.arange(len(video))[:, None], which].to(device_of(self))
        error = self.trained(video) - video
        return error.square().mean() + 0.05 * error.abs().mean()

    @torch.no_grad()
    def report(self, trained: nn.Module) -> dict[str, float]:
        video = self.held_out.to(device_of(trained))
        return {"psnr": psnr(trained(video).clamp(-1, 1), video)}

    @torch.no_grad()
    def sheet(self, trained: nn.Module) -> Float[Tensor, "b f 3 h w"]:
        video = self.held_out[:4].to(device_of(trained))
        return torch.cat([video, trained(video).clamp(-1, 1)])


class JudgeStage(Stage):
    """The digit classifier of the judge, on frames of training handwriting."""

    def __init__(self, config: TrainingConfig):
        super().__init__()
        self.config, self.trained = config, DigitClassifier()
        self.clips = data.MovingDigits("train", combinations="all", seed=config.seed)
        self.held_out = data.MovingDigits("test", combinations="all").batch(range(200))

    def forward(self, step: int, part: slice) -> Float[Tensor, ""]:
        numbers = range(step * self.config.batch, (step + 1) * self.config.batch)
        clips = self.clips.batch(numbers[part])
        which = torch.randint(data.FRAMES, (len(clips), 2))
        video = clips.video[torch.arange(len(clips))[:, None], which].to(device_of(self))
        logits = self.trained(aligned_glyphs(augment(video)))
        labels = torch.tensor([p.digit for p in clips.prompts], device=logits.device)
        return F.cross_entropy(logits, repeat(labels, "b -> (b two)", two=2))

    @torch.no_grad()
    def report(self, trained: nn.Module) -> dict[str, float]:
        digits = torch.tensor([p.digit for p in self.held_out.prompts])
        video = self.held_out.video.to(device_of(trained))
        return {"accuracy": float((predict_digits(trained, video).cpu() == digits).float().mean())}


def augment(video: Float[Tensor, "b f 3 h w"]) -> Float[Tensor, "b f 3 h w"]:
    """Noise and a little blur, so that a classifier does not stumble over what an autoencoder does to pictures."""
    frames = rearrange(video, "b f c h w -> (b f) c h w")
    mix = torch.rand(len(frames), 1, 1, 1, device=video.device)
    frames = torch.lerp(frames, F.avg_pool2d(frames, 3, stride=1, padding=1, count_include_pad=False), mix)
    frames = frames + 0.1 * torch.rand_like(mix) * torch.randn_like(frames)
    return rearrange(frames, "(b f) c h w -> b f c h w", b=len(video))


class DenoiserStage(Stage):
    """v-prediction of noisy latents, from text and, for I2V, the first frame.

    Clips are rendered and encoded when they are needed: both cost a fraction of a training step.
    """

    def __init__(self, config: TrainingConfig, autoencoder: Autoencoder | None = None):
        super().__init__()
        self.config, self.trained = config, VideoModel(config.unet, config.text_layers)
        for module in self.trained.modules():
            # The temporal convolutions drop activations at random, which helps large networks only.
            if isinstance(module, nn.Dropout):
                module.p = config.unet.dropout
        self.autoencoder = (load_autoencoder() if autoencoder is None else autoencoder).eval().requires_grad_(False)
        self.schedule = small_schedule()
        self.clips = data.MovingDigits("train", seed=config.seed)
        self.pictures = data.MovingDigits("train", seed=config.seed, still=True)
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

    def forward(self, step: int, part: slice) -> Float[Tensor, ""]:
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        loss = self.denoise(self.clips, self.config.batch, step, part, generator)
        if self.config.stills:
            share = self.config.stills / (self.config.stills + self.config.batch)
            pictures = self.denoise(self.pictures, self.config.stills, step, part, generator)
            loss = (1 - share) * loss + share * pictures
        return loss

    def denoise(
        self, clips: data.MovingDigits, number: int, step: int, part: slice, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Every process draws the whole batch's noise and takes its part: any number of them makes the same steps."""
        device = device_of(self.trained)
        numbers = range(step * number, (step + 1) * number)
        batch = clips.batch(numbers[part])
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            latents = self.autoencoder.encode(batch.video.to(device))
        t = self.timesteps(number, generator)[part]
        noise = torch.randn(number, *latents.shape[1:], generator=generator)[part].to(device)
        empty = (torch.rand(number, generator=generator) < self.config.caption_dropout)[part]
        tokens = batch.tokens.masked_fill(empty[:, None], 0).to(device)
        first_frame = latents[:, 0] if self.trained.image_encoder is not None else None
        noisy = self.schedule.add_noise(latents, noise, t)
        # In double precision, where the last level's ᾱ is not yet zero.
        target = self.schedule.target(latents.double(), noise.double(), t).to(latents)
        predicted = self.trained(noisy, t.to(device), tokens, batch.fps.to(device), first_frame)
        error = (predicted - target).square().flatten(1).mean(dim=1)
        if self.config.snr_cap is not None:
            snr = self.schedule.snr()[t]
            # The loss on v weighs the error of x0 by SNR + 1.
            error = error * (snr.clamp(max=self.config.snr_cap) / (snr + 1)).to(error)
        return error.mean()

    @torch.no_grad()
    def report(self, trained: nn.Module) -> dict[str, float]:
        clips = self.held_out.batch(range(48))
        table = wrong_condition_losses(trained, self.autoencoder, self.schedule, clips, timesteps=(800, 950))
        return {f"{name} {t}": loss for name, row in table.items() for t, loss in row.items()}

    @torch.no_grad()
    def sheet(self, trained: nn.Module) -> Float[Tensor, "b f 3 h w"]:
        clips = self.held_out.batch(range(8))
        given = clips.video[:, 0] if trained.image_encoder is not None else None
        captions = [prompt.caption for prompt in clips.prompts]
        return Pipeline(trained, self.autoencoder).generate(captions, clips.fps.tolist(), given, steps=20)


STAGES: dict[str, Callable[[TrainingConfig], Stage]] = {
    "autoencoder": AutoencoderStage,
    "judge": JudgeStage,
    "t2v": DenoiserStage,
    "i2v": DenoiserStage,
}
