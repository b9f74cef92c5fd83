"""The denoising process: DDIM with classifier-free guidance (chapters 1 and 10)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from .diffusion import NoiseSchedule


@dataclass(frozen=True)
class SamplingStep:
    """What a sampler tells its callback after each step."""

    index: int
    timestep: int
    x: Float[Tensor, "b f c h w"]
    x0: Float[Tensor, "b f c h w"]


def ddim_coefficients(schedule: NoiseSchedule, steps: int, eta: float = 0.0) -> dict[str, Tensor | list[int]]:
    """What each DDIM step needs, first step (most noise) first, in double precision.

    ``timesteps``, ``alphas`` = ᾱ_t, ``alphas_prev`` = ᾱ of the level to go to, ``sigmas`` = noise put back in,
    ``scale`` and ``scale_prev``. The last step goes to level 0, not to clean data, and so leaves a little noise, as
    the released sampler does.
    """
    timesteps = schedule.ddim_timesteps(steps)
    now = torch.tensor(timesteps)
    previous = torch.tensor([0, *timesteps[:-1]])
    # The released sampler reads ᾱ from a float32 buffer.
    kept = schedule.alphas_cumprod.float().double()
    alphas, alphas_prev = kept[now], kept[previous]
    sigmas = eta * ((1 - alphas_prev) / (1 - alphas) * (1 - alphas / alphas_prev)).sqrt()
    return {
        "timesteps": timesteps[::-1],
        "alphas": alphas.flip(0),
        "alphas_prev": alphas_prev.flip(0),
        "sigmas": sigmas.flip(0),
        "scale": schedule.scale[now].flip(0),
        "scale_prev": schedule.scale[previous].flip(0),
    }


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


@torch.no_grad()
def sample_ddim(
    net: Callable[..., Tensor],
    schedule: NoiseSchedule,
    noise: Float[Tensor, "b f c h w"],
    context: Float[Tensor, "b m c2"] | None = None,
    uncond_context: Float[Tensor, "b m c2"] | None = None,
    guidance_scale: float = 1.0,
    fps: int | float | Tensor | None = None,
    steps: int = 50,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    step_noise: Float[Tensor, "steps b f c h w"] | None = None,
    progress: bool = True,
    callback: Callable[[SamplingStep], None] | None = None,
    concat: Float[Tensor, "b f c3 h w"] | None = None,
    guidance_in_one_batch: bool = True,
) -> Float[Tensor, "b f c h w"]:
    """From noise to clean latents (Song et al. 2021; ``DDIMSampler`` in ``lvdm/models/samplers/ddim.py``).

    Args:
        net: called as ``net(x, timesteps, context=..., fps=...)``.
        noise: where to start.
        context, uncond_context: tokens of the prompt, and of the empty prompt for guidance.
        guidance_scale: output = unconditional + scale · (conditional − unconditional); 1 skips the unconditional half.
        fps: frames per second, one number or one for each video.
        steps: a number that divides the schedule's length.
        eta: 0 puts no noise back in (deterministic), 1 as much as DDPM would.
        generator: where the noise of ``eta > 0`` comes from.
        step_noise: that noise itself, in the order of the steps, to replay a run.
        progress: show a progress bar.
        callback: called after each step.
        concat: channels put beside the noisy ones in every call, such as the latent of a given frame (DynamiCrafter).
        guidance_in_one_batch: run both halves of the guidance in one call; off, one after the other in less memory.

    Raises:
        ValueError: for settings that do not fit, in one sentence.
    """
    if not math.isfinite(guidance_scale):
        raise ValueError(f"guidance_scale is {guidance_scale}, but must be a finite number, such as 1 or 12.")
    guided = guidance_scale != 1.0
    if guided and uncond_context is None:
        raise ValueError(
            f"guidance_scale is {guidance_scale}, but uncond_context is missing: pass the tokens of the empty prompt, "
            f"or use guidance_scale=1."
        )
    if guided and (context is None or context.shape != uncond_context.shape):
        given = None if context is None else tuple(context.shape)
        raise ValueError(
            f"context has shape {given} and uncond_context {tuple(uncond_context.shape)}, but guidance compares the "
            f"two: make them equally long."
        )
    # Checked here, since the network sees both halves of the guidance as one batch.
    if context is not None and len(context) != len(noise):
        raise ValueError(
            f"context has shape {tuple(context.shape)}, but the noise {tuple(noise.shape)}: make the batches equal."
        )
    if isinstance(fps, Tensor) and fps.shape not in ((), noise.shape[:1]):
        raise ValueError(
            f"fps has shape {tuple(fps.shape)}, but needs one number, or one for each video, ({len(noise)},)."
        )
    if concat is not None and (concat.ndim != 5 or _without_channels(concat) != _without_channels(noise)):
        raise ValueError(
            f"concat has shape {tuple(concat.shape)}, but the noise {tuple(noise.shape)}: only channels may differ."
        )
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta is {eta}, but must lie between 0 (deterministic) and 1 (as noisy as DDPM).")
    plan = ddim_coefficients(schedule, steps, eta)
    if len(plan["timesteps"]) != steps:
        raise ValueError(
            f"steps is {steps}, but evenly spaced over {len(schedule)} levels they would become "
            f"{len(plan['timesteps'])}: {schedule.fitting_steps}."
        )
    if step_noise is not None and step_noise.shape != (steps, *noise.shape):
        raise ValueError(f"step_noise has shape {tuple(step_noise.shape)}, but needs {(steps, *noise.shape)}.")

    predict = _guided_network(net, context, uncond_context, guidance_scale, fps, concat, guidance_in_one_batch)
    x = noise
    for i in tqdm(range(steps), desc="DDIM", disable=not progress):
        timesteps = torch.full((len(x),), plan["timesteps"][i], device=x.device)
        alpha, alpha_prev, sigma, scale, scale_prev = (
            float(plan[name][i]) for name in ("alphas", "alphas_prev", "sigmas", "scale", "scale_prev")
        )
        eps, scaled_x0 = split_prediction(schedule, predict(x, timesteps), x, alpha)
        x0 = scaled_x0 / scale
        x = (alpha_prev**0.5 * scale_prev) * x0 + (1 - alpha_prev - sigma**2) ** 0.5 * eps
        if sigma > 0:
            fresh = _draw(x, generator) if step_noise is None else step_noise[i].to(x)
            x = x + sigma * fresh
        if callback is not None:
            callback(SamplingStep(i, plan["timesteps"][i], x, x0))
    return x


def _without_channels(video: Tensor) -> tuple[int, ...]:
    return (*video.shape[:2], *video.shape[3:])


def _draw(like: Tensor, generator: torch.Generator | None) -> Tensor:
    # Drawn where the generator lives, so that a seed gives the same video on every device.
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, device=device, dtype=like.dtype).to(like.device)


def _guided_network(net, context, uncond_context, scale, fps, concat, one_batch) -> Callable[[Tensor, Tensor], Tensor]:
    """``predict(x, timesteps)`` with the context fixed: its keys and values are computed once for the whole run."""
    prepare = getattr(net, "prepare_context", None) or (lambda tokens: tokens)

    def call(x, timesteps, cached, fps):
        return net(
            x if concat is None else torch.cat([x, _repeat_to(concat, x)], dim=2),
            timesteps,
            context=cached,
            fps=fps,
        )

    if scale == 1.0:
        conditional = None if context is None else prepare(context)
        return lambda x, timesteps: call(x, timesteps, conditional, fps)
    if one_batch:
        both = prepare(torch.cat([uncond_context, context]))
        twice = repeat(fps, "b -> (two b)", two=2) if isinstance(fps, Tensor) and fps.ndim else fps

        def predict(x, timesteps):
            doubled = repeat(x, "b ... -> (two b) ...", two=2)
            without, with_prompt = call(doubled, repeat(timesteps, "b -> (two b)", two=2), both, twice).chunk(2)
            return without + scale * (with_prompt - without)

        return predict

    unconditional, conditional = prepare(uncond_context), prepare(context)

    def predict(x, timesteps):
        without = call(x, timesteps, unconditional, fps)
        return without + scale * (call(x, timesteps, conditional, fps) - without)

    return predict


def _repeat_to(concat: Tensor, x: Tensor) -> Tensor:
    return repeat(concat, "b ... -> (r b) ...", r=len(x) // len(concat))
