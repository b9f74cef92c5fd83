"""The comparisons of chapter 10: the tool that makes them, and what it has measured."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import small_experiments as experiments
import torch
from torch import nn

from vdmlib import small
from vdmlib.sampling import sample_ddim
from vdmlib.small import data

TINY = small.small_unet(channel_multipliers=(1,), attention_factors=())


def test_digits_anywhere_are_the_same_clips_moved_around_the_edges():
    numbers = range(6)
    clips, moved = data.MovingDigits().batch(numbers), experiments.DigitsAnywhere().batch(numbers)
    assert moved.prompts == clips.prompts and not torch.equal(moved.video, clips.video)
    # The spectrum's absolute values do not change when a picture is moved around.
    spectrum, other = (torch.fft.rfft2(c.video).abs() for c in (clips, moved))
    torch.testing.assert_close(other, spectrum, atol=1e-3, rtol=1e-3)
    assert torch.equal(experiments.DigitsAnywhere().batch([3]).video[0], moved.video[3])


@pytest.fixture
def short_samples(monkeypatch):
    """Two steps instead of 25: the numbers are looked at elsewhere."""

    def short(*arguments, **options):
        return sample_ddim(*arguments, **options | {"steps": 2})

    monkeypatch.setattr(experiments, "sample_ddim", short)


class Peer(nn.Module):
    """Stands for Unet3D: its axis order, its arguments, and what it makes of the condition."""

    def __init__(self, dim, cond_dim, channels, dim_mults):
        super().__init__()
        self.shape = (channels, cond_dim)

    def forward(self, x, time, cond):
        assert (x.shape[1], cond.shape[1]) == self.shape and len(time) == len(x)
        return x + cond.mean(dim=1)[:, None, None, None, None]


def test_the_other_network_is_called_in_its_axis_order_and_samples_like_ours(monkeypatch):
    monkeypatch.setitem(experiments.sys.modules, "video_diffusion_pytorch", SimpleNamespace(Unet3D=Peer))
    model = experiments.PeerModel(small.small_unet()).eval()
    x, t = torch.randn(2, 8, 8, 4, 4), torch.tensor([3, 4])
    tokens, fps = data.tokenize(["a red 7", "a blue 1"]), torch.tensor([10.0, 16.0])
    out = model(x, t, tokens, fps)
    assert out.shape == x.shape and not torch.equal(out - x, (model(x, t, tokens.flip(0), fps)) - x)
    assert not torch.equal(out, model(x, t, tokens, fps.flip(0)))
    clip = small.Pipeline(model, small.load_autoencoder()).generate(["a red 7", "a blue 1"], fps.tolist(), steps=2)
    assert clip.shape == (2, 8, 3, 64, 64)


@pytest.mark.usefixtures("short_samples")
def test_a_run_stops_goes_on_and_is_written_beside_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "RUNS", {"tiny run": experiments.Run("A test.", TINY)})
    monkeypatch.setattr(experiments.Experiment, "report", lambda *_: {"correct 800": 1 / 3})
    monkeypatch.setattr(experiments, "measure", lambda run: (0.25, 1.5))
    monkeypatch.setattr(experiments, "LEVELS", (800, 950))
    path = tmp_path / "experiments.json"
    path.write_text(json.dumps({"runs": {"another": {}}}))
    command = ["--steps", "2", "--json", str(path), "--folder", str(tmp_path)]
    with pytest.raises(SystemExit, match="run again"):
        experiments.main([*command, "--stop-after", "0"])
    experiments.main(command)
    experiments.main([*command, "--seeds", "0", "4", "--clips", "2"])
    card = small.read_card("experiments", tmp_path)
    assert list(card["runs"]) == ["another", "tiny run"]
    run, seeds = card["runs"]["tiny run"], card["seeds"]["tiny run, 2 steps"]
    assert (run["steps"], run["seconds_per_step"], run["seconds_per_clip"]) == (2, 0.25, 1.5)
    assert run["log"][-1].keys() == {"step", "loss", "correct 800"} and run["log"][-1]["correct 800"] == 0.33333
    assert seeds["0"]["end"] == run["log"][-1] and seeds["0"]["losses"] != seeds["4"]["losses"]
    right, wrong = seeds["0"]["losses"], seeds["0"]["losses with a wrong direction"]
    assert list(right) == list(wrong) == [str(level) for level in experiments.LEVELS]
    assert seeds["4"]["right"].keys() == {"digit", "direction", "speed", "colour", "everything"}


@pytest.mark.usefixtures("short_samples")
def test_a_wrong_direction_costs_a_model_that_reads_it(monkeypatch):
    monkeypatch.setattr(experiments, "LEVELS", (950,))
    run = experiments.RUNS["text in time"]
    stage = experiments.Experiment(experiments.config_of(run, 1), run).eval()
    stage.trained = small.load_video_model("t2v")
    found = experiments.examine(stage, 1)
    assert found["losses with a wrong direction"]["950"] > 2 * found["losses"]["950"] > 0


def test_steps_and_clips_are_timed():
    assert all(0 < seconds < 60 for seconds in experiments.measure(experiments.Run("A test.", TINY)))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(experiments.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install"):
        experiments.main(["--only", experiments.PEER])


def test_the_shipped_numbers_are_those_of_the_runs():
    card = small.read_card("experiments")
    assert card["runs"].keys() | {name.split(",")[0] for name in card["seeds"]} == experiments.RUNS.keys()
    assert all(seeds.keys() == {"0", "1", "2"} for seeds in card["seeds"].values())
    assert (small.weights.WEIGHTS / "experiments.json").stat().st_size < 40_000
    steps = {tuple(row["step"] for row in run["log"]) for run in card["runs"].values()}
    assert len(steps) == 1, "all runs are equally long"
    for name, run in card["runs"].items():
        assert run["about"] == experiments.RUNS[name].about
        assert run["log"][-1]["step"] == run["steps"]
        for condition in ("correct", "digit", "colour", "direction", "speed", "fps", "caption", "frames"):
            assert {f"{condition} 800", f"{condition} 950"} <= run["log"][-1].keys(), name


def test_an_error_counts_the_same_whatever_the_network_is_asked_for():
    """The same guess of the clean latents, told as noise and as v, at each level."""
    asked_for_v, asked_for_noise = (
        experiments.Experiment(replace(experiments.config_of(run, 1), unet=TINY), replace(run, unet=TINY))
        for run in (experiments.RUNS["text in time"], experiments.RUNS["asked for noise"])
    )
    x0, noise, off = torch.randn(3, 2, 8, 8, 4, 4, dtype=torch.float64)
    for level in experiments.LEVELS:
        t, errors = torch.full((2,), level), []
        for stage in (asked_for_v, asked_for_noise):
            x_t = stage.schedule.add_noise(x0, noise, t)
            guess = stage.schedule.target(x0 + off, noise, t)
            a, b = stage.schedule.coefficients(t, x0)
            guessed_noise = (x_t - a * (x0 + off)) / b
            guess = guessed_noise if stage is asked_for_noise else a * guessed_noise - b * (x0 + off)
            loss = float((guess - stage.schedule.target(x0, noise, t)).square().mean())
            errors.append(stage.as_errors_in_v(loss, level))
        assert errors[0] == pytest.approx(errors[1], rel=1e-9)
