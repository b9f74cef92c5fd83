"""The forward process: how noise is mixed into data, and what a network may predict (chapter 1)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .checks import (
    check_betas,
    check_bool,
    check_choice,
    check_falling,
    check_level_count,
    check_levels_of_data,
    check_noise,
    check_number,
    check_released_settings,
    check_schedule,
    unfitting_steps,
)

Prediction = Literal["eps", "v", "x0"]


@dataclass(frozen=True)
class NoiseSchedule:
    """x_t = √ᾱ_t · scale_t · x0 + √(1 − ᾱ_t) · ε for t = 0 ... T − 1.

    Its own numbers are in double precision on the CPU; results have the dtype and the device of the data.

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
        check_schedule(self.betas, self.scale)
        check_choice("prediction", self.prediction, get_args(Prediction))
        for name in ("betas", "scale"):  # On the CPU first: not every device has double precision.
            object.__setattr__(self, name, getattr(self, name).detach().cpu().double())

    @property
    def alphas_cumprod(self) -> Float[Tensor, " T"]:
        """ᾱ_t: the share of the signal's variance that is left after t + 1 steps."""
        return torch.cumprod(1 - self.betas, dim=0)

    def __len__(self) -> int:
        return len(self.betas)

    @classmethod
    def scaled_linear(cls, steps: int = 1000, start: float = 0.00085, end: float = 0.012) -> "NoiseSchedule":
        """β linear in its square root, as in Stable Diffusion and VideoCrafter (which call it "linear")."""
        steps, start, end = check_betas(steps, start, end)
        return cls._from_betas(torch.linspace(math.sqrt(start), math.sqrt(end), steps, dtype=torch.float64) ** 2)

    @classmethod
    def linear(cls, steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> "NoiseSchedule":
        """β linear, as in DDPM (Ho et al. 2020)."""
        steps, start, end = check_betas(steps, start, end)
        return cls._from_betas(torch.linspace(start, end, steps, dtype=torch.float64))

    @classmethod
    def cosine(cls, steps: int = 1000, offset: float = 0.008) -> "NoiseSchedule":
        """ᾱ falls like a squared cosine (Nichol & Dhariwal 2021); β is clipped at 0.999."""
        steps, offset = check_level_count("steps", steps), check_number("offset", offset, 0, 1)
        angle = (torch.arange(steps + 1, dtype=torch.float64) / steps + offset) / (1 + offset) * math.pi / 2
        alphas_cumprod = angle.cos() ** 2
        return cls._from_betas((1 - alphas_cumprod[1:] / alphas_cumprod[:-1]).clamp(0, 0.999))

    @classmethod
    def videocrafter2(cls) -> "NoiseSchedule":
        """VideoCrafter2 T2V 512 and VideoCrafter1 I2V 512: the signal's scale falls from 1 to 0.7."""
        return cls.scaled_linear().with_scale(0.7)

    @classmethod
    def videocrafter1_t2v_512(cls) -> "NoiseSchedule":
        """VideoCrafter1 T2V 512: no rescaling of the signal."""
        return cls.scaled_linear()

    @classmethod
    def videocrafter1_t2v_1024(cls) -> "NoiseSchedule":
        """VideoCrafter1 T2V 1024: the signal's scale falls from 1 to 0.3."""
        return cls.scaled_linear().with_scale(0.3)

    @classmethod
    def dynamicrafter_512(cls) -> "NoiseSchedule":
        """DynamiCrafter 512: VideoCrafter2's scale, no signal at all at the last level, and a network that predicts v.

        Its scripts sample at ``steps=range(999, 0, -20)`` ("uniform_trailing" in ``lvdm/models/utils_diffusion.py``).
        """
        return replace(cls.scaled_linear().with_zero_terminal_snr().with_scale(0.7), prediction="v")

    @classmethod
    def from_videocrafter(cls, params: Mapping[str, Any]) -> "NoiseSchedule":
        """From the ``model.params`` mapping of a released YAML file of VideoCrafter or DynamiCrafter.

        What it leaves out has the default of ``lvdm/models/ddpm3d.py``. Settings of networks, data and training, which
        these files hold too, do not concern the schedule.

        Raises:
            TypeError, ValueError: for what is no such mapping, for a setting that is not known, such as one of another
                code base, and for a value that cannot be followed.
        """
        check_released_settings(params, _NUMBERS | _COUNTS | _FLAGS | _CHOICES.keys() | _OTHERS)
        given = {name: value for name, value in params.items() if value is not None}
        for name in _NUMBERS & given.keys():
            given[name] = check_number(name, given[name], 0, 1)
        for name in _COUNTS & given.keys():
            given[name] = check_level_count(name, given[name])
        for name in _FLAGS & given.keys():
            check_bool(name, given[name])
        for name, choices in _CHOICES.items():
            check_choice(name, given.get(name, choices[0]), choices)

        schedule = cls._from_released_betas(given)
        if given.get("rescale_betas_zero_snr"):
            schedule = schedule.with_zero_terminal_snr()
        if given.get("use_scale"):  # VideoCrafter
            schedule = schedule.with_scale(
                given.get("scale_b", 0.3), given.get("scale_a", 1.0), given.get("mid_step", 400)
            )
        if given.get("use_dynamic_rescale"):  # DynamiCrafter
            schedule = schedule.with_scale(given.get("base_scale", 0.7), 1.0, given.get("turning_step", 400))
        return replace(schedule, prediction=given.get("parameterization", "eps"))

    @classmethod
    def _from_released_betas(cls, given: Mapping[str, Any]) -> "NoiseSchedule":
        steps, kind = given.get("timesteps", 1000), given.get("beta_schedule", "linear")
        if kind == "cosine":
            return cls.cosine(steps, given.get("cosine_s", 8e-3))
        make = cls.linear if kind == "sqrt_linear" else cls.scaled_linear  # The released names say it the other way.
        return make(steps, given.get("linear_start", 1e-4), given.get("linear_end", 2e-2))

    @classmethod
    def _from_betas(cls, betas: Tensor) -> "NoiseSchedule":
        return cls(betas, torch.ones_like(betas))

    def with_scale(self, last: float, first: float = 1.0, steps: int = 400) -> "NoiseSchedule":
        """The same noise; the signal's scale falls from ``first`` to ``last`` over ``steps`` levels, then stays."""
        last, first = check_number("last", last), check_number("first", first)
        steps = check_level_count("steps", steps)
        falling = torch.linspace(first, last, steps, dtype=torch.float64)
        flat = torch.full((max(len(self) - steps, 0),), last, dtype=torch.float64)
        return replace(self, scale=torch.cat([falling, flat])[: len(self)])

    def with_zero_terminal_snr(self) -> "NoiseSchedule":
        """√ᾱ shifted and stretched so that the last level holds no signal, and the first as much as before.

        Algorithm 1 of Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed" (arXiv 2305.08891);
        ``rescale_zero_terminal_snr`` in DynamiCrafter's ``lvdm/models/utils_diffusion.py``.
        """
        check_falling(float(self.alphas_cumprod[0]), float(self.alphas_cumprod[-1]))
        root = self.alphas_cumprod.sqrt()
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        alphas_cumprod = root**2
        ratios = torch.cat([alphas_cumprod[:1], alphas_cumprod[1:] / alphas_cumprod[:-1]])
        return replace(self, betas=1 - ratios)

    def coefficients(self, t: Int[Tensor, " b"] | Int[Tensor, "b f"], like: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ_t · scale_t and √(1 − ᾱ_t), shaped to multiply videos like ``like``, (b, f, c, h, w)."""
        alphas_cumprod = self.alphas_cumprod
        return self._at(t, alphas_cumprod.sqrt() * self.scale, like), self._at(t, (1 - alphas_cumprod).sqrt(), like)

    def _at(self, t: Tensor, values: Float[Tensor, " T"], like: Tensor) -> Tensor:
        check_levels_of_data(t, like, len(self))
        # Rounded before they move: not every device has double precision.
        return values[t.cpu().long()].to(like.dtype).to(like.device).reshape(*t.shape, *(1,) * (like.ndim - t.ndim))

    def add_noise(
        self,
        x0: Float[Tensor, "*video"],
        noise: Float[Tensor, "*video"],
        t: Int[Tensor, " b"] | Int[Tensor, "b f"],
    ) -> Float[Tensor, "*video"]:
        """The forward process in one step: data and noise mixed at level ``t``, one for each video or frame."""
        check_noise(x0, noise)
        signal, sigma = self.coefficients(t, x0)
        return signal * x0 + sigma * noise

    def target(
        self,
        x0: Float[Tensor, "*video"],
        noise: Float[Tensor, "*video"],
        t: Int[Tensor, " b"] | Int[Tensor, "b f"],
    ) -> Float[Tensor, "*video"]:
        """What the network should output at level ``t``, by ``prediction``."""
        check_noise(x0, noise)
        if self.prediction == "eps":
            return noise
        scaled = self._at(t, self.scale, x0) * x0
        if self.prediction == "x0":
            return scaled
        alphas_cumprod = self.alphas_cumprod
        return self._at(t, alphas_cumprod.sqrt(), x0) * noise - self._at(t, (1 - alphas_cumprod).sqrt(), x0) * scaled

    def snr(self) -> Float[Tensor, " T"]:
        """Signal-to-noise ratio of each level, for data of variance one."""
        return self.alphas_cumprod * self.scale**2 / (1 - self.alphas_cumprod)

    def ddim_timesteps(self, steps: int) -> list[int]:
        """The levels that DDIM visits, smallest first, spaced as in the released sampler: 1, 1 + T//steps, ...

        Like the released sampler this makes more than ``steps`` levels where T is no multiple of ``steps``; where the
        last one would lie outside the schedule (the released sampler then fails) it raises ``ValueError``.
        """
        total = len(self)
        if not isinstance(steps, Integral) or isinstance(steps, bool) or not 1 <= steps <= total:
            raise unfitting_steps(steps, total, f"the schedule has {total} levels")
        levels = [t + 1 for t in range(0, total, total // int(steps))]
        if levels[-1] >= total:
            raise unfitting_steps(steps, total, f"would visit level {levels[-1]} of {total} (counted from 0)")
        return levels


# What a released model.params may hold. The schedule follows from these numbers from 0 to 1, counts and switches, ...
_NUMBERS = {"linear_start", "linear_end", "cosine_s", "scale_a", "scale_b", "base_scale"}
_COUNTS = {"timesteps", "mid_step", "turning_step"}
_FLAGS = {"use_scale", "use_dynamic_rescale", "rescale_betas_zero_snr"}
# ... and from these choices, the default first.
_CHOICES = {"beta_schedule": ("linear", "sqrt_linear", "cosine"), "parameterization": ("eps", "x0", "v")}
# The rest is about networks, data, losses and logs, but fix_scale_bug, which cuts what lies beyond the last level.
_OTHERS = {
    "unet_config", "first_stage_config", "cond_stage_config", "cond_img_config", "img_cond_stage_config",
    "image_proj_stage_config", "scheduler_config", "first_stage_key", "cond_stage_key", "cond_stage_trainable",
    "cond_stage_forward", "conditioning_key", "image_size", "channels", "num_timesteps_cond", "scale_by_std",
    "scale_factor", "use_ema", "uncond_type", "uncond_prob", "encoder_type", "only_model", "finegrained",
    "random_cond", "freeze_embedder", "image_proj_model_trainable", "interp_mode", "fps_condition_type", "perframe_ae",
    "rand_cond_frame", "en_and_decode_n_samples_a_time", "use_positional_encodings", "loss_type", "clip_denoised",
    "v_posterior", "original_elbo_weight", "l_simple_weight", "learn_logvar", "logvar_init", "noise_strength",
    "monitor", "log_every_t", "logdir", "ckpt_path", "ignore_keys", "load_only_unet", "fix_scale_bug",
}  # fmt: skip
