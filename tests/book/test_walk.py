"""The map one can walk says what is true of the networks."""

import json
import re
from typing import Any

import pytest
import torch
import walk
from torch.utils.flop_counter import FlopCounterMode

import vdmlib
from vdmlib.released.names import released_names

NAMES = list(walk.NETWORKS)


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """What the page's script is given."""
    found = re.search(r'<script type="application/json" class="walk-data">(.*?)</script>', walk.page_part(), re.DOTALL)
    return json.loads(found[1])


@pytest.fixture(scope="module")
def networks(content) -> dict[str, Any]:
    return content["networks"]


def blocks(network: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {block["name"]: block for block in network["blocks"]}


def there(block: dict[str, Any]) -> list[dict[str, Any]]:
    return [layer for layer in block["layers"] if "gone" not in layer]


def test_videocrafter2_has_the_numbers_of_chapter_8(networks):
    assert networks["videocrafter2"]["parameters"] == 1_413_284_420
    assert f"{networks['videocrafter2']['flop'] / 1e12:.3f}" == "12.522"


@pytest.mark.parametrize("name", NAMES)
def test_blocks_and_layers_add_up_to_the_network(networks, name):
    network = networks[name]
    with torch.device("meta"):
        net = vdmlib.UNet3D(getattr(vdmlib.UNet3DConfig, name)())
    assert network["parameters"] == sum(p.numel() for p in net.parameters())
    for what in ("parameters", "flop"):
        assert sum(block[what] for block in network["blocks"]) == network[what]
        for block in network["blocks"]:
            assert sum(layer[what] for layer in block["layers"]) == block[what], block["name"]


def test_operations_are_those_of_a_forward_pass():
    config = vdmlib.UNet3DConfig.small()
    with torch.device("meta"), torch.no_grad():
        net = vdmlib.UNet3D(config).eval()
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(1, 16, 4, 40, 64), torch.zeros(1), context=torch.empty(1, 77, 256))
    assert counter.get_total_flops() == walk.network("small", {})["flop"]


@pytest.mark.parametrize("name", NAMES)
def test_shapes_are_those_of_the_dimension_table(networks, name):
    found = blocks(networks[name])
    rows = vdmlib.dimension_table(getattr(vdmlib.UNet3DConfig, name)())
    assert list(found) == ["embedding", *(row.name for row in rows)]
    for row in rows:
        block = found[row.name]
        assert (block["input"], block["skip"], block["output"]) == (
            list(row.input_shape), row.skip_channels, list(row.output_shape),
        )  # fmt: skip
        assert block["parameters"] == row.parameters


@pytest.mark.parametrize("name", NAMES)
def test_every_released_name_lies_in_a_layer_of_the_map(networks, name):
    places = {layer["name"] for block in networks[name]["blocks"] for layer in there(block)}
    for theirs, _ in released_names(getattr(vdmlib.UNet3DConfig, name)()).values():
        assert any(theirs.startswith(place + ".") for place in places) or theirs.startswith("out.0."), theirs
    assert {block["released"] for block in networks[name]["blocks"]} >= {"middle_block", "output_blocks.5", "out"}


def lit(network: dict[str, Any]) -> list[str]:
    return [layer["kind"] for block in network["blocks"] for layer in block["layers"] if layer["lit"]]


def test_what_differs_from_videocrafter2_is_lit(networks):
    assert lit(networks["videocrafter2"]) == [] == networks["videocrafter2"]["differences"]
    assert lit(networks["videocrafter1_i2v"]) == ["spatial"] * 16
    assert lit(networks["dynamicrafter_512"]) == ["convolution", *["spatial"] * 16]
    temporal = lit(networks["videocrafter1_t2v_512"])
    counts = {kind: temporal.count(kind) for kind in set(temporal)}
    assert counts == {"embedding": 1, "resnet": 22, "time": 22, "temporal": 17}
    assert lit(networks["videocrafter1_t2v_1024"]) == [kind for kind in temporal if kind != "embedding"]
    assert len(lit(networks["small"])) == sum(len(block["layers"]) for block in networks["small"]["blocks"])
    for name in NAMES[1:]:
        assert networks[name]["differences"]


def test_the_tables_say_in_words_what_is_lit(networks):
    """A reader who sees no colours, or runs no scripts, has a table for each network."""
    found = re.findall(r"<summary>(.+?)'s blocks.*?</summary>.*?<table>(.*?)</table>", walk.page_part(), re.DOTALL)
    assert [name for name, _ in found] == [network["title"].removeprefix("a ") for network in networks.values()]
    for (_, table), (name, network) in zip(found, networks.items(), strict=True):
        assert table.count("<tr>") == 1 + len(network["blocks"])
        here = sum(layer["lit"] for block in network["blocks"] for layer in there(block))
        assert table.count("(differs)") == (0 if name == "small" else here)  # All of the small one's layers differ.


def test_a_setting_that_no_sentence_explains_is_noticed():
    with pytest.raises(KeyError, match="causal_attention"):
        walk.differences(vdmlib.UNet3DConfig(causal_attention=True))


def test_the_small_one_is_as_wide_as_its_sentence_says():
    assert 5 * vdmlib.UNet3DConfig.small().model_channels == vdmlib.UNet3DConfig.videocrafter2().model_channels


def test_decoder_blocks_are_told_whose_result_they_are_given(networks):
    """Encoder 6 has halved: the 640 channels that decoder 5 meets are its own."""
    found = blocks(networks["videocrafter2"])
    for number in range(12):
        decoder = found[f"decoder {number}"]
        kept = found["init_attention" if number == 11 else f"encoder {11 - number}"]
        assert f"that encoder {11 - number} has kept" in decoder["sentence"]
        assert decoder["skip"] == kept["output"][2] and kept["output"][3] == decoder["input"][3]


def test_the_chosen_block_has_something_to_say(content, networks):
    for name in NAMES:
        block = blocks(networks[name])[content["chosen"]]
        assert block["sentence"] and block["notes"]
    assert {layer["kind"] for layer in blocks(networks["videocrafter2"])["decoder 5"]["layers"]} == {
        "resnet", "time", "spatial", "temporal", "up",
    }  # fmt: skip
