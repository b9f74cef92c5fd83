"""The recorded run that comes with the library is the golden one, weights and all."""

import hashlib
import json

import pytest
import torch
from einops import rearrange
from golden_numbers import MARGIN, case, relative_error
from safetensors.torch import save_file

import vdmlib
from vdmlib.released.checkpoints import unet_from_videocrafter
from vdmlib.released.trace import FILE, excerpt, recorded_trace

GOLDEN = ("unet_trace", "t2v/released_topology_sampled")
PARTS = {"input_blocks.": "encoder ", "output_blocks.": "decoder "}
NAMES = {"time_embed": "embedding", "init_attn": "init_attention", "middle_block": "middle", "y": "output"}


def our_name(theirs: str) -> str:
    for their_part, our_part in PARTS.items():
        theirs = theirs.replace(their_part, our_part)
    return NAMES.get(theirs, theirs)


def as_video(x: torch.Tensor) -> torch.Tensor:
    return rearrange(x, "b c f h w -> b f c h w").contiguous()


def from_golden() -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """What the file holds, made from the golden numbers."""
    golden = case(*GOLDEN)
    tensors = {f"in/{name}": as_video(t) if name == "x" else t for name, t in golden.inputs().items()}
    tensors |= {f"out/{our_name(n)}": as_video(t) if n == "y" else t for n, t in golden.outputs().items()}
    # In the order in which the blocks run; the result is made last.
    order = sorted(golden.outputs(), key=lambda name: name == "y")
    about = {
        "config": golden.meta["config"],
        "seed": golden.meta["seed"],
        "rounding": {our_name(name): golden.noise(name) for name in order},
    }
    return tensors, {"about": json.dumps(about)}


def write():
    """Make the shipped file again: ``PYTHONPATH=.:tests/helpers python -c 'from test_trace import write; write()'``."""
    save_file(*(from_golden()[0], FILE), metadata=from_golden()[1])


def test_the_file_holds_the_golden_numbers_bit_by_bit():
    tensors, metadata = from_golden()
    trace, about = recorded_trace(), json.loads(metadata["about"])
    found = {f"in/{n}": t for n, t in trace.inputs.items()} | {f"out/{n}": t for n, t in trace.outputs.items()}
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert trace.rounding == about["rounding"] and trace.seed == about["seed"]
    assert trace.config == vdmlib.UNet3DConfig.from_videocrafter(about["config"])


def test_blocks_are_listed_in_the_order_in_which_they_run():
    with torch.device("meta"):
        blocks = list(vdmlib.UNet3D(recorded_trace().config).named_blocks())
    assert list(recorded_trace().outputs) == ["embedding", *blocks[:-1], "output"]


def test_its_weights_are_the_golden_ones():
    golden, trace = case(*GOLDEN), recorded_trace()
    weights, digest = trace.weights(), hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + b"\0" + weights[name].numpy().tobytes())
    assert digest.hexdigest() == golden.meta["sd_sha256"]


@pytest.mark.parametrize("changed", [False, True])
def test_the_library_agrees_and_a_changed_weight_is_seen(changed):
    trace = recorded_trace()
    net, seen = unet_from_videocrafter(trace.weights(), trace.config).double(), {}
    if changed:
        net.decoder_blocks[7]["resnet"].conv_in.weight.data[0, 0, 0, 0] += 1.0
    for name, block in net.named_blocks().items():
        block.register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, excerpt(out)))
    inputs = {n: t.double() if t.is_floating_point() else t for n, t in trace.inputs.items()}
    with torch.no_grad():
        seen["output"] = net(**inputs)
        seen["embedding"] = excerpt(
            net.embedding.timestep_mlp(
                vdmlib.sinusoidal_embedding(inputs["timesteps"], trace.config.model_channels).double()
            )
        )
    wrong = [n for n, t in trace.outputs.items() if relative_error(seen[n], t) > MARGIN * trace.rounding[n]]
    late = list(trace.outputs)[list(trace.outputs).index("decoder 7") :]
    assert wrong == (late if changed else [])
