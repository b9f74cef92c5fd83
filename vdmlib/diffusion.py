"""The forward process: how noise is mixed into data, and what a network may predict (chapter 1)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

Prediction = Literal["eps", "v", "x0"]


@dataclass(frozen=True)
class NoiseSchedule:
    """x_t = √ᾱ_t · scale_t · x0 + √(1 − ᾱ_t) · ε for t = 0 ... T − 1.

    Kept in double precision; results have the dtype of the data.

    Attributes:
        betas: (T,) noise added at each step.
        scale: (T,) VideoCrafter's rescaling of the signal, all ones where there is none. With it the process does
            not preserve the variance.
        prediction: what the network's output means: the noise "eps", "v" = √ᾱ·ε − √(1−ᾱ)·scale·x0, or "x0" (scaled).
    """

    betas: Float[Tensor, " T"]
    scale: Float[Tensor, " T"]
    prediction: Prediction = "eps"

    def __post_init__(self):
        if self.betas.ndim != 1 or self.betas.shape != self.scale.shape or not len(self.betas):
            raise ValueError(
                f"betas has shape {tuple(self.betas.shape)} and scale {tuple(self.scale.shape)}, but both need one "
                f"number for each level, (T,)."
            )
        if not ((self.betas >= 0) & (self.betas <= 1)).all():
            raise ValueError(
                f"betas run from {float(self.betas.min()):g} to {float(self.betas.max()):g}, but must lie between 0 "
                f"and 1: check where the schedule starts and ends."
            )
        if self.prediction not in get_args(Prediction):
            raise ValueError(
                f"prediction is {self.prediction!r}, but must be one of {', '.join(get_args(Prediction))}."
            )

    @property
    def alphas_cumprod(self) -> Float[Tensor, " T"]:
        """ᾱ_t: the share of the signal's variance that is left after t + 1 steps."""
        return torch.cumprod(1 - self.betas, dim=0)

    def __len__(self) -> int:
        return len(self.betas)

    @classmethod
    def scaled_linear(cls, steps: int = 1000, start: float = 0.00085, end: float = 0.012) -> "NoiseSchedule":
        """β linear in its square root, as in Stable Diffusion and VideoCrafter (which call it "linear")."""
        return cls._from_betas(torch.linspace(math.sqrt(start), math.sqrt(end), steps, dtype=torch.float64) ** 2)

    @classmethod
    def linear(cls, steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> "NoiseSchedule":
        """β linear, as in DDPM (Ho et al. 2020)."""
        return cls._from_betas(torch.linspace(start, end, steps, dtype=torch.float64))

    @classmethod
    def cosine(cls, steps: int = 1000, offset: float = 0.008) -> "NoiseSchedule":
        """ᾱ falls like a squared cosine (Nichol & Dhariwal 2021); β is clipped at 0.999."""
        angle = (torch.arange(steps + 1, dtype=torch.float64) / steps + offset) / (1 + offset) * math.pi / 2
        alphas_cumprod = angle.cos() ** 2
        return cls._from_betas((1 - alphas_cumprod[1:] / alphas_cumprod[:-1]).clamp(0, 0.999))

    @classmethod
    def videocrafter2(cls) -> "NoiseSchedule":
        """VideoCrafter2 T2V 512 and VideoCrafter1 I2V 512: the signal's scale falls from 1 to 0.7."""
        return cls.scaled_linear()._with_scale(0.7)

    @classmethod
    def videocrafter1_t2v_512(cls) -> "NoiseSchedule":
        """VideoCrafter1 T2V 512: no rescaling of the signal."""
        return cls.scaled_linear()

    @classmethod
    def videocrafter1_t2v_1024(cls) -> "NoiseSchedule":
        """VideoCrafter1 T2V 1024: the signal's scale falls from 1 to 0.3."""
        return cls.scaled_linear()._with_scale(0.3)

    @classmethod
    def from_videocrafter(cls, params: Mapping[str, Any]) -> "NoiseSchedule":
        """From the ``model.params`` mapping of a released YAML file, with the released defaults."""
        kind = params.get("beta_schedule", "linear")
        if kind != "linear":
            raise ValueError(f"beta_schedule is {kind!r}, but every released model uses 'linear': use that.")
        schedule = cls.scaled_linear(
            params.get("timesteps", 1000), params.get("linear_start", 1e-4), params.get("linear_end", 2e-2)
        )
        if not params.get("use_scale"):
            return schedule
        first, last = params.get("scale_a") or 1.0, params.get("scale_b") or 0.3
        return schedule._with_scale(last, first, params.get("mid_step") or 400)

    @classmethod
    def _from_betas(cls, betas: Tensor) -> "NoiseSchedule":
        return cls(betas, torch.ones_like(betas))

    def _with_scale(self, last: float, first: float = 1.0, steps: int = 400) -> "NoiseSchedule":
        falling = torch.linspace(first, last, steps, dtype=torch.float64)
        flat = torch.full((max(len(self) - steps, 0),), last, dtype=torch.float64)
        return replace(self, scale=torch.cat([falling, flat])[: len(self)])

    def coefficients(self, t: Int[Tensor, " b"] | Int[Tensor, "b f"], like: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ_t · scale_t and √(1 − ᾱ_t), shaped to multiply videos like ``like``, (b, f, c, h, w)."""
        kept = self.alphas_cumprod
        return self._at(t, kept.sqrt() * self.scale, like), self._at(t, (1 - kept).sqrt(), like)

    def _at(self, t: Tensor, values: Float[Tensor, " T"], like: Tensor) -> Tensor:
        if not isinstance(t, Tensor) or t.is_floating_point() or t.dtype == torch.bool:
            given = t.dtype if isinstance(t, Tensor) else f"of type {type(t).__name__}"
            raise TypeError(f"t is {given}, but must be a tensor of whole numbers, one for each video or frame.")
        if t.ndim not in (1, 2) or t.shape != like.shape[: t.ndim]:
            raise ValueError(
                f"t has shape {tuple(t.shape)}, but the data {tuple(like.shape)}: pass one t for each video or frame."
            )
        if not like.is_floating_point():
            raise TypeError(
                f"The data are {like.dtype}, but noise needs floating point numbers: convert with .float()."
            )
        if t.numel() and not 0 <= int(t.min()) <= int(t.max()) < len(self):
            raise ValueError(f"t runs from {int(t.min())} to {int(t.max())}, but must be in 0 ... {len(self) - 1}.")
        return values[t.cpu()].to(like).reshape(*t.shape, *(1,) * (like.ndim - t.ndim))

    def add_noise(
        self,
        x0: Float[Tensor, "*video"],
        noise: Float[Tensor, "*video"],
        t: Int[Tensor, " b"] | Int[Tensor, "b f"],
    ) -> Float[Tensor, "*video"]:
        """The forward process in one step: data and noise mixed at level ``t``, one for each video or frame."""
        _check_noise(x0, noise)
        signal, sigma = self.coefficients(t, x0)
        return signal * x0 + sigma * noise

    def target(
        self,
        x0: Float[Tensor, "*video"],
        noise: Float[Tensor, "*video"],
        t: Int[Tensor, " b"] | Int[Tensor, "b f"],
    ) -> Float[Tensor, "*video"]:
        """What the network should output at level ``t``, by ``prediction``."""
        _check_noise(x0, noise)
        if self.prediction == "eps":
            return noise
        scaled = self._at(t, self.scale, x0) * x0
        if self.prediction == "x0":
            return scaled
        kept = self.alphas_cumprod
        return self._at(t, kept.sqrt(), x0) * noise - self._at(t, (1 - kept).sqrt(), x0) * scaled

    def snr(self) -> Float[Tensor, " T"]:
        """Signal-to-noise ratio of each level, for data of variance one."""
        return self.alphas_cumprod * self.scale**2 / (1 - self.alphas_cumprod)

    def ddim_timesteps(self, steps: int) -> list[int]:
        """The levels that DDIM visits, smallest first, spaced as in the released sampler: 1, 1 + T//steps, ...

        Like the released sampler this makes more than ``steps`` levels where T is no multiple of ``steps``; where the
        last one would lie outside the schedule (the released sampler then fails) it raises ``ValueError``.
        """
        if not isinstance(steps, int) or not 1 <= steps <= len(self):
            raise ValueError(f"steps is {steps!r}, but the schedule has {len(self)} levels: {self.fitting_steps}.")
        levels = [t + 1 for t in range(0, len(self), len(self) // steps)]
        if levels[-1] >= len(self):
            raise ValueError(
                f"steps is {steps}, but would visit level {levels[-1]} of {len(self)} (counted from 0): "
                f"{self.fitting_steps}."
            )
        return levels

    @property
    def fitting_steps(self) -> str:
        """Advice for messages: the numbers of steps that divide the schedule's length."""
        fitting = [str(steps) for steps in range(1, len(self)) if len(self) % steps == 0]
        return f"use one of {', '.join(fitting)}" if fitting else "use a longer schedule"


def _check_noise(x0: Tensor, noise: Tensor):
    if x0.shape != noise.shape:
        raise ValueError(f"The data have shape {tuple(x0.shape)}, but the noise {tuple(noise.shape)}: make them equal.")
