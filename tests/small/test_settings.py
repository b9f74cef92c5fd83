"""Settings of a training run: types and ranges, files, and the command line."""

import json
import re
import sys
from dataclasses import asdict, fields, replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vdmlib import small, train
from vdmlib.small import training
from vdmlib.small.settings import CONFIGS, TrainingConfig

# A setting, a value that it cannot have, and what the sentence must name.
BAD = [
    ("stage", "t3v", "stage is 't3v', but must be one of autoencoder, judge, t2v, i2v, i2v_attention"),
    ("steps", 0, "steps is 0: use a whole number from 1"),
    ("steps", 10.5, "steps is 10.5: use a whole number"),
    ("steps", True, "steps is True: use a whole number"),
    ("steps", None, "steps is None: use a whole number"),
    ("batch", 0, "batch is 0"),
    ("stills", -1, "stills is -1"),
    ("learning_rate", "1e-3", "learning_rate is the text '1e-3', but must be a number: write 0.001 without quotes"),
    ("learning_rate", "fast", "learning_rate is the text 'fast', but must be a number: write a number"),
    ("learning_rate", -1e-3, "learning_rate is -0.001: use a number from 0"),
    ("learning_rate", float("nan"), "learning_rate is nan"),
    ("learning_rate", float("inf"), "learning_rate is inf"),
    ("learning_rate", [1e-3], r"learning_rate is [0.001]: use a number"),
    ("warmup", -1, "warmup is -1"),
    ("decay", 1.5, "decay is 1.5: use a number from 0 to 1"),
    ("weight_decay", "0", "weight_decay is the text '0'"),
    ("ema", 2, "ema is 2"),
    ("caption_dropout", 10, "caption_dropout is 10: use a number from 0 to 1"),
    ("word_dropout", -0.5, "word_dropout is -0.5: use a number from 0 to 1"),
    ("given_frame", "last", "given_frame is 'last'"),
    ("picture_dropout", "half", "picture_dropout is the text 'half', but must be a number: write a number"),
    ("shift", 0, "shift is 0: use a number from 0.001"),
    ("snr_cap", 0, "snr_cap is 0"),
    ("unet", {"model_channels": 64}, "unet is {'model_channels': 64}, but must be a UNet3DConfig"),
    ("text_layers", -1, "text_layers is -1"),
    ("image_tokens", 32, "image_tokens is 32, but must be one of 16, 64"),
    ("init_from", 3, "init_from is 3, but must be text"),
    ("trained_parts", "image", "trained_parts is 'image', but must be None or a tuple"),
    ("trained_parts", (), "trained_parts is (), but must be None or a tuple"),
    ("trained_parts", (1,), "trained_parts is (1,), but must be None or a tuple"),
    ("checkpoint_seconds", -1, "checkpoint_seconds is -1"),
    ("log_every", 0, "log_every is 0"),
    ("sample_every", 0.5, "sample_every is 0.5: use a whole number"),
    ("seed", -1, "seed is -1: use a whole number from 0"),
    ("seed", 2**31, "seed is 2147483648"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("setting, value, says", BAD)
def test_a_setting_of_the_wrong_type_or_size_is_refused_in_one_sentence(setting, value, says):
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        TrainingConfig(**{setting: value})
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_every_setting_has_a_value_that_it_cannot_have():
    assert {setting for setting, _, _ in BAD} == {setting.name for setting in fields(TrainingConfig)}


def test_configurations_from_names_files_and_changes(tmp_path):
    file = tmp_path / "short.json"
    given = {"stage": "t2v", "steps": 7, "unet": {"model_channels": 64, "channel_multipliers": [1, 2, 2]}}
    file.write_text(json.dumps(given))
    config = train.read_config(str(file), ["batch=2", "unet.res_blocks=2", "learning_rate=1e-3", "snr_cap=5"])
    assert (config.steps, config.batch, config.unet.res_blocks) == (7, 2, 2)
    assert (config.learning_rate, config.snr_cap) == (1e-3, 5)
    assert config.unet.channel_multipliers == (1, 2, 2)
    for text in ("null", "None"):
        assert train.read_config("i2v", [f"init_from={text}"]).init_from is None
        assert train.read_config("i2v", [f"trained_parts={text}"]).trained_parts is None
    assert train.read_config("i2v", ['trained_parts=["image"]']).trained_parts == ("image",)
    assert train.read_config("t2v", ["init_from=t2v"]).init_from == "t2v"
    assert train.read_config("t2v", []) == CONFIGS["t2v"]
    assert TrainingConfig.from_mapping(json.loads(json.dumps({"unet": {"dropout": 0.5}}))).unet.dropout == 0.5


KINDS = {int: [int, np.int64, np.int32], float: [float, np.float64, Fraction]}  # All that hold the numbers below.


@pytest.mark.usefixtures("unchecked")
@settings(max_examples=60)
@given(st.sampled_from(sorted(CONFIGS)), st.data())
def test_any_settings_come_back_from_a_file_whatever_kind_of_number_they_were(stage, given_data):
    changes = {}
    for setting in fields(TrainingConfig):
        if "range" in setting.metadata and given_data.draw(st.booleans()):
            least, most = setting.metadata["range"]
            whole = setting.type is int
            value = given_data.draw(st.integers(least, min(most, 2**31 - 1)) if whole else st.floats(least, most))
            changes[setting.name] = given_data.draw(st.sampled_from(KINDS[int if whole else float]))(value)
    channels = given_data.draw(st.sampled_from(KINDS[int]))(64)
    unet = replace(
        CONFIGS[stage].unet, model_channels=channels, channel_multipliers=(np.int64(1), 2), dropout=np.float32(0.5)
    )
    config = replace(CONFIGS[stage], unet=unet, **changes)
    assert TrainingConfig.from_mapping(json.loads(json.dumps(asdict(config)))) == config
    for name, value in changes.items():
        assert getattr(config, name) == value and type(getattr(config, name)) in (int, float)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "name, changes, says",
    [
        ("t3v", [], "'t3v' is no configuration: use autoencoder, judge, t2v, i2v, i2v_attention or a JSON file's path"),
        ("t2v", ["step=3"], "Unknown settings: step; use stage, steps"),
        ("t2v", ["steps"], "'steps' changes nothing: write key=value"),
        ("t2v", ["steps=ten"], "steps is the text 'ten'"),
        ("t2v", ["steps.more=1"], "steps is {'more': 1}: use a whole number"),
        ("t2v", ["unet=3"], "unet is 3, but must be names with values"),
        ("t2v", ["unet.modelchannels=64"], "Unknown settings of unet: modelchannels; use in_channels"),
        ("t2v", ["unet.model_channels=48"], "model_channels is 48"),
        ("t2v", ["stage=t3v"], "stage is 't3v', but must be one of"),
        ("t2v", ["stage=[1]"], "stage is [1], but must be one of"),
        ("missing.json", [], "'missing.json' is no configuration"),
        ("settings.yaml", [], "a JSON file's path"),
        ("broken.json", [], "broken.json is no JSON that can be read"),
        ("list.json", [], "list.json holds [1, 2], but must hold names with values"),
        ("text.json", [], "learning_rate is the text '1e-3', but must be a number: write 0.001 without quotes"),
        ("number.json", ["steps.more=1"], "'steps.more=1' changes a part of steps, which is 3 and has none"),
    ],
)
def test_what_is_wrong_with_a_command_or_a_file_is_one_sentence(name, changes, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {"broken": '{"steps": 3', "list": "[1, 2]", "text": '{"learning_rate": "1e-3"}', "number": '{"steps": 3}'}
    for stem, content in files.items():
        (tmp_path / f"{stem}.json").write_text(content)
    (tmp_path / "settings.yaml").write_text("steps: 3")
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        train.read_config(name, changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["t2v", "--init-from", "missing.safetensors"], "There are no weights missing.safetensors"),
        (["t2v", "--init-from", "notes.txt"], "notes.txt is no .safetensors file"),
        (["t2v", "--device", "abacus"], "device is 'abacus'"),
        (["t2v", "--stop-after", "nan"], "stop-after is nan: use a number from 0"),
        (["t2v", "--folder", "notes.txt"], "notes.txt cannot hold what is to be written (File exists): name another"),
        (["t2v", "--weights", "notes.txt"], "notes.txt cannot hold what is to be written (File exists): name another"),
        (["t2v", "--folder", "notes.txt/here"], "cannot hold what is to be written (Not a directory): name another"),
        (["t2v", "--folder", "/proc/here"], "/proc/here cannot hold what is to be written ("),
        (["t2v", "--set", "batch=0"], "batch is 0"),
    ],
)
def test_a_command_that_cannot_work_ends_in_one_sentence_before_any_work(arguments, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no weights")
    with pytest.raises(SystemExit, match=f"^error: .*{re.escape(says)}") as stopped:
        train.main(arguments)
    assert "\n" not in stopped.value.code
    assert not list(tmp_path.glob("**/checkpoint.pt"))


def test_the_default_folder_is_tried_before_any_work_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("no folder")
    says = r"^error: runs/t2v cannot hold what is to be written \(Not a directory\): name another folder\.$"
    with pytest.raises(SystemExit, match=says):
        train.main(["t2v"])


@pytest.mark.parametrize("package, purpose", train.PACKAGES.items())
def test_a_missing_package_is_named_with_its_purpose_and_the_extra(package, purpose, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        SystemExit, match=rf"^error: {purpose} needs the package {package}, .*'vdmlib\[book\]'"
    ) as stopped:
        train.main(["t2v"])
    assert "\n" not in stopped.value.code


def test_a_recorded_command_is_without_what_does_not_change_the_weights(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
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


def test_the_whole_command_trains_and_writes_weights_that_can_be_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    changes = ["steps=2", "batch=2", "log_every=1", "sample_every=2"]
    train.main(["autoencoder", "--device", "cpu", "--set", *changes, "--weights", "weights"])
    assert "step 2" in capsys.readouterr().out and small.load_autoencoder("weights").factor == 8
    assert small.read_card("autoencoder", "weights")["config"]["steps"] == 2
    assert {path.name for path in (tmp_path / "runs" / "autoencoder").iterdir()} == {
        "checkpoint.pt",
        "loss.png",
        "samples.png",
    }
