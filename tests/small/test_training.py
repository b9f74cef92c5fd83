"""Training: what a step depends on, killed and resumed runs, other hardware, several processes, a full disk."""

import random
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from damaged_files import randomly_damaged
from full_disk import disk_with_room_for
from tiny_training import DENOISERS, TinyStage, losses, run, run_script, tiny, weights
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vdmlib.small import data, training
from vdmlib.small.settings import CONFIGS
from vdmlib.small.stages import STAGES, hide_look, picture_losses


def same(a: training.Result, b: training.Result):
    assert losses(a) == losses(b)
    for name, value in weights(a).items():
        assert torch.equal(value, weights(b)[name]), name


# A step


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    first = run(tiny())
    same(first, run(tiny()))
    assert losses(first) != losses(run(tiny(seed=1)))


def test_the_loss_falls():
    fallen = losses(run(tiny(steps=30, batch=8, warmup=5, learning_rate=3e-3)))
    assert sum(fallen[-5:]) < 0.9 * sum(fallen[:5])


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


class Recorder(nn.Module):
    """Stands for the video model; answers with zeros and keeps what it was given."""

    takes_frame = False

    def __init__(self):
        super().__init__()
        self.scale, self.given = nn.Parameter(torch.zeros(())), []

    def forward(self, x, timesteps, tokens, fps, first_frame):
        self.given.append((x, timesteps, tokens, fps, first_frame))
        return self.scale * x


def test_captions_are_dropped_as_often_as_asked():
    stage = TinyStage(tiny(caption_dropout=0.25, batch=400))
    stage.trained = Recorder()
    stage(0, slice(None))
    ((_, _, tokens, _, _),) = stage.trained.given
    empty = (tokens == 0).all(dim=1)
    assert empty.float().mean() == pytest.approx(0.25, abs=0.07)


class ShownRecorder(Recorder):
    """A recorder of an image-to-video model: which clips' pictures were shown, too."""

    takes_frame = True

    def forward(self, x, timesteps, tokens, fps, first_frame, shown):
        self.given.append((tokens, shown))
        return self.scale * x


def test_words_and_pictures_are_hidden_as_often_as_asked_and_independently():
    stage = TinyStage(tiny("i2v_attention", batch=400, word_dropout=0.5, picture_dropout=0.25, caption_dropout=0.0))
    stage.trained = ShownRecorder()
    stage(0, slice(None))
    ((tokens, shown),) = stage.trained.given
    whole = stage.clips.batch(range(400)).tokens
    hidden = tokens[:, 1] == 0
    assert torch.equal(tokens[~hidden], whole[~hidden])
    # "a <empty> <empty> moving left quickly": the other words stand where they stood.
    assert torch.equal(tokens[hidden], whole[hidden] * torch.tensor([1, 0, 0, 1, 1, 1]))
    assert hidden.float().mean() == pytest.approx(0.5, abs=0.08)
    assert (~shown).float().mean() == pytest.approx(0.25, abs=0.07)
    assert (hidden & ~shown).float().mean() == pytest.approx(0.125, abs=0.05)


class GivenRecorder(Recorder):
    """A recorder of an image-to-video model."""

    takes_frame = True


def test_the_given_frame_is_the_first_or_any_of_the_clip_and_nothing_else_changes():
    frames, seen = {}, {}
    for choice in ("first", "random"):
        stage = TinyStage(tiny("i2v", batch=64, given_frame=choice))
        stage.trained = GivenRecorder()
        stage(0, slice(None)), stage(0, slice(16, 32))
        (*seen[choice], given), (*_, given_share) = stage.trained.given
        latents = stage.autoencoder.encode(stage.clips.batch(range(64)).video)
        distance = (latents - given[:, None]).flatten(2).norm(dim=2)
        frames[choice] = distance.argmin(dim=1)
        assert distance.amin(dim=1).max() < 1e-4 and torch.equal(given[16:32], given_share)
    assert not frames["first"].any()
    assert frames["random"].bincount(minlength=data.FRAMES).min() >= 2  # 8 of each are expected
    assert all(torch.equal(one, other) for one, other in zip(seen["first"], seen["random"], strict=True))


def test_the_settings_for_pictures_change_nothing_in_what_other_models_are_trained_on():
    """The shipped models' commands still mean what they meant: the same noise, the same empty captions."""
    seen = []
    for changes in ({}, dict(word_dropout=1.0, caption_dropout=0.25)):
        stage = TinyStage(tiny(batch=8, stills=0, **{"caption_dropout": 0.25} | changes))
        stage.trained = Recorder()
        stage(0, slice(None))
        seen += stage.trained.given
    (x, t, tokens, _, _), (x2, t2, tokens2, _, _) = seen
    assert torch.equal(x, x2) and torch.equal(t, t2)
    assert torch.equal(hide_look(tokens), tokens2) and not torch.equal(tokens, tokens2)


def test_what_is_taken_from_the_picture_is_reported():
    stage = TinyStage(tiny("i2v_attention", word_dropout=0.5)).double()
    for parameter in stage.trained.parameters():
        nn.init.normal_(parameter, std=0.1)
    clips = stage.held_out.batch(range(4))
    losses = picture_losses(stage.trained, stage.autoencoder, clips)
    assert list(losses) == ["own picture 900", "another picture 900", "no picture 900"]
    assert losses == picture_losses(stage.trained, stage.autoencoder, clips)


def test_a_network_that_says_nothing_has_a_loss_of_about_one_and_a_cap_on_snr_takes_weight_away():
    plain, capped = [], []
    for snr_cap, seen in ((None, plain), (5.0, capped)):
        stage = STAGES["t2v"](replace(CONFIGS["t2v"], batch=32, snr_cap=snr_cap))
        stage.trained = Recorder()
        seen += [stage(step, slice(None)).item() for step in range(4)]
    assert sum(plain) / 4 == pytest.approx(1, abs=0.15)
    assert all(0 < less < loss for less, loss in zip(capped, plain, strict=True))


@pytest.mark.parametrize("name", STAGES)
def test_no_stage_mixes_devices(name):
    """Imitated: the weights are on a device that is not the one on which data are made."""
    config = replace(CONFIGS[name], batch=4)
    stage = TinyStage(tiny(name)) if name in DENOISERS else STAGES[name](config)
    stage.to("meta")
    assert stage(0, slice(None)).device.type == "meta"


class NoDoublePrecision(TorchDispatchMode):
    """A device without float64, imitated: only coefficients, one for each level or clip, may be double."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64:
                assert tensor.numel() == max(tensor.shape, default=1), f"{function} makes data in double precision"
        return result


@pytest.mark.parametrize("name", STAGES)
def test_training_needs_no_double_precision_for_data(name):
    stage = TinyStage(tiny(name)) if name in DENOISERS else STAGES[name](replace(CONFIGS[name], batch=4))
    with NoDoublePrecision():
        stage(0, slice(None)).backward()


# A run: killed, stopped, gone on with


KILLED = """
def kill(step, model):
    if step == 3:
        os.kill(os.getpid(), signal.SIGKILL)

run(tiny(stills=2, steps=6, log_every=2, checkpoint_seconds=0.0), folder, callback=kill)
"""


def test_a_run_that_was_killed_goes_on_as_if_nothing_had_happened(tmp_path):
    config = tiny(stills=2, steps=6, log_every=2)
    killed = run_script(tmp_path / "killed.py", KILLED, folder=str(tmp_path))
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    resumed = run(config, tmp_path)
    assert resumed.finished and [r["step"] for r in resumed.log] == [2, 4, 6]
    same(run(config), resumed)


def test_a_kill_costs_less_than_a_minute_even_while_a_report_is_made(tmp_path, monkeypatch):
    """On a clock that stands still but for steps of 8 seconds and reports of 30."""
    now, lost, checkpoint = 0.0, [], tmp_path / "checkpoint.pt"
    saved_at, stamp = 0.0, None

    def pass_seconds(seconds):
        nonlocal now, saved_at, stamp
        if checkpoint.exists() and stamp != (stamp := checkpoint.stat().st_mtime_ns):
            saved_at = now
        now += seconds
        lost.append(now - saved_at)

    config = tiny(batch=2, steps=24, log_every=1, sample_every=5, checkpoint_seconds=CONFIGS["t2v"].checkpoint_seconds)
    stage = TinyStage(config)
    monkeypatch.setattr(stage, "report", lambda trained: pass_seconds(30) or {})
    monkeypatch.setattr(time, "monotonic", lambda: now)
    callback = lambda step, model: pass_seconds(8)  # noqa: E731, short enough for one line
    training.train(config, tmp_path, "cpu", progress=False, stage=stage, callback=callback)
    assert len(lost) == 24 + 5 and 30 < max(lost) < 60


def test_stopping_after_a_time_saves_and_goes_on(tmp_path):
    config = tiny()
    stopped = run(config, tmp_path, stop_after=0.0)
    assert not stopped.finished and stopped.log[-1]["step"] == 1
    same(run(config), run(config, tmp_path))


def test_other_settings_may_not_go_on_with_a_run_but_for_those_that_do_not_change_its_steps(tmp_path):
    run(tiny(), tmp_path)
    with pytest.raises(ValueError, match="learning_rate"):
        run(tiny(learning_rate=1e-5), tmp_path)
    longer = tiny(steps=5, shift=10.0, word_dropout=0.5)
    assert run(longer, tmp_path).log[-1]["step"] == 5


def test_a_run_goes_on_that_was_begun_before_the_network_had_an_option(tmp_path):
    run(tiny(), tmp_path, stop_after=0.0)
    saved = torch.load(tmp_path / "checkpoint.pt")
    del saved["config"]["unet"]["activation_checkpointing"]
    torch.save(saved, tmp_path / "checkpoint.pt")
    same(run(tiny()), run(tiny(), tmp_path))


@pytest.mark.usefixtures("unchecked")
def test_a_run_with_numbers_of_numpy_goes_on_too(tmp_path):
    config = tiny(steps=np.int64(4), learning_rate=np.float64(2e-3), seed=np.int32(0))
    assert not run(config, tmp_path, stop_after=0.0).finished
    same(run(tiny()), run(config, tmp_path))


def test_a_checkpoint_damaged_in_any_place_is_refused_in_one_sentence_or_read_as_it_was(tmp_path):
    """A hundred of them: bytes flipped, pieces cut out or doubled. None executes anything, and none is half read."""
    config, path = tiny(), tmp_path / "checkpoint.pt"
    run(config, tmp_path, stop_after=0.0)
    whole, good, draw, refused = path.read_bytes(), training.resume(path, config), random.Random(0), 0
    for _ in range(100):
        path.write_bytes(randomly_damaged(whole, draw))
        try:
            saved = training.resume(path, config)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 500, error
        else:
            for ours, theirs in zip(*(tree_leaves(pieces) for pieces in (saved, good)), strict=True):
                assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs
    assert refused > 50


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half of one"])
def test_a_damaged_checkpoint_is_named_and_left_alone(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"checkpoint\.pt is no checkpoint that can be read .*: use another folder"
    ) as error:
        run(tiny(), tmp_path)
    assert path.read_bytes() == content and "\n" not in str(error.value)


CPU, NEWER_GPU, OLDER_GPU = None, torch.bfloat16, torch.float16


@pytest.mark.parametrize(
    "first, then", [(CPU, OLDER_GPU), (NEWER_GPU, OLDER_GPU), (OLDER_GPU, OLDER_GPU), (OLDER_GPU, CPU)]
)
def test_a_run_goes_on_on_other_hardware(first, then, tmp_path, monkeypatch):
    """Imitated on a CPU: half precision, and the scaling of the loss that float16 needs."""
    config = tiny(steps=2, batch=2)
    monkeypatch.setattr(training, "half_precision", lambda device: first)
    assert not run(config, tmp_path, stop_after=0.0).finished
    monkeypatch.setattr(training, "half_precision", lambda device: then)
    result = run(config, tmp_path)
    monkeypatch.setattr(training, "half_precision", lambda device: CPU)
    assert result.finished and losses(result) == pytest.approx(losses(run(config)), rel=0.05)
    saved = torch.load(tmp_path / "checkpoint.pt")
    assert bool(saved["scaler"]) == (then == torch.float16)


def test_how_the_optimizer_computes_is_not_taken_from_the_checkpoint(tmp_path):
    """A run from where fused kernels are goes on where there are none."""
    run(tiny(), tmp_path, stop_after=0.0)
    saved = torch.load(tmp_path / "checkpoint.pt")
    for group in saved["optimizer"]["param_groups"]:
        group |= {"fused": None, "foreach": True, "capturable": True}
    torch.save(saved, tmp_path / "checkpoint.pt")
    same(run(tiny()), run(tiny(), tmp_path))


def test_a_full_disk_costs_no_checkpoint(tmp_path):
    run(tiny(), tmp_path, stop_after=0.0)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with disk_with_room_for(len(before) // 2), pytest.raises(OSError, match="what was there is as before"):
        run(tiny(), tmp_path)
    assert not list(tmp_path.glob("*.partial"))
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    same(run(tiny()), run(tiny(), tmp_path))


# Several processes


@pytest.mark.parametrize("name", STAGES)
def test_shares_of_a_batch_make_up_the_whole(name):
    """In double precision. Without what layers draw by themselves, and without statistics of a batch."""
    stage = TinyStage(tiny(name)) if name in DENOISERS else STAGES[name](replace(CONFIGS[name], batch=4))
    stage.eval().double()
    with torch.no_grad():
        whole, *shares = (float(stage(3, share)) for share in (slice(None), slice(0, None, 2), slice(1, None, 2)))
    assert sum(shares) / 2 == pytest.approx(whole, rel=1e-12) and shares[0] != shares[1]


TOGETHER = """
for name in DENOISERS:
    here, config = os.path.join(folder, name), tiny(name, stills=2)
    settings = dict(device="cpu", progress=False)
    assert not training.train(config, here, stage=TinyStage(config).double(), stop_after=0.0, **settings).finished
    if torch.distributed.get_rank() == 0:
        os.makedirs(here + "-after-one-step")
        os.link(here + "/checkpoint.pt", here + "-after-one-step/checkpoint.pt")
    result = training.train(config, here, stage=TinyStage(config).double(), **settings)
    if torch.distributed.get_rank() == 0:
        torch.save(dict(losses=losses(result), averaged=weights(result)), here + "/result.pt")
torch.distributed.destroy_process_group()
"""


def test_two_processes_make_the_same_steps_as_one(tmp_path):
    """In double precision, where it is promised; and one process goes on with what two have saved."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = run_script(tmp_path / "two.py", TOGETHER, *launcher, folder=str(tmp_path))
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr[-2000:]
    for name in DENOISERS:
        config, two = tiny(name, stills=2), torch.load(tmp_path / name / "result.pt")
        one, resumed = (
            training.train(config, folder, "cpu", progress=False, stage=TinyStage(config).double())
            for folder in (None, tmp_path / f"{name}-after-one-step")
        )
        for other, averaged in ((two["losses"], two["averaged"]), (losses(resumed), weights(resumed))):
            assert other == pytest.approx(losses(one), rel=1e-9), name
            assert averaged.keys() == weights(one).keys()
            for weight, value in weights(one).items():
                torch.testing.assert_close(averaged[weight], value, atol=1e-9, rtol=1e-9)


def test_a_batch_that_cannot_be_shared_is_explained(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="3 processes"):
        run(tiny(batch=4))


# Parts of a model, records


def test_of_a_partly_trained_model_only_the_trained_parts_change():
    config = tiny("i2v", trained_parts=("image", "blocks.0.convolution", "conv_out"))
    before = TinyStage(config).trained.state_dict()
    after = weights(run(config))
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {"image_positions", "unet.conv_out.weight"} <= changed
    assert all(any(part in name for part in config.trained_parts) for name in changed)


def test_parts_that_no_weight_has_are_refused():
    with pytest.raises(ValueError, match=r"trained_parts is \('imgae',\), but no weight has such a name"):
        run(tiny(trained_parts=("imgae",)))


def test_a_run_that_goes_on_for_longer_records_all_its_commands(tmp_path):
    # Where no steps are left, as when only the weights are to be written, nothing is added.
    for steps, command in ((2, "first"), (2, "idle"), (4, "second"), (4, "first")):
        result = run(tiny(steps=steps), tmp_path, command=command)
    assert [row["step"] for row in result.log] == [1, 2, 3, 4]
    assert training.card_of(tiny(steps=4), result)["command"] == "first && second"


def test_a_report_and_pictures_of_the_run_are_made_when_asked(tmp_path):
    config = tiny(steps=4, sample_every=2)
    stage = TinyStage(config)
    stage.report = lambda trained: {"held out": 0.5}
    stage.sheet = lambda trained: torch.zeros(2, 3, 3, 8, 8)
    result = training.train(config, tmp_path, "cpu", progress=False, stage=stage)
    assert [row["step"] for row in result.log if "held out" in row] == [2, 4]
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", "loss.png", "samples.png"}
