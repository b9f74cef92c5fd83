"""Training: autoencoder, judge, text to video, image to video (chapter 9).

All four are one loop (:func:`train`) around a *stage*: a module that draws its own batches and whose ``forward`` is
the loss. Everything random in step ``n`` follows from the seed and ``n`` alone. So a run that was killed goes on as if
nothing had happened, and several processes, each taking its share of every batch, make the same steps as one.
"""

import contextlib
import copy
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from . import data
from .autoencoder import Autoencoder
from .diffusion import NoiseSchedule
from .sampling import sample_ddim
from .unet3d import UNet3D, UNet3DConfig

WEIGHTS = Path(__file__).parent / "weights"


def small_unet(**changes) -> UNet3DConfig:
    """The denoiser of the small model: two levels, 8 × 8 and 4 × 4 latents, text in the temporal transformers too."""
    settings = dict(
        in_channels=8,
        out_channels=8,
        model_channels=32,
        channel_multipliers=(1, 2),
        res_blocks=1,
        attention_factors=(2,),
        head_channels=16,
        context_channels=64,
        temporal_cross_attention=True,
        initial_temporal_attention=False,
        scale_shift_norm=True,
        temporal_length=data.FRAMES,
        text_tokens=data.CAPTION_TOKENS,
        default_fps=data.FRAME_RATES[0],
    )
    return UNet3DConfig(**settings | changes)


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
        init_from: weights to start from (.safetensors), such as a text-to-video model for "i2v".
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
        return replace(config, **given)


CONFIGS: dict[str, TrainingConfig] = {
    "autoencoder": TrainingConfig(
        stage="autoencoder", steps=560, batch=32, learning_rate=3e-3, decay=0.6, ema=0.99
    ),
    "judge": TrainingConfig(stage="judge", steps=500, batch=64, decay=0.6, ema=0.98),
    "t2v": TrainingConfig(stage="t2v", steps=20_000, batch=8, shift=3.0),
    "i2v": TrainingConfig(
        stage="i2v", steps=20_000, batch=8, shift=3.0, unet=small_unet(image_attention=True, in_channels=16)
    ),
}


class TextEncoder(nn.Module):
    """Captions of the small closed vocabulary to context tokens: an embedding for each word and each position."""

    def __init__(self, channels: int, layers: int = 0):
        super().__init__()
        self.words = nn.Embedding(len(data.VOCABULARY), channels)
        self.positions = nn.Parameter(torch.randn(data.CAPTION_TOKENS, channels) * 0.02)
        layer = nn.TransformerEncoderLayer(
            channels, channels // 16, 2 * channels, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(layers))

    def forward(self, tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
        hidden = self.words(tokens) + self.positions
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class VideoModel(nn.Module):
    """Text encoder and denoiser; with ``config.image_attention`` also an encoder of the given first frame.

    The image tokens are the latents of the given frame, 2 × 2 of them in a token: 16 tokens for 8 × 8 latents. If the
    denoiser has more input channels than output channels, the given frame's latents are also put beside the noisy
    ones of every frame, as in DynamiCrafter.
    """

    def __init__(self, config: UNet3DConfig, text_layers: int = 0):
        super().__init__()
        self.text_encoder = TextEncoder(config.context_channels, text_layers)
        self.image_encoder = None
        if config.image_attention:
            self.image_encoder = nn.Sequential(
                nn.Conv2d(config.out_channels, config.context_channels, 2, stride=2),
                nn.Flatten(start_dim=2),
            )
            self.image_positions = nn.Parameter(torch.randn(16, config.context_channels) * 0.02)
        self.unet = UNet3D(config)

    @property
    def concatenates(self) -> bool:
        return self.unet.config.in_channels > self.unet.config.out_channels

    def context(
        self, tokens: Int[Tensor, "b n"], first_frame: Float[Tensor, "b c h w"] | None = None
    ) -> Float[Tensor, "b m c2"]:
        """Context tokens of captions and, for I2V, of the latents of the given first frames."""
        text = self.text_encoder(tokens)
        if self.image_encoder is None:
            return text
        if first_frame is None:
            raise ValueError(
                "This model continues a given frame, but first_frame is missing: pass its latents."
            )
        image = rearrange(self.image_encoder(first_frame), "b c n -> b n c") + self.image_positions
        return torch.cat([text, image], dim=1)

    def concat(self, first_frame: Float[Tensor, "b c h w"] | None, frames: int) -> Tensor | None:
        """The given frame's latents for every frame, or ``None`` where the denoiser does not take them."""
        if not self.concatenates:
            return None
        return repeat(first_frame, "b c h w -> b f c h w", f=frames)

    def forward(
        self,
        x: Float[Tensor, "b f c h w"],
        timesteps: Int[Tensor, "b"],
        tokens: Int[Tensor, "b n"],
        fps: Float[Tensor, "b"],
        first_frame: Float[Tensor, "b c h w"] | None = None,
    ) -> Float[Tensor, "b f c h w"]:
        """Predict v from noisy latents."""
        context = self.context(tokens, first_frame)
        if self.concatenates:
            x = torch.cat([x, self.concat(first_frame, x.shape[1])], dim=2)
        return self.unet(x, timesteps, context=context, fps=fps)


def small_schedule() -> NoiseSchedule:
    """Cosine schedule, v-prediction."""
    return replace(NoiseSchedule.cosine(), prediction="v")


@torch.no_grad()
def generate(
    model: VideoModel,
    autoencoder: Autoencoder,
    tokens: Int[Tensor, "b n"],
    fps: Float[Tensor, "b"],
    first_frame: Float[Tensor, "b 3 h w"] | None = None,
    steps: int = 25,
    guidance_scale: int | float = 3.0,
    seed: int = 0,
    frames: int = data.FRAMES,
    size: int = data.SIZE,
    progress: bool = False,
    **settings,
) -> Float[Tensor, "b f 3 h w"]:
    """Sample clips in [−1, 1] from captions, for I2V also from given frames; deterministic for a seed.

    Guidance compares with the empty caption; the given frame stays in both halves. Further settings go to
    :func:`vdmlib.sample_ddim`.
    """
    b, device = len(tokens), next(model.parameters()).device
    side = size // autoencoder.factor
    noise = torch.randn(
        b, frames, autoencoder.latent_channels, side, side, generator=torch.Generator().manual_seed(seed)
    )
    given = None
    if first_frame is not None:
        given = rearrange(autoencoder.encode(first_frame[:, None].to(device)), "b 1 c h w -> b c h w")
    latents = sample_ddim(
        model.unet,
        small_schedule(),
        noise.to(device),
        context=model.context(tokens.to(device), given),
        uncond_context=model.context(torch.zeros_like(tokens).to(device), given),
        guidance_scale=guidance_scale,
        fps=fps.to(device),
        steps=steps,
        concat=None if given is None else model.concat(given, frames),
        progress=progress,
        **settings,
    )
    return autoencoder.decode(latents).clamp(-1, 1)


# Stages


class Stage(nn.Module):
    """What :func:`train` trains: ``trained`` holds the weights, ``forward`` is the loss of a part of batch ``step``."""

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
        from .autoencoder import psnr

        video = self.held_out.to(device_of(trained))
        return {"psnr": psnr(trained(video).clamp(-1, 1), video)}

    @torch.no_grad()
    def sheet(self, trained: nn.Module) -> Float[Tensor, "b f 3 h w"]:
        video = self.held_out[:4].to(device_of(trained))
        return torch.cat([video, trained(video).clamp(-1, 1)])


class JudgeStage(Stage):
    """The digit classifier of the judge, on frames of training handwriting."""

    def __init__(self, config: TrainingConfig):
        from .judge import DigitClassifier

        super().__init__()
        self.config, self.trained = config, DigitClassifier()
        self.clips = data.MovingDigits("train", combinations="all", seed=config.seed)
        self.held_out = data.MovingDigits("test", combinations="all").batch(range(200))

    def forward(self, step: int, part: slice) -> Float[Tensor, ""]:
        from .judge import aligned_glyphs

        numbers = range(step * self.config.batch, (step + 1) * self.config.batch)
        clips = self.clips.batch(numbers[part])
        which = torch.randint(data.FRAMES, (len(clips), 2))
        video = clips.video[torch.arange(len(clips))[:, None], which].to(device_of(self))
        logits = self.trained(aligned_glyphs(augment(video)))
        labels = torch.tensor([p.digit for p in clips.prompts], device=logits.device)
        return F.cross_entropy(logits, repeat(labels, "b -> (b two)", two=2))

    @torch.no_grad()
    def report(self, trained: nn.Module) -> dict[str, float]:
        from .judge import predict_digits

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
        self.autoencoder = (
            (load_autoencoder() if autoencoder is None else autoencoder).eval().requires_grad_(False)
        )
        self.schedule = small_schedule()
        self.clips = data.MovingDigits("train", seed=config.seed)
        self.pictures = data.MovingDigits("train", seed=config.seed, still=True)
        self.held_out = data.MovingDigits("test", combinations="all", seed=1)

    def train(self, mode: bool = True):
        super().train(mode)
        self.autoencoder.eval()
        return self

    def timesteps(self, number: int, generator: torch.Generator) -> Int[Tensor, "{number}"]:
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
        from .judge import wrong_condition_losses

        clips = self.held_out.batch(range(48))
        table = wrong_condition_losses(trained, self.autoencoder, self.schedule, clips, timesteps=(800, 950))
        return {f"{name} {t}": loss for name, row in table.items() for t, loss in row.items()}

    @torch.no_grad()
    def sheet(self, trained: nn.Module) -> Float[Tensor, "b f 3 h w"]:
        clips = self.held_out.batch(range(8))
        given = clips.video[:, 0] if trained.image_encoder is not None else None
        return generate(trained, self.autoencoder, clips.tokens, clips.fps, given, steps=20)


STAGES: dict[str, Callable[[TrainingConfig], Stage]] = {
    "autoencoder": AutoencoderStage,
    "judge": JudgeStage,
    "t2v": DenoiserStage,
    "i2v": DenoiserStage,
}


# The loop


def device_of(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def learning_rate_at(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, constant, linear fall to zero over the last ``decay`` of the steps."""
    rise = (step + 1) / max(config.warmup, 1)
    fall = (config.steps - step) / max(config.decay * config.steps, 1)
    return config.learning_rate * max(min(1.0, rise, fall), 0.0)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int, keep: float):
    """Exponential moving average of the weights; early on it forgets faster. Buffers are copied."""
    keep = min(keep, (1 + step) / (10 + step))
    for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
        ours.lerp_(theirs, 1 - keep)
    for ours, theirs in zip(average.buffers(), model.buffers(), strict=True):
        ours.copy_(theirs)


@dataclass
class Result:
    """What :func:`train` returns: averaged weights, the log, and whether all steps were made."""

    model: nn.Module
    log: list[dict[str, int | float]]
    finished: bool


def train(
    config: TrainingConfig,
    folder: str | Path | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
    stage: Stage | None = None,
    stop_after: float | None = None,
    callback: Callable[[int, nn.Module], None] | None = None,
) -> Result:
    """Train a stage, or go on with the run in ``folder``.

    Under ``torchrun`` each process takes its part of every batch (DistributedDataParallel). On a GPU the forward pass
    runs in bfloat16, or float16 where the GPU has no bfloat16.

    Args:
        config: what to train.
        folder: where checkpoint, log and sample sheets go; ``None`` keeps nothing.
        device: ``None`` takes a GPU if there is one.
        stage: a stage made elsewhere, instead of the one that ``config.stage`` names.
        stop_after: seconds after which to save and return.
        callback: called with the step and the averaged weights after each step.

    Raises:
        ValueError: if the batch cannot be shared evenly, or the folder holds a run with another configuration.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if config.batch % world or config.stills % world:
        raise ValueError(
            f"{config.batch} clips and {config.stills} pictures cannot be shared by {world} processes: use multiples."
        )
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if world > 1:
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    torch.manual_seed(config.seed)
    stage = (STAGES[config.stage](config) if stage is None else stage).to(device).train()
    if config.init_from is not None:
        start_from(stage.trained, config.init_from)
    average = copy.deepcopy(stage.trained).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        stage.trained.parameters(), config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
    )
    half = torch.float16
    if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8:
        half = torch.bfloat16
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda" and half == torch.float16)
    state = {"step": 0, "seconds": 0.0, "log": []}
    folder = None if folder is None else Path(folder)
    kept = {"model": stage.trained, "average": average, "optimizer": optimizer, "scaler": scaler}
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        restore(folder / "checkpoint.pt", config, kept, state, device)
    parallel = nn.parallel.DistributedDataParallel(stage) if world > 1 else stage

    began = last_saved = time.monotonic()
    spent = state["seconds"]
    losses: list[Tensor] = []
    bar = tqdm(total=config.steps, initial=state["step"], desc=config.stage, disable=not progress or rank > 0)
    for step in range(state["step"], config.steps):
        torch.manual_seed(config.seed * 1_000_003 + step * world + rank)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(config, step)
        autocast = torch.autocast(device.type, half, enabled=device.type == "cuda")
        with autocast:
            loss = parallel(step, slice(rank, None, world))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(stage.trained.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        update_average(average, stage.trained, step, config.ema)

        loss = loss.detach()
        if world > 1:
            torch.distributed.all_reduce(loss)
            loss /= world
        losses.append(loss)
        state["step"], state["seconds"] = step + 1, spent + time.monotonic() - began
        bar.update()
        last = step + 1 == config.steps
        if (step + 1) % config.log_every == 0 or last:
            row = {
                "step": step + 1,
                "loss": float(torch.stack(losses).mean()),
                "seconds": round(state["seconds"], 1),
            }
            losses.clear()
            bar.set_postfix(loss=f"{row['loss']:.4f}")
            if rank == 0 and ((step + 1) % config.sample_every == 0 or last):
                row |= stage.report(average)
                if folder is not None:
                    draw_progress(folder, [*state["log"], row], stage.sheet(average))
            state["log"].append(row)
        if callback is not None:
            callback(step, average)
        # Every process must stop at the same step, so the first one's clock decides.
        over = stop_after is not None and agreed(time.monotonic() - began > stop_after, device, world)
        due = last or over or time.monotonic() - last_saved > config.checkpoint_seconds
        if folder is not None and rank == 0 and due:
            save(folder / "checkpoint.pt", config, kept, state)
            last_saved = time.monotonic()
        if over:
            break
    bar.close()
    return Result(average, state["log"], state["step"] >= config.steps)


def agreed(stop: bool, device: torch.device, world: int) -> bool:
    if world == 1:
        return stop
    flag = torch.tensor(float(stop), device=device)
    torch.distributed.broadcast(flag, 0)
    return bool(flag)


# Settings that may differ when a run goes on: they do not change the steps already made.
MAY_CHANGE = ("steps", "decay", "checkpoint_seconds", "log_every", "sample_every", "init_from")


def save(path: Path, config: TrainingConfig, kept: Mapping[str, Any], state: Mapping[str, Any]):
    """Write a checkpoint, whole or not at all."""
    partial = path.with_suffix(".partial")
    torch.save({"config": asdict(config), **state, **{k: v.state_dict() for k, v in kept.items()}}, partial)
    partial.replace(path)


def restore(
    path: Path, config: TrainingConfig, kept: Mapping[str, Any], state: dict[str, Any], device: torch.device
):
    """Load a checkpoint, if there is one."""
    if not path.exists():
        return
    saved = torch.load(path, map_location=device, weights_only=True)
    now = asdict(config)
    changed = [k for k in now if k not in MAY_CHANGE and saved["config"].get(k) != now[k]]
    if changed:
        raise ValueError(
            f"{path} was made with other settings ({', '.join(changed)}): use those, or another folder."
        )
    for name, thing in kept.items():
        thing.load_state_dict(saved[name])
    state.update({k: saved[k] for k in state})


def draw_progress(folder: Path, log: Sequence[Mapping[str, int | float]], sheet: Tensor | None):
    """``loss.png`` and ``samples.png``, where matplotlib and Pillow are installed."""
    with contextlib.suppress(ImportError):
        import matplotlib

        matplotlib.use("Agg", force=False)
        from matplotlib import pyplot as plt
        from PIL import Image

        figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
        axes.plot([row["step"] for row in log], [row["loss"] for row in log])
        axes.set(xlabel="step", ylabel="loss", yscale="log")
        figure.savefig(folder / "loss.png", dpi=120)
        plt.close(figure)
        if sheet is not None:
            pixels = rearrange((sheet + 1) * 127.5, "b f c h w -> (b h) (f w) c")
            Image.fromarray(pixels.round().byte().cpu().numpy()).save(folder / "samples.png")


# Weights


def save_weights(path: str | Path, model: nn.Module, card: Mapping[str, Any]):
    """Half-precision weights as ``.safetensors`` and, beside them, a ``.json`` card with their hash."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    text = json.dumps({"sha256": digest, **card}, indent=1, ensure_ascii=False)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


FOR_DENOISERS = ("unet", "text_layers", "stills", "caption_dropout", "shift", "snr_cap")


def card_of(config: TrainingConfig, result: Result) -> dict[str, Any]:
    """What is worth knowing about trained weights, apart from the judge's numbers."""
    settings = asdict(config)
    if config.stage in ("autoencoder", "judge"):
        settings = {k: v for k, v in settings.items() if k not in FOR_DENOISERS}
    return {
        "command": " ".join(["python -m vdmlib.train", *sys.argv[1:]]),
        "config": settings,
        "torch": torch.__version__,
        "steps": result.log[-1]["step"] if result.log else 0,
        "parameters": sum(p.numel() for p in result.model.parameters()),
        "log": result.log,
    }


def read_card(name: str, folder: str | Path = WEIGHTS) -> dict[str, Any]:
    """What is known about shipped weights: hash, command, configuration, log, the judge's numbers."""
    path = Path(folder) / f"{name}.json"
    if not path.exists():
        raise FileNotFoundError(
            f"There are no weights called {name!r} in {folder}: train them with python -m vdmlib.train {name}."
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _load(name: str, model: nn.Module, folder: str | Path) -> nn.Module:
    path = Path(folder) / f"{name}.safetensors"
    found, expected = hashlib.sha256(path.read_bytes()).hexdigest(), read_card(name, folder)["sha256"]
    if found != expected:
        raise ValueError(f"{path} has the hash {found}, but its card says {expected}: fetch the file again.")
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()})
    return model.eval().requires_grad_(False)


def load_autoencoder(folder: str | Path = WEIGHTS) -> Autoencoder:
    """The shipped autoencoder."""
    read_card("autoencoder", folder)
    return _load("autoencoder", Autoencoder(), folder)


def load_video_model(name: str = "t2v", folder: str | Path = WEIGHTS) -> VideoModel:
    """The shipped text encoder and denoiser; ``name`` is "t2v" or "i2v"."""
    card = read_card(name, folder)
    config = TrainingConfig.from_mapping(card["config"])
    return _load(name, VideoModel(config.unet, config.text_layers), folder)


def load_classifier(folder: str | Path = WEIGHTS) -> nn.Module:
    """The judge's shipped digit classifier."""
    from .judge import DigitClassifier

    read_card("judge", folder)
    return _load("judge", DigitClassifier(), folder)


@dataclass(frozen=True)
class Pretrained:
    """A text encoder, denoiser and autoencoder that make a clip from a caption.

    Example::

        model = vdmlib.training.load_pretrained()
        video = model.generate(["a red 7 moving left quickly"], fps=16)      # (1, 8, 3, 64, 64), in [−1, 1]
    """

    video_model: VideoModel
    autoencoder: Autoencoder
    card: dict[str, Any]

    def generate(
        self,
        captions: Sequence[str],
        fps: int | float | Sequence[int | float] = 10,
        first_frame: Float[Tensor, "b 3 h w"] | None = None,
        guidance_scale: int | float | None = None,
        **settings,
    ) -> Float[Tensor, "b f 3 h w"]:
        """Clips for captions; see :func:`generate`. ``guidance_scale=None`` takes what was best in validation."""
        rates = list(fps) if isinstance(fps, Sequence) else [fps] * len(captions)
        return generate(
            self.video_model,
            self.autoencoder,
            data.tokenize(captions),
            torch.tensor([float(rate) for rate in rates]),
            first_frame,
            guidance_scale=self.card.get("guidance_scale", 3.0) if guidance_scale is None else guidance_scale,
            **settings,
        )


def load_pretrained(name: str = "t2v", folder: str | Path = WEIGHTS) -> Pretrained:
    """The shipped small model, ready to sample; ``name`` is "t2v" or "i2v"."""
    return Pretrained(load_video_model(name, folder), load_autoencoder(folder), read_card(name, folder))


def start_from(model: nn.Module, path: str | Path):
    """Copy every weight that the file has under the same name; a wider first convolution gets zeros for what is new."""
    given, own = load_file(path), model.state_dict()
    for name, value in own.items():
        if name not in given:
            continue
        if given[name].shape != value.shape:
            if given[name].shape[0] != value.shape[0] or given[name].shape[1] > value.shape[1]:
                raise ValueError(
                    f"{name} is {tuple(given[name].shape)} in {path}, but {tuple(value.shape)} in this model: "
                    f"start from weights of the same width."
                )
            value.zero_()
            value[:, : given[name].shape[1]] = given[name].to(value)
        else:
            value.copy_(given[name].to(value))
