"""The sampler against exact answers, and what in a network may influence what."""

import itertools
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from einops import rearrange
from golden_numbers import EXACT, relative_error
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tiny_networks import OPTIONS, modules, tiny_config, tiny_inputs, tiny_network
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import vdmlib
from vdmlib import NoiseSchedule, TemporalTransformer, sample_ddim
from vdmlib.attention import Attention
from vdmlib.sampling import ddim_steps, draw_noise, noise_streams

VIDEO = (2, 3, 4, 8, 4)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape or VIDEO, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# The sampler with a denoiser that is known exactly


@dataclass
class Gaussian:
    """The best possible denoiser of data x0 ~ N(mean, std²), every number by itself: its posterior in closed form."""

    schedule: NoiseSchedule
    mean: float = 0.7
    std: float = 0.0

    def alpha(self, level: int) -> float:
        return float(self.schedule.alphas_cumprod[level].float())  # As the sampler reads it.

    def marginal(self, level: int) -> tuple[float, float, float, float]:
        """Mean and standard deviation of the noisy data; how much of x0 and of the noise are in them."""
        alpha = self.alpha(level)
        signal, sigma = alpha**0.5 * float(self.schedule.scale[level]), (1 - alpha) ** 0.5
        return signal * self.mean, (signal**2 * self.std**2 + sigma**2) ** 0.5, signal, sigma

    def __call__(self, x: Tensor, timesteps: Tensor, context=None, fps=None) -> Tensor:
        level = int(timesteps[0])
        mean, std, signal, sigma = self.marginal(level)
        eps = sigma * (x - mean) / std**2
        scaled_x0 = (self.mean + signal * self.std**2 * (x - mean) / std**2) * float(self.schedule.scale[level])
        alpha = self.alpha(level)
        v = alpha**0.5 * eps - (1 - alpha) ** 0.5 * scaled_x0
        return {"eps": eps, "x0": scaled_x0, "v": v}[self.schedule.prediction]


SCHEDULES = {
    "rescaled": NoiseSchedule.videocrafter2(),
    "rescaled_more": NoiseSchedule.videocrafter1_t2v_1024(),
    "plain": NoiseSchedule.videocrafter1_t2v_512(),
    "cosine": NoiseSchedule.cosine(),
    "dynamicrafter": NoiseSchedule.dynamicrafter_512(),  # The last level holds no signal.
}
every_schedule = pytest.mark.parametrize("kind", SCHEDULES)


def sample(denoiser: Gaussian, start: Tensor, **settings) -> Tensor:
    return sample_ddim(denoiser, denoiser.schedule, start, progress=False, **settings)


@every_schedule
@pytest.mark.parametrize("steps", [1, 4, 50])
def test_data_of_one_value_are_found_exactly_in_any_number_of_steps(kind, steps):
    """Then the noise in x is known exactly at every level, and what is left at level 0 is known too."""
    denoiser = Gaussian(SCHEDULES[kind])
    start = noise(dtype=torch.float64)
    first = denoiser.schedule.ddim_timesteps(steps)[-1]
    mean, std, _, _ = denoiser.marginal(first)
    last_mean, last_std, _, _ = denoiser.marginal(0)
    expected = last_mean + last_std * (start - mean) / std
    clean = []
    result = sample(denoiser, start, steps=steps, callback=lambda step: clean.append(step.x0))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-9)
    for x0 in clean:
        torch.testing.assert_close(x0, torch.full_like(start, 0.7), rtol=0, atol=1e-9)


@every_schedule
def test_more_steps_come_closer_to_the_exact_flow(kind):
    """DDIM follows a flow that takes each quantile of the noisy data to the same quantile of the clean data."""
    denoiser = Gaussian(SCHEDULES[kind], std=0.5)
    start, errors = noise(dtype=torch.float64), []
    for steps in (20, 100, 500):
        mean, std, _, _ = denoiser.marginal(denoiser.schedule.ddim_timesteps(steps)[-1])
        last_mean, last_std, _, _ = denoiser.marginal(0)
        expected = last_mean + last_std * (start - mean) / std
        errors.append(float((sample(denoiser, start, steps=steps) - expected).abs().max()))
    assert errors[0] > 3 * errors[1] > 9 * errors[2] and errors[2] < 0.02


@every_schedule
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_samples_have_the_distribution_of_the_data(kind, eta):
    denoiser = Gaussian(SCHEDULES[kind], std=0.5)
    first = denoiser.marginal(denoiser.schedule.ddim_timesteps(250)[-1])
    start = first[0] + first[1] * noise(4, 4, 4, 32, 32, dtype=torch.float64)
    result = sample(denoiser, start, steps=250, eta=eta, generator=torch.Generator().manual_seed(1))
    mean, std, _, _ = denoiser.marginal(0)
    assert float(result.mean()) == pytest.approx(mean, abs=0.01)
    assert float(result.std()) == pytest.approx(std, rel=0.04)  # With noise, 250 steps are a little too narrow.


@every_schedule
@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_all_predictions_sample_the_same(kind, prediction):
    schedule, start = SCHEDULES[kind], noise(dtype=torch.float64)
    settings = dict(steps=20, eta=1.0, step_noise=noise(20, *VIDEO, seed=1, dtype=torch.float64))
    by_eps = sample(Gaussian(schedule, std=0.5), start, **settings)
    other = sample(Gaussian(replace(schedule, prediction=prediction), std=0.5), start, **settings)
    torch.testing.assert_close(other, by_eps, rtol=0, atol=1e-9)


@every_schedule
@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_targets_are_what_the_sampler_takes_apart_again(kind, prediction):
    """At every level, and finite there in single precision."""
    schedule = replace(SCHEDULES[kind], prediction=prediction)
    t = torch.arange(len(schedule))
    x0, eps = noise(1000, 1, 1, 2, 2), noise(1000, 1, 1, 2, 2, seed=1)
    x, target = schedule.add_noise(x0, eps, t), schedule.target(x0, eps, t)
    assert target.isfinite().all()
    for level in (0, 1, 250, 600, 981, 999):
        alpha = float(schedule.alphas_cumprod[level])
        if alpha == 0 and prediction == "eps":
            continue  # There the noise alone says nothing of the data; the sampler refuses such a level.
        parts = vdmlib.sampling.split_prediction(schedule, target[level].double(), x[level].double(), alpha)
        # What is left of the noise or the data at either end cannot be told to more digits than x has.
        torch.testing.assert_close(parts[0], eps[level].double(), rtol=0, atol=1e-6 + 1e-6 / (1 - alpha) ** 0.5)
        scaled = schedule.scale[level] * x0[level].double()
        torch.testing.assert_close(parts[1], scaled, rtol=0, atol=1e-6 + 1e-6 / (alpha or 1) ** 0.5)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, Fraction])
def test_numbers_of_any_library_mean_what_they_say(kind):
    """One half and one quarter are the same number in all of them."""
    half, quarter, ten = kind(0.5), kind(0.25), np.uint8(10)
    for name, ours, theirs in (
        ("linear", NoiseSchedule.linear(ten, quarter, half), NoiseSchedule.linear(10, 0.25, 0.5)),
        ("scaled", NoiseSchedule.scaled_linear(ten, quarter, half), NoiseSchedule.scaled_linear(10, 0.25, 0.5)),
        ("cosine", NoiseSchedule.cosine(ten, half), NoiseSchedule.cosine(10, 0.5)),
        (
            "scale",
            NoiseSchedule.linear().with_scale(half, quarter, ten),
            NoiseSchedule.linear().with_scale(0.5, 0.25, 10),
        ),
    ):
        assert torch.equal(ours.betas, theirs.betas) and torch.equal(ours.scale, theirs.scale), name
    assert ddim_steps(NoiseSchedule.linear(), np.uint8(50), half) == ddim_steps(NoiseSchedule.linear(), 50, 0.5)
    x0, t = noise(2, 3), torch.tensor([3, 200])
    for small in (torch.uint8, torch.int16, torch.uint16):
        assert torch.equal(
            NoiseSchedule.linear().add_noise(x0, x0, t.to(small)), NoiseSchedule.linear().add_noise(x0, x0, t)
        )


# Which levels


@every_schedule
@pytest.mark.parametrize("levels", [range(999, 0, -20), [0, 3, 500], torch.tensor([700, 2]), np.array([5, 998])])
def test_any_list_of_levels_is_visited_and_the_answer_stays_exact(kind, levels):
    denoiser = Gaussian(replace(SCHEDULES[kind], prediction="v"))
    visited = sorted((int(level) for level in levels), reverse=True)
    start = noise(dtype=torch.float64)
    mean, std, _, _ = denoiser.marginal(visited[0])
    last_mean, last_std, _, _ = denoiser.marginal(0)
    seen = []
    result = sample(denoiser, start, steps=levels, callback=lambda step: seen.append(step.timestep))
    assert seen == visited
    torch.testing.assert_close(result, last_mean + last_std * (start - mean) / std, rtol=0, atol=1e-9)


@given(st.sets(st.integers(0, 999), min_size=1, max_size=60), st.floats(0, 1), st.sampled_from(sorted(SCHEDULES)))
def test_steps_join_up_and_lose_no_noise(levels, eta, kind):
    schedule = replace(SCHEDULES[kind], prediction="v")
    steps = ddim_steps(schedule, sorted(levels), eta)
    assert steps == ddim_steps(schedule, sorted(levels, reverse=True), eta)
    assert [step.timestep for step in steps] == sorted(levels, reverse=True)
    for step, after in itertools.pairwise(steps):
        assert (step.alpha_prev, step.scale_prev) == (after.alpha, after.scale)
    assert (steps[-1].alpha_prev, steps[-1].scale_prev) == (Gaussian(schedule).alpha(0), float(schedule.scale[0]))
    for step in steps:
        assert 0 <= step.sigma**2 <= 1 - step.alpha_prev + 1e-12
        # What stays of the noise and what is put back in are as much as belongs to the level to go to.
        assert step.direction**2 + step.sigma**2 == pytest.approx(1 - step.alpha_prev, abs=1e-12)
        assert isinstance(step.direction, float)


@given(st.integers(1, 1000))
def test_a_number_of_steps_is_made_or_refused(number):
    schedule = NoiseSchedule.videocrafter2()
    if 1000 % number == 0 and number < 1000:
        assert len(ddim_steps(schedule, number)) == number
    else:
        with pytest.raises(ValueError, match=f"steps is {number}, "):
            ddim_steps(schedule, number)


def test_every_kind_of_whole_number_is_one():
    schedule = NoiseSchedule.linear()
    for number in (np.int64(50), torch.tensor(50)):
        assert ddim_steps(schedule, number) == ddim_steps(schedule, 50)


def test_all_noise_is_put_back_in_where_there_is_no_signal():
    """At eta = 1 the step from a level without signal keeps nothing of x, not even by rounding."""
    first = ddim_steps(NoiseSchedule.dynamicrafter_512(), range(999, 0, -20), eta=1.0)[0]
    assert first.alpha == 0.0 and first.direction < 1e-7 and first.sigma == pytest.approx((1 - first.alpha_prev) ** 0.5)


# Schedules


def test_dynamicrafters_schedule():
    """What its released configuration says: v, no signal at the end, the scale to 0.7; the first level as before."""
    params = dict(
        parameterization="v", rescale_betas_zero_snr=True, use_dynamic_rescale=True, base_scale=0.7,
        linear_start=0.00085, linear_end=0.012, timesteps=1000, fps_condition_type="fps", perframe_ae=True,
    )  # fmt: skip
    plain = NoiseSchedule.scaled_linear()
    for schedule in (NoiseSchedule.dynamicrafter_512(), NoiseSchedule.from_videocrafter(params)):
        assert schedule.prediction == "v"
        assert schedule.alphas_cumprod[-1] == 0 and schedule.snr()[-1] == 0
        torch.testing.assert_close(schedule.alphas_cumprod[0], plain.alphas_cumprod[0], rtol=1e-12, atol=0)
        assert schedule.scale[0] == 1 and schedule.scale[399:].eq(0.7).all()
        torch.testing.assert_close(schedule.scale, NoiseSchedule.videocrafter2().scale)
        # √ᾱ is stretched evenly.
        ratio = (schedule.alphas_cumprod.sqrt() / (plain.alphas_cumprod.sqrt() - plain.alphas_cumprod[-1].sqrt()))[:-1]
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-9, atol=0)
    assert float(plain.alphas_cumprod[-1]) == pytest.approx(0.0047, abs=1e-4)


def test_settings_of_a_released_file_count_one_by_one():
    make = NoiseSchedule.from_videocrafter
    plain = make({})
    assert plain.prediction == "eps" and plain.scale.eq(1).all()
    torch.testing.assert_close(plain.betas, NoiseSchedule.scaled_linear(1000, 1e-4, 2e-2).betas)
    assert make({"parameterization": "x0"}).prediction == "x0"
    assert make({"rescale_betas_zero_snr": True}).alphas_cumprod[-1] == 0
    assert make({"use_dynamic_rescale": True, "turning_step": 10}).scale[9:].eq(0.7).all()
    assert make({"use_dynamic_rescale": False, "base_scale": 0.3}).scale.eq(1).all()
    assert make({"use_scale": True}).scale[-1] == 0.3 and make({"use_scale": True, "scale_a": 0.9}).scale[0] == 0.9
    torch.testing.assert_close(make({"beta_schedule": "cosine"}).betas, NoiseSchedule.cosine().betas)
    torch.testing.assert_close(make({"beta_schedule": "sqrt_linear"}).betas, NoiseSchedule.linear().betas)
    assert make({"given_betas": None, "ckpt_path": None, "unet_config": {}}).prediction == "eps"


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_schedules_of_single_precision_are_kept_in_double(prediction):
    rough = NoiseSchedule(NoiseSchedule.linear().betas.float(), torch.ones(1000), prediction)
    assert rough.betas.dtype == rough.scale.dtype == rough.alphas_cumprod.dtype == torch.float64


class WithoutDoublePrecision(TorchDispatchMode):
    """A device, played by the meta device, that has no float64, such as a Mac's GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **kwargs or {})
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.is_meta and leaf.dtype == torch.float64:
                raise TypeError(f"{func} makes float64 on a device that has none.")
        return result


def test_nothing_needs_double_precision_on_the_device():
    x0, t = torch.zeros(2, 3, 4, 8, 4, device="meta"), torch.tensor([3, 999])
    with WithoutDoublePrecision():
        for prediction in ("eps", "v", "x0"):
            schedule = replace(NoiseSchedule.videocrafter2(), prediction=prediction)
            for result in (schedule.add_noise(x0, x0, t), schedule.target(x0, x0, t)):
                assert result.is_meta and result.dtype == torch.float32
            for generator in (torch.Generator(), noise_streams(0, 2)):
                result = sample_ddim(
                    Recorder(), schedule, x0, context=CONTEXT.to("meta"), steps=2, eta=1.0, generator=generator,
                    progress=False,
                )  # fmt: skip
                assert result.is_meta and result.dtype == torch.float32
        with pytest.raises(TypeError, match="float64 on a device"):
            x0.double()


# Laws of every schedule


SETTINGS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["linear", "scaled_linear", "cosine"]),
        "levels": st.integers(2, 300),
        "ends": st.lists(st.floats(1e-5, 0.2), min_size=2, max_size=2),
        "zero": st.booleans(),
        "scale": st.none() | st.tuples(st.floats(0.1, 1), st.integers(1, 400)),
        "prediction": st.sampled_from(["eps", "v", "x0"]),
    }
)


def made_by(kind, levels, ends, zero, scale, prediction) -> NoiseSchedule:
    """Of any length and shape, rescaled or not, with signal at its end or none."""
    start, end = sorted(ends)
    schedule = (
        NoiseSchedule.cosine(levels, start) if kind == "cosine" else getattr(NoiseSchedule, kind)(levels, start, end)
    )
    schedule = schedule.with_zero_terminal_snr() if zero else schedule
    if scale is not None:
        schedule = schedule.with_scale(scale[0], steps=scale[1])
    return replace(schedule, prediction=prediction)


@settings(max_examples=60)
@given(SETTINGS)
def test_the_signal_falls_from_level_to_level(given_settings):
    schedule = made_by(**given_settings)
    alphas, snr = schedule.alphas_cumprod, schedule.snr()
    assert len(schedule) == len(alphas) == len(schedule.betas) == len(schedule.scale)
    assert ((alphas >= 0) & (alphas < 1)).all() and (alphas.diff() < 0).all()
    assert (schedule.scale.diff() <= 1e-15).all() and (snr.diff() < 0).all() and (snr >= 0).all()
    torch.testing.assert_close(alphas[0], 1 - schedule.betas[0], rtol=1e-12, atol=0)
    stretched = schedule.with_zero_terminal_snr()
    assert stretched.alphas_cumprod[-1] == 0 and stretched.scale.equal(schedule.scale)
    torch.testing.assert_close(stretched.alphas_cumprod[0], alphas[0], rtol=1e-12, atol=0)


@settings(max_examples=60)
@given(SETTINGS, st.integers(1, 400))
def test_a_number_of_steps_becomes_so_many_levels_of_the_schedule_or_names_those_that_do(given_settings, number):
    schedule = made_by(**given_settings)
    total = len(schedule)
    try:
        levels = schedule.ddim_timesteps(number)
    except ValueError as error:
        words = str(error).partition("use one of ")[2].partition(", or a list")[0]
        fitting = [int(word) for word in words.split(", ")]
        assert number not in fitting
        for better in fitting:
            assert len(schedule.ddim_timesteps(better)) == better
    else:
        assert levels[0] == 1 and levels[-1] < total and set(np.diff(levels)) <= {total // number}
        assert len(levels) == number if total % number == 0 else len(levels) > number


@settings(max_examples=60)
@given(SETTINGS, st.data())
def test_data_and_noise_are_mixed_and_told_apart_again_for_every_prediction(given_settings, data):
    """add_noise, target and split_prediction undo one another at every level that says something of both."""
    schedule = made_by(**given_settings)
    level = data.draw(st.integers(0, len(schedule) - 1))
    alpha, scale = float(schedule.alphas_cumprod[level]), float(schedule.scale[level])
    shape = data.draw(st.tuples(*[st.integers(1, 3)] * data.draw(st.integers(1, 5))))
    x0, eps = noise(*shape, dtype=torch.float64), noise(*shape, seed=1, dtype=torch.float64)
    t = torch.full(shape[: data.draw(st.integers(1, min(2, len(shape))))], level)
    for kind in data.draw(st.permutations([torch.int8, torch.int16, torch.int32, torch.int64])):
        if level <= torch.iinfo(kind).max:
            x, target = schedule.add_noise(x0, eps, t.to(kind)), schedule.target(x0, eps, t.to(kind))
            torch.testing.assert_close(x, alpha**0.5 * scale * x0 + (1 - alpha) ** 0.5 * eps, rtol=1e-12, atol=1e-12)
    assume(alpha > 1e-8 or schedule.prediction != "eps")
    found_eps, found_x0 = vdmlib.sampling.split_prediction(schedule, target, x, alpha)
    torch.testing.assert_close(found_x0, scale * x0, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(found_eps, eps, rtol=1e-7, atol=1e-7)


# Settings of the sampler


@dataclass
class Recorder:
    """A network that records its calls. Its output depends on all that it is given."""

    calls: list[dict] = field(default_factory=list)

    def __call__(self, x: Tensor, timesteps: Tensor, context=None, fps=None) -> Tensor:
        self.calls.append(dict(x=x.clone(), timesteps=timesteps, context=context, fps=fps))
        mean = context.mean(dim=(1, 2)) + (0 if fps is None else torch.as_tensor(fps) / 100)
        return 0.1 * x[:, :, :4] + mean.reshape(-1, 1, 1, 1, 1) + timesteps.reshape(-1, 1, 1, 1, 1) / 2000


CONTEXT, UNCONDITIONAL = noise(2, 5, 24, seed=5), noise(2, 5, 24, seed=6)


def record(start: Tensor | None = None, **settings) -> tuple[Tensor, list[dict]]:
    recorder = Recorder()
    given = dict(context=CONTEXT, steps=5, fps=8, progress=False) | settings
    start = noise() if start is None else start
    return sample_ddim(recorder, NoiseSchedule.videocrafter2(), start, **given), recorder.calls


def record_exactly(context: Tensor = CONTEXT, uncond_context: Tensor | None = None, **settings):
    """In float64."""
    if uncond_context is not None:
        settings["uncond_context"] = uncond_context.double()
    return record(noise().double(), context=context.double(), **settings)


def test_seeds_reproduce_and_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    results = [record(eta=1.0, generator=torch.Generator().manual_seed(seed))[0] for seed in (0, 0, 1)]
    assert torch.equal(results[0], results[1]) and relative_error(results[2], results[0]) > 0.01
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    one = record(eta=1.0)[0]
    torch.manual_seed(7)
    assert torch.equal(record(eta=1.0)[0], one)


def test_a_run_can_be_replayed_from_its_noise():
    generator = torch.Generator().manual_seed(3)
    drawn = torch.stack([torch.randn(VIDEO, generator=generator) for _ in range(5)])
    result = record(eta=0.8, generator=torch.Generator().manual_seed(3))[0]
    assert torch.equal(record(eta=0.8, step_noise=drawn)[0], result)
    assert relative_error(record(eta=0.8, step_noise=drawn.flip(0))[0], result) > 0.01


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_each_video_has_its_own_stream_of_noise(eta):
    """What is made beside it does not change a video: a batch holds what single runs with the next seeds make."""

    def made(videos: int, seed: int) -> Tensor:
        streams = noise_streams(seed, videos)
        start = draw_noise((videos, *VIDEO[1:]), streams).double()
        context = CONTEXT[:1].expand(videos, -1, -1).double()
        settings = dict(context=context, steps=5, fps=8, eta=eta, generator=streams)
        return sample_ddim(Recorder(), NoiseSchedule.videocrafter2(), start, progress=False, **settings)

    together = made(3, seed=1)
    for i in range(3):
        assert relative_error(together[i : i + 1], made(1, seed=1 + i)) < EXACT
    assert relative_error(together[1], together[0]) > 0.01 and relative_error(together[2], together[1]) > 0.01
    assert torch.equal(noise_streams(7, 1)[0].get_state(), torch.Generator().manual_seed(7).get_state())


def test_a_single_stream_is_the_generator_itself():
    one, many = torch.Generator().manual_seed(3), noise_streams(3, 1)
    shape = (1, *VIDEO[1:])
    assert torch.equal(draw_noise(shape, one), draw_noise(shape, many))


def test_without_a_seed_every_run_has_another_one():
    first, second = (draw_noise(VIDEO, noise_streams(None, 2)) for _ in range(2))
    assert not torch.equal(first, second)


def test_draws_come_in_the_dtype_they_are_for():
    like = torch.zeros(1, dtype=torch.float64)
    assert draw_noise((2, 3)).dtype == torch.float32 and draw_noise((2, 3), like=like).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_latents_stay_in_float32_whatever_the_network_computes_in(dtype):
    """The sampler speaks to the network in its own dtype, and keeps more digits for itself."""
    net = tiny_network(tiny_config()).to(dtype)
    seen, states = [], []
    net.register_forward_pre_hook(lambda _, args, given: seen.append((args[0].dtype, given["context"].tokens.dtype)),
                                  with_kwargs=True)  # fmt: skip
    settings = dict(context=CONTEXT, uncond_context=UNCONDITIONAL, guidance_scale=2.0, steps=2, progress=False)
    for start in (noise(), noise().to(dtype)):
        result = sample_ddim(
            net, NoiseSchedule.videocrafter2(), start, callback=lambda step: states.append(step.x.dtype), **settings
        )
        assert result.dtype == torch.float32 and result.isfinite().all()
    assert set(seen) == {(dtype, dtype)} and set(states) == {torch.float32}
    given = noise(2, 3, 4, 8, 4, seed=9)
    net = tiny_network(tiny_config("dynamicrafter_512")).to(dtype)
    context = noise(2, net.config.text_tokens + 6, 24)
    result = sample_ddim(net, NoiseSchedule.linear(), noise(), context=context, concat=given, steps=1, progress=False)
    assert result.dtype == torch.float32


def test_without_eta_no_noise_is_drawn():
    state = torch.get_rng_state()
    assert torch.equal(record()[0], record(generator=torch.Generator().manual_seed(1))[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_the_callback_sees_every_step_in_order():
    seen = []
    start = noise()
    result, calls = record(callback=lambda step: seen.append((step, step.x.clone(), step.x0.clone())))
    assert [step.index for step, _, _ in seen] == [0, 1, 2, 3, 4]
    assert [step.timestep for step, _, _ in seen] == [801, 601, 401, 201, 1]
    assert [call["timesteps"].tolist() for call in calls] == [[t, t] for t in (801, 601, 401, 201, 1)]
    assert torch.equal(seen[-1][1], result)
    for step, x, x0 in seen:
        assert torch.equal(step.x, x) and torch.equal(step.x0, x0), "nothing is overwritten later"
    for call, before in zip(calls, [start, *(x for _, x, _ in seen)], strict=False):
        assert torch.equal(call["x"], before)


def test_progress_is_shown_or_not(capsys):
    record(progress=False)
    assert capsys.readouterr() == ("", "")
    record(progress=True)
    out, err = capsys.readouterr()
    assert not out and "5/5" in err


def test_a_guidance_scale_of_one_never_asks_the_unconditional_half():
    result, calls = record(uncond_context=UNCONDITIONAL * float("nan"))
    assert len(calls) == 5 and all(torch.equal(call["context"], CONTEXT) for call in calls)
    assert result.isfinite().all() and torch.equal(result, record()[0])


@pytest.mark.parametrize("fps", [8, torch.tensor(8), torch.tensor([8, 24]), None])
def test_guidance_asks_both_halves(fps):
    """In one batch or two calls: each video with its own context and fps, and the same result."""
    settings = dict(uncond_context=UNCONDITIONAL, guidance_scale=7.0, fps=fps)
    together, one = record_exactly(**settings)
    apart, two = record_exactly(**settings, guidance_in_one_batch=False)
    assert relative_error(together, apart) < EXACT
    assert len(one) == 5 and len(two) == 10
    for both, without, with_prompt in zip(one, two[::2], two[1::2], strict=True):
        assert torch.equal(both["context"], torch.cat([UNCONDITIONAL, CONTEXT]).double())
        assert torch.equal(without["context"], UNCONDITIONAL.double())
        assert torch.equal(with_prompt["context"], CONTEXT.double())
        assert relative_error(both["x"], torch.cat([without["x"], with_prompt["x"]])) < EXACT
        assert without["fps"] is fps and with_prompt["fps"] is fps
        many = isinstance(fps, Tensor) and fps.ndim == 1
        assert both["fps"].tolist() == [8, 24, 8, 24] if many else both["fps"] is fps


def test_guidance_extrapolates_from_unconditional_to_conditional():
    by_scale = [record_exactly(uncond_context=UNCONDITIONAL, guidance_scale=scale)[0] for scale in (0.0, 3.0)]
    without, with_prompt = record_exactly(context=UNCONDITIONAL)[0], record_exactly()[0]
    assert relative_error(by_scale[0], without) < EXACT
    # The recorder and DDIM are linear in the context's mean.
    assert relative_error(by_scale[1], without + 3 * (with_prompt - without)) < EXACT


@pytest.mark.parametrize("one_batch", [True, False])
def test_given_channels_are_put_beside_the_noisy_ones_in_every_call(one_batch):
    given = noise(2, 3, 2, 8, 4, seed=9)
    settings = dict(concat=given, uncond_context=UNCONDITIONAL, guidance_scale=7.0, guidance_in_one_batch=one_batch)
    result, calls = record(**settings)
    assert torch.equal(result, record(**settings | {"concat": None})[0]), "the recorder does not look at them"
    for call in calls:
        assert torch.equal(call["x"][:, :, 4:], torch.cat([given] * (2 if one_batch else 1)))


def test_the_start_is_not_changed():
    start = noise()
    sample_ddim(Recorder(), NoiseSchedule.linear(), start, context=CONTEXT, steps=5, eta=1.0, progress=False)
    assert torch.equal(start, noise())


@pytest.mark.parametrize("one_batch", [True, False])
def test_a_network_computes_the_contexts_keys_once_a_run(one_batch):
    net = tiny_network(tiny_config())
    calls = []
    layers = [m for name, m in modules(net, Attention).items() if "spatial" in name and "cross" in name]
    for layer in layers:
        layer.to_k.register_forward_hook(lambda *_: calls.append(1))
    settings = dict(context=CONTEXT, uncond_context=UNCONDITIONAL, guidance_scale=7.0, steps=4, progress=False)
    sample_ddim(net, NoiseSchedule.videocrafter2(), noise(), guidance_in_one_batch=one_batch, **settings)
    assert len(calls) == len(layers) * (1 if one_batch else 2)


def test_sampling_records_no_gradients():
    net = tiny_network(tiny_config())
    result = sample_ddim(net, NoiseSchedule.linear(), noise(), context=CONTEXT, steps=1, progress=False)
    assert not result.requires_grad and all(p.grad is None for p in net.parameters())


# What influences what


def run(net: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return net(**inputs)


@pytest.mark.parametrize("option", OPTIONS)
def test_videos_of_a_batch_do_not_influence_one_another(option):
    net = tiny_network(tiny_config(option), dtype=torch.float64)
    inputs = tiny_inputs(net.config, dtype=torch.float64)
    together = run(net, inputs)
    alone = torch.cat([run(net, {name: value[i : i + 1] for name, value in inputs.items()}) for i in range(2)])
    assert relative_error(together, alone) < EXACT
    assert relative_error(together[:1], together[1:]) > 0.1


@pytest.mark.parametrize(
    "changes, sees_order",
    [
        (dict(temporal_convolution=False), False),
        (dict(), True),
        (dict(temporal_convolution="spatial"), True),
        (dict(temporal_convolution=False, relative_positions=True), True),
        (dict(temporal_convolution=False, causal_attention=True), True),
        (dict(temporal_convolution=False, temporal_cross_attention=True), False),
    ],
)
def test_the_order_of_the_frames_is_seen_by_convolutions_distances_and_masks_alone(changes, sees_order):
    net = tiny_network(tiny_config(**changes), dtype=torch.float64)
    inputs = tiny_inputs(net.config, frames=4, dtype=torch.float64)
    inputs["timesteps"] = torch.tensor([[1, 200, 500, 900], [300, 300, 20, 999]])
    order = torch.tensor([2, 0, 3, 1])
    moved = run(net, inputs | {"x": inputs["x"][:, order], "timesteps": inputs["timesteps"][:, order]})
    error = relative_error(moved, run(net, inputs)[:, order])
    assert error > 1e-2 if sees_order else error < EXACT


def test_without_layers_over_time_each_frame_stands_alone():
    net = tiny_network(
        tiny_config("no_temporal_attention", temporal_convolution=False, initial_temporal_attention=False)
    )
    inputs = tiny_inputs(net.config)
    inputs["timesteps"] = torch.tensor([[1, 200, 500], [300, 300, 20]])
    before = run(net, inputs)
    inputs["x"][:, 1] += 1
    inputs["timesteps"][:, 1] += 50
    after = run(net, inputs)
    assert torch.equal(after[:, [0, 2]], before[:, [0, 2]]) and relative_error(after[:, 1], before[:, 1]) > 0.1


@pytest.mark.parametrize("option", ["videocrafter2", "videocrafter1_t2v_512", "videocrafter1_i2v"])
def test_released_temporal_transformers_do_not_see_the_context(option):
    net = tiny_network(tiny_config(option))
    context, other = (tiny_inputs(net.config, seed=seed)["context"] for seed in (1, 2))
    for layer in modules(net, TemporalTransformer).values():
        x = noise(2, 3, layer.norm.num_channels, 4, 2)
        assert torch.equal(run(layer, dict(x=x, context=context)), run(layer, dict(x=x, context=other)))


def test_temporal_cross_attention_sees_the_context_of_its_video():
    net = tiny_network(tiny_config("temporal_cross_attention"))
    context = tiny_inputs(net.config)["context"]
    other = torch.cat([context[:1] + 1, context[1:]])
    for layer in modules(net, TemporalTransformer).values():
        x = noise(2, 3, layer.norm.num_channels, 4, 2)
        before, after = run(layer, dict(x=x, context=context)), run(layer, dict(x=x, context=other))
        assert torch.equal(before[1], after[1])
        moved = rearrange((before[0] - after[0]).abs(), "f c h w -> f h w c").amax(dim=-1)
        assert (moved > 1e-4).all(), "every pixel of every frame"


def test_image_tokens_reach_their_own_frame_where_there_are_enough_for_each():
    net = tiny_network(tiny_config("dynamicrafter_512"))
    layer = net.middle["spatial_transformer"]
    x = noise(2, 3, layer.norm.num_channels, 4, 2)
    text = net.config.text_tokens
    for tokens, reached in ((6, [False, True, False]), (7, [True, True, True])):
        context = noise(2, text + tokens, 24)
        other = context.clone()
        other[:, text + 2 : text + 4] += 1
        moved = run(layer, dict(x=x, context=context)) - run(layer, dict(x=x, context=other))
        assert [bool(moved[:, f].abs().max() > 1e-4) for f in range(3)] == reached


def test_image_tokens_reach_every_frame_and_pixel_over_time():
    """Also where the picture has as many pixels as the video frames."""
    net = tiny_network(tiny_config("temporal_image_attention", image_tokens_per_frame=2))
    layer = net.middle["temporal_transformer"]
    x, text = noise(1, 3, layer.norm.num_channels, 3, 1), net.config.text_tokens
    context = noise(1, text + 6, 24)
    other = context.clone()
    other[:, text + 2 : text + 4] += 1
    moved = (run(layer, dict(x=x, context=context)) - run(layer, dict(x=x, context=other))).abs()
    assert (rearrange(moved, "1 f c h w -> f h w c").amax(dim=-1) > 1e-4).all()


@pytest.mark.parametrize("option", ["text_alone_over_time", "text_alone_over_time_with_distances"])
def test_temporal_transformers_that_ask_the_text_alone(option):
    """Their output is the same whatever image tokens come, and however many; a joint attention asks all."""
    net = tiny_network(tiny_config(option))
    together = tiny_network(replace(net.config, temporal_image_attention="joint"))
    text = net.config.text_tokens
    context, word, picture = (noise(2, text + more, 24, seed=more) for more in (6, 7, 9))
    word[:, 1 : text + 6] = context[:, 1:]
    picture[:, :text] = context[:, :text]
    assert net.state_dict().keys() == together.state_dict().keys()
    for name, layer in modules(net, TemporalTransformer).items():
        x, mixed = noise(2, 3, layer.norm.num_channels, 4, 2), together.get_submodule(name)
        asked = run(layer, dict(x=x, context=context))
        assert torch.equal(run(layer, dict(x=x, context=picture)), asked)
        assert torch.equal(run(mixed, dict(x=x, context=context[:, :text])), asked), "the same weights"
        assert (run(layer, dict(x=x, context=word)) - asked).abs().max() > 1e-4, "the words count"
        of_all = run(mixed, dict(x=x, context=context))
        assert (run(mixed, dict(x=x, context=picture)) - of_all).abs().max() > 1e-4


def test_dynamicrafter_leaves_image_tokens_out_over_time_and_videocrafter_does_not():
    needed = dict(in_channels=4, out_channels=4, model_channels=64, num_res_blocks=1, attention_resolutions=[1])
    params = dict(
        needed, num_head_channels=16, context_dim=24, temporal_selfatt_only=False, use_relative_position=False
    )
    dynamicrafter = vdmlib.UNet3DConfig.from_videocrafter(params | dict(image_cross_attention=True))
    videocrafter = vdmlib.UNet3DConfig.from_videocrafter(params | dict(use_image_attention=True))
    assert dynamicrafter.image_attention and videocrafter.image_attention
    assert dynamicrafter.temporal_image_attention is False
    assert videocrafter.temporal_image_attention == "joint"


def test_causal_attention_leaks_through_its_norm_alone():
    net = tiny_network(tiny_config("causal_attention"), dtype=torch.float64)
    layer = modules(net, TemporalTransformer)["middle.temporal_transformer"]
    x = noise(2, 3, layer.norm.num_channels, 4, 2, dtype=torch.float64)
    later = x.clone()
    later[:, 2] += noise(*later[:, 2].shape, seed=4)

    def first_frames() -> tuple[Tensor, Tensor]:
        return run(layer, dict(x=x))[:, :2], run(layer, dict(x=later))[:, :2]

    before, after = first_frames()
    assert relative_error(after, before) > 1e-3
    layer.norm = nn.Identity()
    before, after = first_frames()
    assert relative_error(after, before) < EXACT


def test_fps_matters_and_is_16_when_left_out():
    net = tiny_network(tiny_config(), dtype=torch.float64)
    inputs = tiny_inputs(net.config, dtype=torch.float64)
    del inputs["fps"]
    left_out = run(net, inputs)
    for same in (16, 16.0, torch.tensor(16), torch.tensor([16, 16])):
        assert torch.equal(run(net, inputs | {"fps": same}), left_out)
    mixed = run(net, inputs | {"fps": torch.tensor([16, 8])})
    assert relative_error(mixed[0], left_out[0]) < EXACT and relative_error(mixed[1], left_out[1]) > 1e-2
