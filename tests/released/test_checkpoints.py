"""Weights under released names: what loads, what is said about what does not fit, and at what cost."""

import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest
import torch
from safetensors.torch import save_file
from tiny_networks import tiny_config, tiny_inputs, tiny_network
from tiny_pipelines import KINDS
from torch import Tensor
from torch.nn.modules.module import register_module_module_registration_hook

import vdmlib
from vdmlib import Release, UNet3D, UNet3DConfig
from vdmlib.files import CheckpointError
from vdmlib.released import checkpoints
from vdmlib.released.checkpoints import load_release, load_unet, unet_from_videocrafter, unet_to_videocrafter
from vdmlib.released.names import UNET, checkpoint_names, released_names
from vdmlib.released.releases import skeleton
from vdmlib.released.synthetic import SyntheticWeights, write

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


@cache
def _tiny_weights(kind: str) -> dict[str, Tensor]:
    return dict(SyntheticWeights(Release.tiny(kind)))


def tiny_weights(kind: str = "t2v") -> dict[str, Tensor]:
    """Of the tiny release, as they lie in a file; a dictionary to change."""
    return dict(_tiny_weights(kind))


def test_the_contract_holds():
    for name in (
        "CheckpointError", "load_unet", "read_checkpoint", "released_name", "released_names", "unet_from_videocrafter",
        "unet_to_videocrafter",
    ):  # fmt: skip
        assert callable(getattr(vdmlib.checkpoints, name)), name


# What loads


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_of_a_release_arrives_at_its_place(kind, checkpoint_files):
    stored = SyntheticWeights(Release.tiny(kind))
    networks, release = load_release(checkpoint_files[kind], kind)
    assert release == Release.tiny(kind)  # Found out from names and sizes.
    for network, names in checkpoint_names(networks).items():
        parameters = dict(getattr(networks, network).named_parameters())
        assert parameters.keys() == names.keys() and len(names) > 10
        for ours, (theirs, _) in names.items():
            assert torch.equal(parameters[ours].flatten(), stored[theirs].flatten()), theirs
            assert not parameters[ours].requires_grad


def bytes_read() -> int:
    """By this process, of all files; what is mapped into memory is not among them."""
    with open("/proc/self/io") as file:
        return int(file.readline().removeprefix("rchar: "))


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="reads how much was read from Linux's /proc")
@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_a_release_is_read_once_where_checksums_are_compared_and_else_only_mapped(dtype, checkpoint_files):
    path = checkpoint_files["t2v"]
    load_release(path, "t2v", dtype=dtype)  # Now all is imported that is needed for it.
    shares = []
    for verify in (False, True):
        before = bytes_read()
        load_release(path, "t2v", dtype=dtype, verify=verify)
        shares.append((bytes_read() - before) / path.stat().st_size)
    # Beside the weights, names and sizes are read, some of them twice.
    assert shares[0] < 0.5 and 1 <= shares[1] < 1.5


def test_each_network_of_a_release_is_built_once(checkpoint_files):
    built = Counter()
    hook = register_module_module_registration_hook(lambda *given: built.update([type(given[2]).__name__]))
    try:
        networks, _ = load_release(checkpoint_files["i2v"], "i2v")
    finally:
        hook.remove()
    inside = Counter(type(layer).__name__ for network in networks.named().values() for layer in network.modules())
    for kind in ("TimestepFPSEmbedding", "SpatialTransformer", "TemporalConvBlock"):
        assert built[kind] == inside[kind] > 0, kind


@pytest.mark.parametrize(
    "name", ["videocrafter2", "videocrafter1_t2v_512", "videocrafter1_t2v_1024", "videocrafter1_i2v"]
)
def test_the_released_model_is_recognised_by_its_names(name):
    release = getattr(Release, name)()
    names = checkpoint_names(skeleton(release))
    shapes = dict(pair for of_network in names.values() for pair in of_network.values())
    weights = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assert checkpoints._recognised(weights, release.kind) == release


def test_half_precision_files_keep_or_change_their_type(tmp_path):
    half = {name: value.half() for name, value in weights().items()}
    torch.save(half, tmp_path / "half.ckpt")
    assert_same_network(load_unet(tmp_path / "half.ckpt", CONFIG), torch.float16)
    wide = load_unet(tmp_path / "half.ckpt", CONFIG, dtype=torch.float32)
    assert {p.dtype for p in wide.parameters()} == {torch.float32}
    assert_same_network(load_unet(tmp_path / "half.ckpt", CONFIG, dtype="float16"), torch.float16)
    mixed = unet_from_videocrafter(half | {"out.2.bias": weights()["out.2.bias"]}, CONFIG, dtype=torch.float16)
    assert_same_network(mixed, torch.float16)


def test_a_loaded_network_computes_and_trains_without_touching_the_file(tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save(weights(), path)
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


def test_schedule_buffers_and_unused_weights_may_be_absent(tmp_path):
    whole = tiny_weights()
    fewer = {n: w for n, w in whole.items() if n not in ("scale_arr", "betas") and "text_projection" not in n}
    assert len(fewer) == len(whole) - 3
    load_release(write(tmp_path / "model.safetensors", fewer), "t2v")


# Wrappers: the same helper for both entrances


WRAPPINGS = {
    "none": lambda w: w,
    "state_dict": lambda w: {"state_dict": w, "epoch": 3},
    "module": lambda w: {"module": w},
    "model": lambda w: {"model": w, "optimizer": {"lr": 0.1}},
    "one in the other": lambda w: {"model": {"state_dict": w}},
    "DistributedDataParallel": lambda w: in_front("module.", w),
    "DeepSpeed": lambda w: {"module": in_front("_forward_module.", w), "global_step": 1},
    "torch.compile": lambda w: in_front("_orig_mod.", w),
    "torch.compile of DistributedDataParallel": lambda w: in_front("module._orig_mod.", w),
    "AveragedModel": lambda w: in_front("module.", w) | {"n_averaged": torch.tensor(7)},
    "FSDP": lambda w: {name.replace("transformer_blocks.", "transformer_blocks._fsdp_wrapped_module."): value
                       for name, value in w.items()},
    "a program's own": lambda w: in_front("denoiser.", w),
}  # fmt: skip


def in_front(prefix: str, content: dict) -> dict:
    return {prefix + name: value for name, value in content.items()}


def whole_file() -> dict[str, Tensor]:
    others = ("betas", "scale_arr", "first_stage_model.encoder.conv_in.weight", "model_ema.decay")
    return in_front(UNET, weights()) | {name: torch.zeros(4) for name in others}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("content", [weights, whole_file])
def test_known_wrappers_of_a_u_net_are_taken_off(wrapping, content):
    assert_same_network(unet_from_videocrafter(WRAPPINGS[wrapping](content()), CONFIG))


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_known_wrappers_of_a_release_are_taken_off(wrapping, tmp_path):
    content = tiny_weights()
    torch.save(WRAPPINGS[wrapping](content), tmp_path / "model.ckpt")
    networks, _ = load_release(tmp_path / "model.ckpt", "t2v", verify=False)
    assert torch.equal(networks.unet.conv_out.weight, content[UNET + "out.2.weight"])


def test_early_dynamicrafter_files_name_the_fps_embedding_otherwise():
    renamed = {name.replace("fps_embedding", "framestride_embed"): value for name, value in whole_file().items()}
    assert renamed.keys() != whole_file().keys()
    assert_same_network(unet_from_videocrafter(renamed, CONFIG))


def test_other_wrappers_are_named():
    message = problem_with({"ema_weights": weights(), "step": 3})
    assert "not tensors under a name (ema_weights, step)" in message and "perhaps its entry 'ema_weights'" in message
    assert "two tensors for out.2.bias" in problem_with(weights() | {"module.out.2.bias": torch.zeros(4)})
    endless = {}
    endless["state_dict"] = endless
    assert "not tensors under a name (state_dict)" in problem_with(endless)


# State dicts that do not fit


def problem_with(changed: object, config: UNet3DConfig = CONFIG, device: str = "cpu") -> str:
    with pytest.raises(CheckpointError) as error:
        unet_from_videocrafter(changed, config, device=device)
    return one_sentence(error.value)


def one_sentence(error: Exception) -> str:
    message = str(error)
    assert "\n" not in message and message.endswith(".") and len(message) < 1500
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
        (lambda w: w.update({"out.2.bias": 3.0}), r"not tensors under a name \(out.2.bias\)"),
        (lambda w: w.update({7: torch.zeros(1)}), r"not tensors under a name \(<int>\)"),
        (lambda w: w.update({"a\nb²": torch.zeros(1), "²": torch.zeros(1)}), r"2 foreign: 'a\\nb²', ²\."),
        (lambda w: w.update({"a." * 10**5: torch.zeros(1)}), "a name of 200000 characters"),
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


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.float8_e4m3fn, "half"])
def test_a_dtype_that_weights_cannot_have(tmp_path, dtype):
    needed = f"dtype is {dtype!r}, but must be one of float32, float16, bfloat16, float64"
    with pytest.raises(ValueError, match=needed):
        unet_from_videocrafter(weights(), CONFIG, dtype=dtype)
    with pytest.raises(ValueError, match=needed):
        load_unet(tmp_path / "never_opened.ckpt", CONFIG, dtype=dtype)


NAME = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"
WRONG_RELEASES = {
    "nothing": (lambda w: {}, r"tensors 830 missing: cond_stage_model\.\*"),
    "settings": (
        lambda w: {"lr": 0.1, "betas": [1, 2]},
        r"The weights in model\.ckpt .* not tensors .*\(lr, betas\)",
    ),
    "another model": (lambda w: {"layer.weight": torch.zeros(3)}, r"missing.*1 foreign: layer\.weight"),
    "a missing weight": (lambda w: {n: v for n, v in w.items() if n != NAME}, rf"1 missing: {NAME}"),
    "one weight more": (lambda w: w | {"model_ema.decay": torch.zeros(())}, r"1 foreign: model_ema\.decay"),
    "a wrong shape": (lambda w: w | {NAME: w[NAME][:5]}, rf"wrong shape: {NAME}: \(5, 24\) instead of \(72, 24\)"),
    "whole numbers": (lambda w: w | {NAME: w[NAME].long()}, rf"1 without floating point numbers: {NAME}"),
    "a sparse weight": (lambda w: w | {NAME: w[NAME].to_sparse()}, rf"1 without floating point numbers: {NAME}"),
    "no numbers": (lambda w: w | {NAME: w[NAME].to("meta")}, rf"1 without floating point numbers: {NAME}"),
    "the other kind": (lambda w: tiny_weights("i2v"), "look like kind 'i2v', so pass that"),
    "the U-Net alone": (lambda w: {n: v for n, v in w.items() if n.startswith(UNET)}, "missing"),
}


@pytest.mark.parametrize("case", WRONG_RELEASES)
def test_a_release_that_does_not_fit(case, tmp_path):
    make, expected = WRONG_RELEASES[case]
    path = write(tmp_path / "model.ckpt", make(tiny_weights()))
    with pytest.raises(CheckpointError, match=expected) as caught:
        load_release(path, "t2v", Release.tiny())
    one_sentence(caught.value)


@pytest.mark.usefixtures("unchecked")
def test_arguments_of_the_wrong_kind():
    assert "The weights are a list" in problem_with([])
    for load in (unet_from_videocrafter, load_unet):
        with pytest.raises(TypeError, match=r"config is 'videocrafter2': pass one such as UNet3DConfig\."):
            load({}, "videocrafter2")


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
    torch.save(content, folder / "large.ckpt")
    save_file(content, folder / "large.safetensors")
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
