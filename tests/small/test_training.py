"""The training loop: what a step depends on, resuming, several processes, weights on disk."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vdmlib import small, train
from vdmlib.autoencoder import Autoencoder, psnr
from vdmlib.small import data, judge, training
from vdmlib.small.stages import CONFIGS, DenoiserStage, TrainingConfig

TINY = dict(model_channels=32, channel_multipliers=(1,), attention_factors=(), context_channels=16)


def tiny(stage: str = "t2v", **changes) -> TrainingConfig:
    config = CONFIGS[stage]
    settings = dict(steps=4, batch=4, stills=0, warmup=2, log_every=1, sample_every=1000, decay=0.5)
    return replace(config, unet=replace(config.unet, **TINY), **settings | changes)


class TinyStage(DenoiserStage):
    """No report and no samples: they take longer than the training."""

    def __init__(self, config: TrainingConfig):
        torch.manual_seed(0)
        autoencoder = Autoencoder(channels=(8, 8, 8))
        autoencoder.train().encode(data.MovingDigits().batch(range(8)).video)
        super().__init__(config, autoencoder)

    def report(self, trained):
        return {}

    def sheet(self, trained):
        return None


def run(config: TrainingConfig, folder=None, **settings) -> training.Result:
    return training.train(config, folder, "cpu", progress=False, stage=TinyStage(config), **settings)


def weights(result: training.Result) -> dict[str, torch.Tensor]:
    return result.model.state_dict()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    first, again, other = run(tiny()), run(tiny()), run(tiny(seed=1))
    assert [r["loss"] for r in first.log] == [r["loss"] for r in again.log]
    assert all(torch.equal(a, b) for a, b in zip(weights(first).values(), weights(again).values(), strict=True))
    assert [r["loss"] for r in first.log] != [r["loss"] for r in other.log]


SCRIPT = """
import os, shutil, signal, sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from test_training import TinyStage, run, tiny, training, weights
"""


def run_script(path: Path, body: str, *launcher: str) -> subprocess.CompletedProcess:
    path.write_text(SCRIPT.format(tests=str(Path(__file__).parent)) + body)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(path)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


KILLED = """
def kill(step, model):
    if step == 3:
        os.kill(os.getpid(), signal.SIGKILL)

run(tiny(stills=2, steps=6, log_every=2, checkpoint_seconds=0.0), {folder!r}, callback=kill)
"""


def test_a_run_that_was_killed_goes_on_as_if_nothing_had_happened(tmp_path):
    config = tiny(stills=2, steps=6, log_every=2)
    killed = run_script(tmp_path / "killed.py", KILLED.format(folder=str(tmp_path)))
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    whole, resumed = run(config), run(config, tmp_path)
    assert resumed.finished
    assert [r["step"] for r in resumed.log] == [2, 4, 6]
    assert [r["loss"] for r in resumed.log] == [r["loss"] for r in whole.log]
    for name, value in weights(whole).items():
        assert torch.equal(weights(resumed)[name], value), name


def test_a_kill_costs_less_than_a_minute_even_while_a_report_is_made(tmp_path, monkeypatch):
    now, saved_at, lost = [0.0], [0.0], []

    def pass_seconds(seconds):
        now[0] += seconds
        lost.append(now[0] - saved_at[0])

    config = replace(CONFIGS["t2v"], unet=tiny().unet, batch=2, steps=24, log_every=1, sample_every=5)
    stage = TinyStage(config)
    monkeypatch.setattr(stage, "report", lambda trained: pass_seconds(30) or {})
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(training, "save", lambda path, pieces: saved_at.__setitem__(0, now[0]))
    callback = lambda step, model: pass_seconds(8)  # noqa: E731
    training.train(config, tmp_path, "cpu", progress=False, stage=stage, callback=callback)
    assert len(lost) == 24 + 5 and max(lost) < 60


def test_stopping_after_a_time_saves_and_goes_on(tmp_path):
    config = tiny()
    stopped = run(config, tmp_path, stop_after=0.0)
    assert not stopped.finished and stopped.log[-1]["step"] == 1
    assert run(config, tmp_path).finished


def test_another_configuration_may_not_go_on_with_a_run(tmp_path):
    run(tiny(), tmp_path)
    with pytest.raises(ValueError, match="learning_rate"):
        run(tiny(learning_rate=1e-5), tmp_path)
    assert run(tiny(steps=5), tmp_path).log[-1]["step"] == 5


DISTRIBUTED = """
folder, config = {folder!r}, tiny(stills=2)
for kind in ("whole", "sharded"):
    here, shard = folder + "/" + kind, kind == "sharded"
    assert not run(config, here, shard=shard, stop_after=0.0).finished
    if torch.distributed.get_rank() == 0:
        shutil.copytree(here, here + "-after-one-step")
    stage = TinyStage(config)
    result = training.train(config, here, "cpu", progress=False, stage=stage, shard=shard)
    if torch.distributed.get_rank() == 0:
        mine = sum(getattr(p, "_local_tensor", p).numel() for p in stage.trained.parameters())
        losses = [r["loss"] for r in result.log]
        torch.save(dict(losses=losses, mine=mine, averaged=weights(result)), here + "/result.pt")
torch.distributed.destroy_process_group()
"""


def test_two_processes_make_the_same_steps_as_one(tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = run_script(tmp_path / "two.py", DISTRIBUTED.format(folder=str(tmp_path)), *launcher)
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr[-2000:]
    one = run(tiny(stills=2))
    losses = pytest.approx([r["loss"] for r in one.log], rel=1e-4)
    parameters = sum(p.numel() for p in one.model.parameters())
    for kind, share in (("whole", 1.0), ("sharded", 0.5)):
        two = torch.load(tmp_path / kind / "result.pt")
        assert two["losses"] == losses, kind
        assert two["averaged"].keys() == weights(one).keys(), kind
        for name, value in weights(one).items():
            torch.testing.assert_close(two["averaged"][name], value, atol=1e-4, rtol=1e-3)
        assert two["mine"] == pytest.approx(share * parameters, rel=0.02), kind
        # One process goes on with what two have saved.
        assert [r["loss"] for r in run(tiny(stills=2), tmp_path / f"{kind}-after-one-step").log] == losses, kind


def test_one_process_has_nothing_to_shard_over():
    with pytest.raises(ValueError, match="torchrun"):
        run(tiny(), shard=True)


def test_a_batch_that_cannot_be_shared_is_explained(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="3 processes"):
        run(tiny(batch=4))


def test_the_loss_falls():
    log = run(tiny(steps=30, batch=8, warmup=5, learning_rate=3e-3)).log
    losses = [row["loss"] for row in log]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_learning_rate_rises_stays_and_falls():
    config = tiny(steps=100, warmup=10, decay=0.2, learning_rate=1.0)
    rates = [training.learning_rate_at(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9:81] == [1.0] * 72
    assert rates[90] == pytest.approx(0.5) and rates[99] == pytest.approx(0.05)


@pytest.mark.parametrize("shift, share", [(1.0, 0.5), (3.0, 0.75)])
def test_noise_levels_cover_the_range_and_shift_to_more_noise(shift, share):
    t = TinyStage(tiny(shift=shift)).timesteps(4000, torch.Generator().manual_seed(0))
    assert t.min() >= 0 and t.max() <= 999
    assert (t >= 500).float().mean() == pytest.approx(share, abs=0.01)


def test_captions_are_dropped_as_often_as_asked(monkeypatch):
    config = tiny(caption_dropout=0.25, batch=400)
    stage, seen = TinyStage(config), []
    monkeypatch.setattr(stage.autoencoder, "encode", lambda video: torch.zeros(len(video), 1, 8, 1, 1))
    monkeypatch.setattr(
        nn.Module, "__call__", lambda module, *a: seen.append(a[2]) or torch.zeros_like(a[0]), raising=True
    )
    stage.forward(0, slice(None))
    empty = (seen[0] == 0).all(dim=1)
    assert empty.float().mean() == pytest.approx(0.25, abs=0.07)


def test_image_to_video_uses_the_given_frame_through_attention_and_concatenation():
    config = tiny("i2v")
    for channels, name in ((8, "attention"), (16, "concatenation")):
        torch.manual_seed(0)
        model = small.VideoModel(replace(config.unet, in_channels=channels, attention_factors=(1,))).eval()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.1)
        x, t = torch.randn(2, 8, 8, 8, 8), torch.tensor([500, 500])
        tokens, fps = data.tokenize(["a red 7", "a blue 1"]), torch.tensor([10.0, 16.0])
        frame = torch.randn(2, 8, 8, 8)
        changed = frame.clone()
        changed[0] += 1
        difference = (model(x, t, tokens, fps, changed) - model(x, t, tokens, fps, frame)).abs().amax((1, 2, 3, 4))
        assert difference[0] > 1e-5 and difference[1] == 0, name
    with pytest.raises(ValueError, match="first_frame"):
        model.context(tokens)


def test_image_to_video_starts_from_text_to_video(tmp_path):
    torch.manual_seed(0)
    model = small.VideoModel(tiny().unet)
    small.save_weights(tmp_path / "t2v.safetensors", model, {})
    torch.manual_seed(1)
    other = small.VideoModel(tiny("i2v").unet)
    small.weights.start_from(other, tmp_path / "t2v.safetensors")
    first, given = (m.unet.encoder_blocks[0].convolution.weight for m in (other, model))
    torch.testing.assert_close(first[:, :8], given, atol=1e-3, rtol=1e-3)
    assert first[:, 8:].abs().max() == 0


def test_of_a_partly_trained_model_only_the_trained_parts_change_and_are_saved(tmp_path):
    torch.manual_seed(0)
    base = small.VideoModel(tiny().unet)
    small.save_weights(tmp_path / "t2v.safetensors", base, {})
    parts = ("image", "blocks.0.convolution", "conv_out")
    config = tiny("i2v", init_from=str(tmp_path / "t2v.safetensors"), trained_parts=parts)
    result = run(config)
    given = load_file(tmp_path / "t2v.safetensors")
    changed = {k for k, v in weights(result).items() if k in given and not torch.equal(v, given[k].to(v))}
    assert "unet.conv_out.weight" in changed
    assert {name for name in changed if not small.weights.has_part(name, config.trained_parts)} == set()

    path = tmp_path / "i2v.safetensors"
    small.save_weights(path, result.model, training.card_of(config, result), config.trained_parts)
    assert set(load_file(path)) == {n for n in weights(result) if small.weights.has_part(n, config.trained_parts)}
    loaded = small.load_video_model("i2v", tmp_path).state_dict()
    for name, value in weights(result).items():
        torch.testing.assert_close(loaded[name], value, atol=1e-3, rtol=1e-3)
    small.save_weights(tmp_path / "t2v.safetensors", small.VideoModel(tiny().unet), {})
    with pytest.raises(ValueError, match="hash"):
        small.load_video_model("i2v", tmp_path)


def test_a_run_that_goes_on_for_longer_records_all_its_commands(tmp_path):
    # Where no steps are left, as when only the weights are to be written, nothing is added.
    for steps, command in ((2, "first"), (2, "idle"), (4, "second"), (4, "first")):
        result = run(tiny(steps=steps), tmp_path, command=command)
    assert [row["step"] for row in result.log] == [1, 2, 3, 4]
    assert training.card_of(tiny(steps=4), result)["command"] == "first && second"


def test_a_recorded_command_is_without_what_does_not_change_the_weights(monkeypatch):
    recorded = []

    def fake(*_, command, **__):
        recorded.append(command)
        return training.Result(torch.nn.Identity(), [], False, [])

    monkeypatch.setattr(training, "train", fake)
    train.main(["t2v", "--folder", "here", "--set", "steps=3", "decay=0.5", "--stop-after", "5", "--device", "cpu"])
    train.main(["i2v", "--init-from", "t2v"])
    assert recorded == [
        "python -m vdmlib.train t2v --set steps=3 decay=0.5",
        "python -m vdmlib.train i2v --init-from t2v",
    ]


def test_weights_come_back_as_they_were_and_a_changed_file_is_refused(tmp_path):
    config = tiny()
    result = run(config)
    small.save_weights(tmp_path / "t2v.safetensors", result.model, training.card_of(config, result))
    loaded = small.load_video_model("t2v", tmp_path)
    for name, value in weights(result).items():
        torch.testing.assert_close(loaded.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    path = tmp_path / "t2v.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(ValueError, match="hash"):
        small.load_video_model("t2v", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"vdmlib\.train i2v"):
        small.load_video_model("i2v", tmp_path)


def test_configurations_from_names_files_and_changes(tmp_path):
    file = tmp_path / "short.yaml"
    file.write_text("stage: t2v\nsteps: 7\nunet: {model_channels: 64, channel_multipliers: [1, 2, 2]}\n")
    config = train.read_config(str(file), ["batch=2", "unet.res_blocks=2"])
    assert (config.steps, config.batch, config.unet.res_blocks) == (7, 2, 2)
    assert config.unet.channel_multipliers == (1, 2, 2)
    for name, changes, says in (
        ("t3v", [], "t3v"),
        ("t2v", ["step=3"], "step"),
        ("t2v", ["steps"], "key=value"),
    ):
        with pytest.raises(ValueError, match=says):
            train.read_config(name, changes)


def test_generation_is_deterministic_for_a_seed_and_follows_the_given_settings():
    stage = TinyStage(tiny())

    def clip(**settings):
        model = small.Pipeline(stage.trained, stage.autoencoder)
        return model.generate(["a red 7 moving left slowly"], steps=4, **settings)

    first = clip()
    assert first.shape == (1, 8, 3, 64, 64) and first.abs().max() <= 1
    assert torch.equal(first, clip()) and not torch.equal(first, clip(seed=1))


def test_the_shipped_files_are_small_and_have_cards():
    shipped = {path.stem for path in small.weights.WEIGHTS.glob("*.safetensors")}
    assert shipped == {"autoencoder", "judge", "t2v", "i2v"}
    assert sum(path.stat().st_size for path in small.weights.WEIGHTS.iterdir()) <= 8_000_000
    for name in shipped:
        card = small.read_card(name)
        assert card["command"].startswith("python -m vdmlib.train") and card["log"], name


def test_the_shipped_autoencoder_and_classifier_are_as_good_as_their_cards_say():
    clips = data.MovingDigits("test", "all", seed=5).batch(range(40))
    with torch.no_grad():
        assert psnr(small.load_autoencoder()(clips.video).clamp(-1, 1), clips.video) > 32
        right = judge.right_answers(small.load_classifier(), clips.video, clips.prompts)
    assert right["digit"].float().mean() > 0.85


def test_the_shipped_model_follows_its_prompts():
    prompts = [
        data.Prompt(0, "red", "left", "quickly", 10),
        data.Prompt(1, "blue", "right", "quickly", 10),
        data.Prompt(7, "green", "up", "quickly", 10),
        data.Prompt(4, "yellow", "down", "quickly", 10),
    ]
    video = small.load_pretrained().generate([p.caption for p in prompts], 10, steps=10)
    seen = judge.read_clip(video)
    assert [(direction, colour) for direction, colour, _ in seen] == [(p.direction, p.colour) for p in prompts]
    assert all(speed > 1.5 for *_, speed in seen)


def test_the_shipped_model_goes_on_from_a_given_picture():
    prompts = [data.Prompt(3, "pink", "left", "quickly", 10), data.Prompt(8, "green", "up", "quickly", 10)]
    handwriting = data.draw_glyphs(prompts, "test", torch.Generator().manual_seed(0))
    given = data.clips_of(prompts, handwriting).video[:, 0]
    video = small.load_pretrained("i2v").generate([p.caption for p in prompts], 10, given, steps=10)
    assert [answer[:2] for answer in judge.read_clip(video)] == [(p.direction, p.colour) for p in prompts]
    kept = judge.kept_handwriting(video, given)
    assert kept["given"] > kept["another"] + 0.2
