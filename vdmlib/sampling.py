"""The denoising process: DDIM with classifier-free guidance (chapters 1 and 11)."""

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from .checks import (
    check_levels,
    check_number,
    check_real,
    check_sampling,
    check_shape,
    check_streams,
    check_visible,
    unfitting_steps,
)
from .diffusion import NoiseSchedule


@dataclass(frozen=True)
class SamplingStep:
    """What a sampler tells its callback after each step: where it was, and what it has now."""

    index: int
    timestep: int
    x: Float[Tensor, "b f c h w"]
    x0: Float[Tensor, "b f c h w"]


@dataclass(frozen=True)
class DDIMStep:
    """One step of DDIM, from a noisy level to a less noisy one.

    Attributes:
        timestep: the level to come from, at which the network is asked.
        alpha, alpha_prev: ᾱ of the level to come from, and of the one to go to.
        sigma: the standard deviation of the noise put back in.
        scale, scale_prev: the scale of the signal at both levels.
    """

    timestep: int
    alpha: float
    alpha_prev: float
    sigma: float
    scale: float
    scale_prev: float

    @property
    def direction(self) -> float:
        """√(1 − ᾱ_prev − σ²): how much of the noise in x stays. Below zero it can only get by rounding."""
        return max(1 - self.alpha_prev - self.sigma**2, 0.0) ** 0.5


def ddim_steps(
    schedule: NoiseSchedule, steps_or_levels: SupportsIndex | Iterable[SupportsIndex], eta: int | float = 0.0
) -> list[DDIMStep]:
    """The steps of DDIM (Song et al. 2021), most noise first.

    The last one goes to level 0, not to clean data, and so leaves a little noise, as the released sampler does.

    Args:
        steps_or_levels: a number that divides the schedule's length, for levels spaced as in the released sampler; or
            the levels themselves, all rising or all falling.
        eta: 0 puts no noise back in (deterministic), 1 as much as DDPM would.
    """
    eta = check_number("eta", eta, 0, 1)
    levels = _levels(schedule, steps_or_levels)
    alphas = schedule.alphas_cumprod.float().tolist()  # The released sampler reads ᾱ from a float32 buffer.
    scales, steps = schedule.scale.tolist(), []
    for level, previous in zip(levels, [0, *levels], strict=False):
        alpha, alpha_prev = alphas[level], alphas[previous]
        check_visible(schedule.prediction, level, alpha)
        # From level 0 it is not far to level 0.
        variance = (1 - alpha_prev) / (1 - alpha) * (1 - alpha / alpha_prev) if alpha < alpha_prev else 0.0
        steps.append(DDIMStep(level, alpha, alpha_prev, eta * math.sqrt(variance), scales[level], scales[previous]))
    return steps[::-1]


def _levels(schedule: NoiseSchedule, steps) -> list[int]:
    try:
        if getattr(steps, "ndim", 0):  # An array of one level has an index, too.
            raise TypeError
        levels = schedule.ddim_timesteps(steps if isinstance(steps, bool) else operator.index(steps))
    except TypeError:
        return check_levels(steps, len(schedule))
    if len(levels) != steps:
        reason = f"evenly spaced over {len(schedule)} levels they would become {len(levels)}"
        raise unfitting_steps(steps, len(schedule), reason)
    return levels


def split_prediction(
    schedule: NoiseSchedule, output: Float[Tensor, "*video"], x: Float[Tensor, "*video"], alpha: float
) -> tuple[Float[Tensor, "*video"], Float[Tensor, "*video"]]:
    """The network's output as (noise, scaled clean data), whatever ``schedule.prediction`` says it means."""
    signal, noise = alpha**0.5, (1 - alpha) ** 0.5
    if schedule.prediction == "eps":
        return output, (x - noise * output) / signal
    if schedule.prediction == "v":
        return signal * output + noise * x, signal * x - noise * output
    return (x - signal * output) / noise, output


class Guided:
    """A network with its conditions fixed and classifier-free guidance around it (Ho & Salimans 2022).

    Called with latents and timesteps, it gives unconditional + scale · (conditional − unconditional). It computes the
    keys and values of the context once (``net.prepare_context``, where there is one), and talks to the network in
    the dtype of its weights whatever the dtype of the latents. Arguments as in :func:`sample_ddim`.
    """

    def __init__(
        self,
        net: Callable[..., Tensor],
        context: Float[Tensor, "b m c2"] | None = None,
        uncond_context: Float[Tensor, "b m c2"] | None = None,
        guidance_scale: int | float = 1.0,
        fps: int | float | Tensor | None = None,
        concat: Float[Tensor, "b f c3 h w"] | None = None,
        in_one_batch: bool = True,
    ):
        self.net, self.guidance_scale, self.guided = net, guidance_scale, guidance_scale != 1
        self.dtype = _dtype(net)
        self.copies = 2 if self.guided and in_one_batch else 1
        prepare = getattr(net, "prepare_context", lambda tokens: tokens)
        halves = [uncond_context, context] if self.guided else [context]
        contexts = [self._typed(tokens) for tokens in halves if tokens is not None]
        contexts = [torch.cat(contexts)] if self.copies == 2 else contexts
        self.contexts = [prepare(tokens) for tokens in contexts] or [None]
        self.fps = self._copied(fps) if isinstance(fps, Tensor) and fps.ndim else fps
        self.concat = None if concat is None else self._copied(self._typed(concat))

    def __call__(self, x: Float[Tensor, "b f c h w"], timesteps: Int[Tensor, " b"]) -> Float[Tensor, "b f c h w"]:
        seen = self._copied(self._typed(x))
        if self.concat is not None:
            seen = torch.cat([seen, self.concat], dim=2)
        timesteps = self._copied(timesteps)
        outputs = [self.net(seen, timesteps, context=tokens, fps=self.fps) for tokens in self.contexts]
        output = torch.cat(outputs).to(x.dtype)
        if not self.guided:
            return output
        unconditional, conditional = output.chunk(2)
        return unconditional + self.guidance_scale * (conditional - unconditional)

    def _typed(self, values: Tensor) -> Tensor:
        return values if self.dtype is None else values.to(self.dtype)

    def _copied(self, values: Tensor) -> Tensor:
        return values if self.copies == 1 else repeat(values, "b ... -> (two b) ...", two=2)


def _dtype(net: Callable[..., Tensor]) -> torch.dtype | None:
    """Of a network's weights; ``None`` for a function, which is given what there is."""
    if not isinstance(net, nn.Module):
        return None
    return next((weight.dtype for weight in net.parameters() if weight.is_floating_point()), None)


@torch.no_grad()
def sample_ddim(  # noqa: PLR0913, the documented entry point
    net: Callable[..., Tensor],
    schedule: NoiseSchedule,
    noise: Float[Tensor, "b f c h w"],
    context: Float[Tensor, "b m c2"] | None = None,
    uncond_context: Float[Tensor, "b m c2"] | None = None,
    guidance_scale: int | float = 1.0,
    fps: int | float | Tensor | None = None,
    steps: SupportsIndex | Iterable[SupportsIndex] = 50,
    eta: int | float = 0.0,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    step_noise: Float[Tensor, "steps b f c h w"] | None = None,
    progress: bool = True,
    callback: Callable[[SamplingStep], None] | None = None,
    concat: Float[Tensor, "b f c3 h w"] | None = None,
    guidance_in_one_batch: bool = True,
) -> Float[Tensor, "b f c h w"]:
    """From noise to clean latents (Song et al. 2021; ``DDIMSampler`` in ``lvdm/models/samplers/ddim.py``).

    Latents are kept in float32 (in float64 where the noise is), whatever the dtype of the network.

    Args:
        net: called as ``net(x, timesteps, context=..., fps=...)``.
        noise: where to start.
        context, uncond_context: tokens of the prompt, and of the empty prompt for guidance.
        guidance_scale: output = unconditional + scale · (conditional − unconditional); 1 skips the unconditional half.
        fps: frames per second, one number or one for each video.
        steps: a number that divides the schedule's length, or a list of levels, such as ``range(999, 0, -20)``.
        eta: 0 puts no noise back in (deterministic), 1 as much as DDPM would.
        generator: where the noise of ``eta > 0`` comes from; one, or one for each video (:func:`noise_streams`).
        step_noise: that noise itself, in the order of the steps, to replay a run.
        progress: show a progress bar.
        callback: called after each step.
        concat: channels put beside the noisy ones in every call, such as the latent of a given frame (DynamiCrafter).
        guidance_in_one_batch: run both halves of the guidance in one call; off, one after the other in less memory.

    Raises:
        ValueError, TypeError: for settings that do not fit, in one sentence.
    """
    plan = ddim_steps(schedule, steps, eta)
    check_sampling(noise, context, uncond_context, guidance_scale, fps, concat, step_noise, len(plan))
    check_streams(generator, len(noise))
    denoise = Guided(net, context, uncond_context, guidance_scale, fps, concat, guidance_in_one_batch)
    x = noise.to(torch.promote_types(noise.dtype, torch.float32))
    for i, step in enumerate(tqdm(plan, desc="DDIM", disable=not progress)):
        timesteps = torch.full((len(x),), step.timestep, device=x.device)
        eps, scaled_x0 = split_prediction(schedule, denoise(x, timesteps), x, step.alpha)
        x0 = scaled_x0 / step.scale
        x = (step.alpha_prev**0.5 * step.scale_prev) * x0 + step.direction * eps
        if step.sigma > 0:
            x = x + step.sigma * (draw_noise(x.shape, generator, like=x) if step_noise is None else step_noise[i].to(x))
        if callback is not None:
            callback(SamplingStep(i, step.timestep, x, x0))
    return x


def noise_streams(seed: int | None, videos: int) -> list[torch.Generator]:
    """A stream of random numbers for each video of a batch: video ``i`` draws from the seed ``seed + i``.

    So what is made beside a video does not change it, and a batch holds what single runs with the seeds ``seed``,
    ``seed + 1``, ... make. ``None`` takes a seed that nobody has had before. Streams are the CPU's, so that a seed
    means the same numbers on every device.
    """
    if seed is None:
        seed = torch.Generator().seed() % 2**62
    first: int = check_number("seed", seed, 0, 2**63 - 1, whole=True)
    videos = check_number("videos", videos, 1, whole=True)
    return [torch.Generator().manual_seed(first + i) for i in range(videos)]


def draw_noise(
    shape: Sequence[int],
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    like: Tensor | None = None,
) -> Float[Tensor, " *video"]:
    """Normal random numbers (b, ...): from one generator for all videos, from one for each, or from torch's own.

    Drawn where the generator lives, then brought to the device and dtype of ``like`` (by default float32 on the CPU).
    """
    check_shape(shape)
    check_streams(generator, shape[0])
    like = torch.empty(0) if like is None else like
    check_real("like", like)
    if isinstance(generator, Sequence):
        return torch.cat([draw_noise((1, *shape[1:]), stream, like) for stream in generator])
    device = like.device if generator is None else generator.device
    return torch.randn(*shape, generator=generator, device=device, dtype=like.dtype).to(like.device)
