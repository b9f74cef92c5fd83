"""Names, shapes and sizes of the released networks, at full size on the ``meta`` device (no memory)."""

import dataclasses
import itertools
import json
import re
from functools import cache
from math import prod
from pathlib import Path
from types import SimpleNamespace

import pytest
import released_classes
import torch
from tiny_networks import OPTIONS, tiny_config, tiny_network

import vdmlib
from vdmlib import UNet3DConfig
from vdmlib.attention import Attention
from vdmlib.released.checkpoints import released_names, unet_from_videocrafter, unet_to_videocrafter

FOLDER = Path(__file__).parents[1] / "manifests"
NAMED = {
    "unet_t2v": UNet3DConfig.videocrafter2,
    "unet_i2v": UNet3DConfig.videocrafter1_i2v,
    "unet_t2v_512_v1": UNet3DConfig.videocrafter1_t2v_512,
    "unet_t2v_1024_v1": UNet3DConfig.videocrafter1_t2v_1024,
    "unet_dynamicrafter_512": UNet3DConfig.dynamicrafter_512,
    "unet_dynamicrafter_256": lambda: UNet3DConfig.from_videocrafter(manifest("unet_dynamicrafter_256")["config"]),
}
named = pytest.mark.parametrize("name", NAMED)


@cache
def manifest(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


def recorded_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Every released key with its shape. Of DynamiCrafter 256 the file holds only what 512 has not."""
    content = manifest(name)
    if "keys" not in content:
        assert not content["keys_of_512_missing"]
        content = {"keys": manifest("unet_dynamicrafter_512")["keys"] | content["keys_not_in_512"]}
    return {key: tuple(shape) for key, shape in content["keys"].items()}


@cache
def on_meta(name: str) -> vdmlib.UNet3D:
    with torch.device("meta"):
        return vdmlib.UNet3D(NAMED[name]())


@named
def test_keys_shapes_and_sizes_are_the_released_ones(name):
    theirs = dict(released_names(NAMED[name]()).values())
    assert theirs == recorded_shapes(name)
    assert len(theirs) == manifest(name)["total_keys"]
    parameters = manifest(name)["parameters"]
    assert sum(map(prod, theirs.values())) == parameters
    assert sum(p.numel() for p in on_meta(name).parameters()) == parameters
    assert not list(on_meta(name).buffers()) and not manifest(name)["buffers_in_state_dict"]


@named
def test_part_sizes_are_the_released_ones(name):
    sizes = dict.fromkeys(manifest(name)["parameters_by_top_module"], 0)
    for theirs, shape in released_names(NAMED[name]()).values():
        sizes[theirs.split(".")[0]] += prod(shape)
    assert sizes == manifest(name)["parameters_by_top_module"]


@named
def test_names_map_one_to_one_and_back(name):
    names = released_names(NAMED[name]())
    assert set(names) == {ours for ours, _ in on_meta(name).named_parameters()}
    assert len({theirs for theirs, _ in names.values()}) == len(names)
    theirs = {key: torch.empty(shape, device="meta") for key, shape in recorded_shapes(name).items()}
    net = unet_from_videocrafter(theirs, NAMED[name](), device="meta")
    again = unet_to_videocrafter(net)
    assert {key: tuple(value.shape) for key, value in again.items()} == recorded_shapes(name)


@named
def test_yaml_parameters_give_the_named_configuration(name):
    # The YAML file of DynamiCrafter also asks for activation checkpointing, which is a matter of training.
    from_yaml = UNet3DConfig.from_videocrafter(manifest(name)["config"])
    assert dataclasses.replace(from_yaml, activation_checkpointing=False) == dataclasses.replace(
        NAMED[name](), activation_checkpointing=False
    )


def test_dynamicrafter_256_has_a_gate_in_each_spatial_transformer():
    config = NAMED["unet_dynamicrafter_256"]()
    gates = [ours for ours, (theirs, _) in released_names(config).items() if theirs.endswith(".alpha")]
    assert len(gates) == 16 and all("spatial_transformer" in gate for gate in gates)
    assert config.default_fps == manifest("unet_dynamicrafter_256")["config"]["default_fs"] == 3


@pytest.mark.parametrize("option", OPTIONS)
def test_weights_survive_the_way_there_and_back(option):
    net = tiny_network(tiny_config(option))
    theirs = unet_to_videocrafter(net)
    again = unet_from_videocrafter(theirs, net.config)
    for (name, value), back in zip(net.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(value, back), name
    assert {k: (v.shape, v.data_ptr()) for k, v in unet_to_videocrafter(again).items()} == {
        k: (v.shape, v.data_ptr()) for k, v in theirs.items()
    }, "nothing is copied"


@pytest.mark.parametrize("linear", [True, False])
def test_released_shapes_of_the_projections(linear):
    """Convolutions with a kernel of one, or linear; before the blocks (init_attn) always convolutions."""
    for ours, (theirs, shape) in released_names(tiny_config(linear_projections=linear)).items():
        if re.search(r"proj_(in|out)\.weight$", theirs):
            if "spatial" in ours:
                assert len(shape) == (2 if linear else 4), theirs
            else:
                assert len(shape) == (2 if linear and not theirs.startswith("init_attn") else 3), theirs


def test_every_option_of_the_configuration_is_tried():
    changed = {name for option in OPTIONS.values() for name in option}
    fixed = {"model_channels", "context_channels"}
    assert {field.name for field in dataclasses.fields(UNet3DConfig)} == changed | fixed


def manifest_case(name: str, config: dict, *input_shape: int) -> SimpleNamespace:
    """A manifest in the form of a golden case, without numbers: everything on the ``meta`` device."""
    return SimpleNamespace(
        meta={"config": config},
        weights=lambda: {k: torch.empty(s, device="meta") for k, s in manifest(name)["keys"].items()},
        inputs=lambda: {"x": torch.empty(input_shape, device="meta")},
    )


def shapes(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in module.named_parameters()}


def test_resampler():
    config = manifest("resampler_i2v")["config"]
    with torch.device("meta"):
        result = released_classes.resampler(manifest_case("resampler_i2v", config, 2, 257, 1280))
        default = vdmlib.Resampler()
    assert result.shape == (2, 16, 1024)
    assert sum(p.numel() for p in default.parameters()) == manifest("resampler_i2v")["parameters"]
    assert sorted(shapes(default).values()) == sorted(map(tuple, manifest("resampler_i2v")["keys"].values()))


def test_image_projection():
    name = "image_proj_model_non_finegrained"
    config = dict(clip_embeddings_dim=1024, cross_attention_dim=1024, clip_extra_context_tokens=4)
    with torch.device("meta"):
        result = released_classes.image_projection(manifest_case(name, config, 2, 1024))
        default = vdmlib.ImageProjection()
    assert result.shape == (2, 4, 1024)
    assert sum(p.numel() for p in default.parameters()) == manifest(name)["parameters"]
    assert sorted(shapes(default).values()) == sorted(map(tuple, manifest(name)["keys"].values()))


def test_dimension_table_row_by_row():
    recorded = manifest("shape_table_t2v")
    table = vdmlib.dimension_table(UNet3DConfig.videocrafter2(), frames=16, height=40, width=64)
    parts = [row.part for row in table]
    assert parts == ["encoder", "init_attention", *["encoder"] * 11, "middle", *["decoder"] * 12, "out"]
    net, heads = on_meta("unet_t2v"), {}
    blocks = dict(zip((r.name for r in table if r.part == "encoder"), net.encoder_blocks, strict=True))
    blocks |= dict(zip((r.name for r in table if r.part == "decoder"), net.decoder_blocks, strict=True))
    for name, block in (blocks | {"middle": net.middle}).items():
        found = {m.heads for n, m in block.named_modules() if isinstance(m, Attention) and "spatial" in n}
        heads[name] = found.pop() if found else None
        assert not found

    for ours, theirs in zip(table, recorded["rows"], strict=True):
        b, t = 1, theirs["batch_frames"]
        assert ours.input_shape == (b, t, theirs["in_channels"], *theirs["in_hw"]), ours
        assert ours.output_shape == (b, t, theirs["out_channels"], *theirs["out_hw"]), ours
        assert ours.parameters == theirs["parameters"], ours
        assert ours.skip_channels == theirs.get("concat", [0, 0])[1], ours
        assert heads.get(ours.name) == theirs["spatial_heads"], ours
        if ours.part != "out":  # There the file lists the norm and the activation too.
            assert list(ours.layers) == theirs["layers"], ours
    # The two embeddings come before the blocks.
    embedding = sum(p.numel() for p in net.embedding.parameters())
    assert sum(row.parameters for row in table) + embedding == manifest("unet_t2v")["parameters"]


def test_dimension_table_of_other_sizes_and_networks():
    config = tiny_config("dynamicrafter_512")
    table = vdmlib.dimension_table(config, frames=5, height=6, width=10, batch=3)
    assert table[0].input_shape == (3, 5, 8, 6, 10) and table[-1].output_shape == (3, 5, 4, 6, 10)
    assert next(row for row in table if row.part == "middle").output_shape == (3, 5, 128, 3, 5)
    for row, after in itertools.pairwise(table):
        b, f, channels, h, w = row.output_shape
        assert after.input_shape == (b, f, channels + after.skip_channels, h, w)
    without = vdmlib.dimension_table(dataclasses.replace(config, initial_temporal_attention=False))
    assert [row.name for row in without] == [row.name for row in table if row.part != "init_attention"]
