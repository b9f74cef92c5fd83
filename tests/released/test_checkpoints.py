"""Checkpoint files and state dicts, good and bad: what loads, what is said about what does not, and at what cost."""

import os
import pickle
import re
import subprocess
import sys
import zipfile
from functools import cache

import pytest
import torch
from safetensors.torch import save_file
from tiny_networks import tiny_config, tiny_inputs, tiny_network
from torch import Tensor

from vdmlib import UNet3D, UNet3DConfig
from vdmlib.released.checkpoints import (
    UNET_PREFIX,
    CheckpointError,
    load_unet,
    read_checkpoint,
    released_names,
    unet_from_videocrafter,
    unet_to_videocrafter,
)

CONFIG = tiny_config(model_channels=32, head_channels=8)


@cache
def network() -> UNet3D:
    return tiny_network(CONFIG)


@cache
def weights() -> dict[str, Tensor]:
    """Under the released names, as they lie in a file."""
    return unet_to_videocrafter(network())


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights().items()}


def assert_same_network(net: UNet3D, dtype: torch.dtype = torch.float32):
    assert not net.training
    for (name, value), loaded in zip(network().named_parameters(), net.parameters(), strict=True):
        assert loaded.dtype == dtype and loaded.requires_grad, name
        assert torch.equal(value.to(dtype), loaded), name


# What loads


WRAPPINGS = {
    "plain": weights,
    "state_dict": lambda: {"state_dict": weights(), "epoch": 3},
    "module": lambda: {"module": weights()},
    "deepspeed": lambda: {"module": prefixed("_forward_module." + UNET_PREFIX), "global_step": 1},
    "prefix": lambda: prefixed(UNET_PREFIX),
    "whole_file": lambda: {
        "state_dict": prefixed(UNET_PREFIX)
        | {
            "betas": torch.zeros(1000),
            "scale_arr": torch.ones(1000),
            "first_stage_model.encoder.conv_in.weight": torch.zeros(4),
            "cond_stage_model.model.positional_embedding": torch.zeros(4),
        },
        "global_step": 7,
    },
    "dynamicrafter": lambda: {
        name.replace("fps_embedding", "framestride_embed"): value for name, value in prefixed(UNET_PREFIX).items()
    },
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_every_wrapping_of_the_weights_loads(wrapping):
    assert_same_network(unet_from_videocrafter(WRAPPINGS[wrapping](), CONFIG))


def save(content: dict, path, kind: str):
    if kind == "safetensors":
        save_file(content, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind != "before PyTorch 1.6")


FILES = {"a.ckpt": "zip", "a.pt": "zip", "b.pt": "before PyTorch 1.6", "a.safetensors": "safetensors",
         "b.ckpt": "safetensors"}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_every_kind_of_file_loads(tmp_path, name, dtype):
    save(weights(), tmp_path / name, FILES[name])
    net = load_unet(str(tmp_path / name), CONFIG, dtype=dtype)
    assert_same_network(net, dtype or torch.float32)


def test_half_precision_files_keep_or_change_their_type(tmp_path):
    half = {name: value.half() for name, value in weights().items()}
    save(half, tmp_path / "half.ckpt", "zip")
    assert_same_network(load_unet(tmp_path / "half.ckpt", CONFIG), torch.float16)
    wide = load_unet(tmp_path / "half.ckpt", CONFIG, dtype=torch.float32)
    assert {p.dtype for p in wide.parameters()} == {torch.float32}
    mixed = unet_from_videocrafter(half | {"out.2.bias": weights()["out.2.bias"]}, CONFIG, dtype=torch.float16)
    assert_same_network(mixed, torch.float16)


def test_a_loaded_network_computes_and_trains_without_touching_the_file(tmp_path):
    path = tmp_path / "a.ckpt"
    save(weights(), path, "zip")
    before = path.read_bytes()
    net, inputs = load_unet(path, CONFIG), tiny_inputs(CONFIG)
    result = net(**inputs)
    with torch.no_grad():
        assert torch.equal(result, network()(**inputs))
    result.square().mean().backward()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter -= parameter.grad
    assert path.read_bytes() == before and not torch.equal(net(**inputs), result)


# State dicts that do not fit


def problem_with(changed: dict, config: UNet3DConfig = CONFIG, device: str = "cpu") -> str:
    with pytest.raises(CheckpointError) as error:
        unet_from_videocrafter(changed, config, device=device)
    message = str(error.value)
    assert "\n" not in message and message.endswith(".")
    return message


def test_all_problems_are_listed_at_once_in_short_form():
    changed = {name: value for name, value in weights().items() if not name.startswith("middle_block.1.")}
    del changed["out.2.weight"]
    changed |= {
        "adapter.0.weight": torch.zeros(1),
        "adapter.0.bias": torch.zeros(1),
        "time_embed.0.weight": torch.zeros(3),
        "time_embed.0.bias": changed["time_embed.0.bias"].long(),
    }
    assert problem_with(changed) == (
        "The weights do not fit this network; tensors 27 missing: middle_block.1.* (26), out.2.weight; "
        "2 foreign: adapter.* (2); 1 of the wrong shape: time_embed.0.weight: (3,) instead of (128, 32); "
        "1 without floating point numbers: time_embed.0.bias. "
        "Use the configuration that these weights were trained with, or the weights of this configuration."
    )


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda w: w.pop("out.2.bias"), "1 missing: out.2.bias"),
        (lambda w: [w.pop(n) for n in list(w) if "temopral" in n], r"missing: input_blocks.\*.\*.temopral_conv.\* \("),
        (lambda w: w.update(extra=torch.zeros(1)), "1 foreign: extra"),
        (lambda w: w.update({"out.2.bias": torch.zeros(5)}), r"out.2.bias: \(5,\) instead of \(4,\)"),
        (lambda w: w.update({"out.2.bias": torch.zeros(4).int()}), "1 without floating point numbers: out.2.bias"),
        (lambda w: w.update({"out.2.bias": 3.0}), r"not tensors \(out.2.bias\)"),
        (lambda w: w.update({7: torch.zeros(1)}), "1 foreign: 7"),
        (lambda w: w.clear(), r"time_embed.\* \(4\)"),
    ],
)
def test_each_problem_is_named(change, expected):
    changed = dict(weights())
    change(changed)
    assert re.search(expected, problem_with(changed))


def test_a_short_form_never_covers_a_tensor_that_is_in_order():
    """Two of three like-named tensors are missing: then no * may stand for their places."""
    changed = dict(weights())
    gone = [f"output_blocks.{i}.1.transformer_blocks.0.attn2.to_k.weight" for i in (0, 1)]
    for name in gone:
        del changed[name]
    assert f"2 missing: {', '.join(gone)}." in problem_with(changed)


def test_the_librarys_own_names_are_recognised():
    assert "build UNet3D(config) and use its load_state_dict" in problem_with(network().state_dict())


NAMED = ["videocrafter2", "videocrafter1_t2v_512", "videocrafter1_t2v_1024", "videocrafter1_i2v", "dynamicrafter_512"]


@pytest.mark.parametrize("theirs, ours", list(zip(NAMED, NAMED[1:] + NAMED[:1], strict=True)))
def test_weights_of_another_released_network_are_recognised(theirs, ours):
    names = released_names(getattr(UNet3DConfig, theirs)())
    empty = {name: torch.empty(shape, device="meta") for name, shape in names.values()}
    message = problem_with(empty, getattr(UNet3DConfig, ours)(), device="meta")
    assert message.endswith(f"They are the weights of another network: use UNet3DConfig.{theirs}().")
    assert len(message) < 2000


@pytest.mark.parametrize("dtype", [torch.int8, torch.long, torch.complex64])
def test_a_dtype_that_weights_cannot_have(tmp_path, dtype):
    with pytest.raises(ValueError, match="need a floating point type"):
        unet_from_videocrafter(weights(), CONFIG, dtype=dtype)
    with pytest.raises(ValueError, match="need a floating point type"):
        load_unet(tmp_path / "never_opened.ckpt", CONFIG, dtype=dtype)


# Files that are no checkpoints


def problem_with_file(path) -> str:
    with pytest.raises(CheckpointError) as error:
        load_unet(path, CONFIG)
    assert path.name in str(error.value) and len(str(error.value)) < 500 and "\n" not in str(error.value)
    return str(error.value)


class CreatesFile:
    """Unpickled without care, it runs a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("kind", ["zip", "before PyTorch 1.6", "pickle"])
def test_a_pickle_of_code_is_not_executed(tmp_path, kind):
    path, trap = tmp_path / "bad.ckpt", tmp_path / "executed"
    content = {"trap": CreatesFile(trap), "state_dict": dict(weights())}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        save(content, path, kind)
    assert "Python objects other than tensors (posix.system)" in problem_with_file(path)
    assert not trap.exists()
    # The trap works: it is the loading that does not spring it.
    pickle.loads(pickle.dumps(CreatesFile(trap)))
    assert trap.exists()


def test_a_pickled_module_is_named(tmp_path):
    torch.save(network(), tmp_path / "module.pt")
    assert "vdmlib.unet3d.UNet3D" in problem_with_file(tmp_path / "module.pt")


@pytest.mark.parametrize("name", FILES)
def test_truncated_files(tmp_path, name):
    save(weights(), tmp_path / "whole", FILES[name])
    whole = (tmp_path / "whole").read_bytes()
    n = len(whole)
    for length in (0, 1, 2, 3, 4, 8, 9, 17, 30, 100, 1000, 50_000, n // 4, n // 2, n - 10_000, n - 100, n - 1):
        (tmp_path / name).write_bytes(whole[:length])
        assert re.search("damaged|truncated", problem_with_file(tmp_path / name)), length


@pytest.mark.parametrize("position", [0, 7, 8, 9, 40, 200])
def test_damaged_safetensors_header(tmp_path, position):
    path = tmp_path / "a.safetensors"
    save(weights(), path, "safetensors")
    damaged = bytearray(path.read_bytes())
    damaged[position : position + 5] = b"\xff\x00?\xff\xff"
    path.write_bytes(damaged)
    assert "damaged" in problem_with_file(path)


NOT_CHECKPOINTS = {
    "page.ckpt": b"<!DOCTYPE html><html><body>404: not found</body></html>",
    "page.safetensors": b"<!DOCTYPE html><html><body>404: not found</body></html>",
    "pointer.ckpt": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "notes.pt": "Bitte später herunterladen.\n".encode(),
    "zeros.ckpt": bytes(4096),
}


@pytest.mark.parametrize("name", NOT_CHECKPOINTS)
def test_other_files(tmp_path, name):
    (tmp_path / name).write_bytes(NOT_CHECKPOINTS[name])
    message = problem_with_file(tmp_path / name)
    assert "not a checkpoint" in message and "download it again" in message and "Python objects" not in message


def test_an_archive_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "archive.ckpt", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    assert "damaged" in problem_with_file(tmp_path / "archive.ckpt")


@pytest.mark.parametrize(
    "content, expected",
    [
        ([1, 2], "holds a list"),
        (torch.zeros(3), "holds a Tensor"),
        ({"lr": 0.1}, r"not tensors \(lr\)"),
        ({}, "missing"),
    ],
)
def test_checkpoints_of_something_else(tmp_path, content, expected):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=expected):
        load_unet(tmp_path / "other.pt", CONFIG)


def test_no_file_and_a_directory(tmp_path):
    for path in (tmp_path / "nowhere.ckpt", tmp_path):
        with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
            read_checkpoint(path)


# Memory


# A network with few and large tensors, so that its size shows above everything else.
LARGE = UNet3DConfig(
    model_channels=224, channel_multipliers=(1, 2), res_blocks=1, head_channels=32, context_channels=256
)
MEASURE = """
import sys, torch
from vdmlib.released.checkpoints import load_unet
from test_checkpoints import LARGE

def megabytes(key):
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith(key))

before = megabytes("VmRSS")
net = load_unet(sys.argv[1], LARGE, dtype=getattr(torch, sys.argv[2]))
size = sum(parameter.nbytes for parameter in net.parameters()) / 2**20
with torch.no_grad():
    assert all(bool((parameter == 1).all()) for parameter in net.parameters())
print((megabytes("VmHWM") - before) / size)
"""


@pytest.fixture(scope="module")
def large_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    content = {name: torch.ones(shape) for name, shape in released_names(LARGE).values()}
    for name in ("large.ckpt", "large.safetensors"):
        save(content, folder / name, FILES[name.replace("large", "a")])
    del content
    yield folder
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak memory from Linux's /proc")
@pytest.mark.parametrize(
    "name, dtype", [("large.ckpt", "float32"), ("large.ckpt", "float16"), ("large.safetensors", "float32")]
)
def test_loading_peaks_below_a_fifth_more_than_the_network(large_files, name, dtype):
    """Measured in a process of its own, up to after every weight was read once."""
    command = [sys.executable, "-c", MEASURE, str(large_files / name), dtype]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert 0.9 < float(ran.stdout) < 1.2
