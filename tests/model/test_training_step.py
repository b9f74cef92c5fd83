"""A training step through every option of the network."""

import dataclasses

import pytest
import torch
from golden_numbers import EXACT, relative_error
from tiny_networks import OPTIONS, modules, tiny_config, tiny_inputs, tiny_network
from torch import Tensor

from vdmlib import NoiseSchedule, ResBlock, SpatialTransformer, TemporalTransformer, UNet3D
from vdmlib.attention import Attention, FeedForward
from vdmlib.temporal import TemporalConvBlock, channels_last

every_option = pytest.mark.parametrize("option", OPTIONS)


def without_effect(net: UNet3D) -> set[str]:
    """Parameters that shift a channel which, at 32 channels, a norm with one channel a group then centres again."""
    names = set()
    for name, block in modules(net, ResBlock).items():
        if block.norm_out.num_channels == 32:
            names |= {
                f"{name}.{p}" for p in ("conv_in.bias", "embedding_projection.weight", "embedding_projection.bias")
            }
    for name, block in modules(net, TemporalConvBlock).items():
        if block.norms[0].num_channels == 32:
            names |= {f"{name}.convolutions.{i}.bias" for i in range(3)}
    return names


@every_option
def test_gradients_are_right_and_reach_every_parameter(option):
    """In double precision, along a random direction in all weights and inputs at once."""
    net = tiny_network(tiny_config(option)).double()
    generator = torch.Generator().manual_seed(0)
    inputs = {name: v.double() if v.is_floating_point() else v for name, v in tiny_inputs(net.config).items()}
    inputs["timesteps"] = torch.randint(0, 1000, inputs["x"].shape[:2], generator=generator)
    moved = [*net.parameters(), *(inputs[name].requires_grad_() for name in ("x", "context") if name in inputs)]
    directions = [
        torch.randn(m.shape, generator=generator, dtype=m.dtype) * m.detach().std(correction=0) for m in moved
    ]
    weight = torch.randn(inputs["x"].shape[:2], generator=generator)[..., None, None, None]

    def loss() -> Tensor:
        return (weight * net(**inputs)).mean()

    gradients = torch.autograd.grad(loss(), moved)
    expected = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    step, values = 1e-6, []
    with torch.no_grad():
        for distance in (step, -2 * step):
            for m, direction in zip(moved, directions, strict=True):
                m += distance * direction
            values.append(float(loss()))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(expected, rel=1e-5)

    names = [name for name, _ in net.named_parameters()]
    unused = {n for n, g in zip(names, gradients, strict=False) if float(g.abs().max()) < 1e-9}
    assert unused == without_effect(net)


@every_option
def test_a_fresh_network_outputs_exactly_zero(option):
    net = UNet3D(tiny_config(option))
    with torch.no_grad():
        assert not net(**tiny_inputs(net.config)).any()


@pytest.mark.parametrize(
    "fresh",
    [
        lambda x: TemporalConvBlock(32)(x),
        lambda x: ResBlock(32, 8, temporal_convolution=True)(x, torch.ones(2, 3, 8)),
        lambda x: SpatialTransformer(32, 2, 8, context_channels=24)(x, torch.ones(2, 5, 24)),
        lambda x: TemporalTransformer(32, 2, 8)(x),
    ],
    ids=["TemporalConvBlock", "ResBlock", "SpatialTransformer", "TemporalTransformer"],
)
def test_a_fresh_block_changes_nothing(fresh):
    x = torch.randn(2, 3, 32, 4, 4)
    assert torch.equal(fresh(x), x)


@pytest.mark.parametrize("option", ["videocrafter2", "videocrafter1_t2v_512", "dynamicrafter_256"])
def test_a_fresh_network_learns(option):
    """Four steps of Adam; in the first only the last convolution moves."""
    torch.manual_seed(0)
    net = UNet3D(tiny_config(option)).train()
    inputs, schedule = tiny_inputs(net.config), NoiseSchedule.videocrafter2()
    x0, noise = torch.randn_like(inputs["x"]), torch.randn_like(inputs["x"])
    inputs["x"] = schedule.add_noise(x0, noise, inputs["timesteps"])
    target = schedule.target(x0, noise, inputs["timesteps"])[:, :, : net.config.out_channels]
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = (net(**inputs) - target).square().mean()
        loss.backward()
        moving = {name for name, p in net.named_parameters() if p.grad.any()}
        assert losses or moving == {"conv_out.weight", "conv_out.bias"}
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.99 * losses[0]
    assert len(moving) == len(list(net.parameters()))


SOME = ["videocrafter2", "videocrafter1_t2v_512", "dynamicrafter_256", "temporal_cross_attention", "scale_shift_norm"]


@pytest.mark.parametrize("option", SOME)
@pytest.mark.parametrize("gradients", [True, False])
def test_what_a_layer_was_given_or_has_returned_is_not_overwritten(option, gradients):
    """Neither what a hook keeps, of the network or of a single layer in it, nor what is recorded for gradients."""
    net, seen = tiny_network(tiny_config(option)), []
    inputs = tiny_inputs(net.config)
    inputs["x"] = channels_last(inputs["x"])

    def keep(*values: object):
        seen.extend((value, value.clone()) for value in values if isinstance(value, Tensor))

    for layer in net.modules():
        layer.register_forward_pre_hook(lambda _, given: keep(*given))
        layer.register_forward_hook(lambda _, given, result: keep(result))
    keep(*inputs.values())
    with torch.set_grad_enabled(gradients):
        net(**inputs)
    assert len(seen) > len(list(net.modules())) and all(torch.equal(kept, then) for kept, then in seen)


@pytest.mark.parametrize("option", SOME)
def test_working_in_chunks_changes_nothing(option):
    """What is done a few tokens at a time in large networks, where nothing is recorded for a backward pass."""
    net = tiny_network(tiny_config(option), dtype=torch.float64)
    inputs = tiny_inputs(net.config, dtype=torch.float64)
    with torch.no_grad():
        whole = net(**inputs)
        rows, chunks = [], []
        for layer in (modules(net, Attention) | modules(net, FeedForward)).values():
            layer.tokens_at_once = 15
        for layer in modules(net, FeedForward).values():
            layer.register_forward_pre_hook(lambda _, given: rows.append(given[0].shape[:2].numel()))
            layer.widen.register_forward_hook(lambda _, given, __: chunks.append(given[0].shape[:-1].numel()))
        assert relative_error(net(**inputs), whole) < EXACT
    assert sum(chunks) == sum(rows) and max(chunks) == 15 and len(chunks) > 2 * len(rows)


@pytest.mark.parametrize("option", SOME)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 0.05), (torch.bfloat16, 0.3)])
def test_half_precision_stays_close(option, dtype, tolerance):
    net = tiny_network(tiny_config(option))
    inputs = tiny_inputs(net.config)
    with torch.no_grad():
        exact = net(**inputs)
        with torch.autocast("cpu", dtype):
            mixed = net(**inputs)
        narrow = net.to(dtype)(**{name: v.to(dtype) if v.is_floating_point() else v for name, v in inputs.items()})
    assert mixed.dtype == narrow.dtype == dtype
    assert relative_error(mixed, exact) < tolerance and relative_error(narrow, exact) < tolerance


def gradients(net: UNet3D, inputs: dict[str, Tensor]) -> list[Tensor]:
    torch.manual_seed(3)
    return torch.autograd.grad(net(**inputs).square().mean(), list(net.parameters()))


@pytest.mark.parametrize("option", ["videocrafter1_t2v_1024", "dynamicrafter_256", "dropout", "resample_in_res_blocks"])
def test_activation_checkpointing_changes_no_gradient(option):
    """In training mode, where dropout must draw the same numbers again."""
    plain = tiny_network(tiny_config(option), dtype=torch.float64).train()
    config = dataclasses.replace(plain.config, activation_checkpointing=True)
    saving = tiny_network(config, dtype=torch.float64).train()
    inputs = tiny_inputs(plain.config, dtype=torch.float64)
    for one, other in zip(gradients(plain, inputs), gradients(saving, inputs), strict=True):
        assert (one - other).abs().max() < EXACT


def test_activation_checkpointing_stores_less():
    def stored(option: str) -> int:
        net, sizes = tiny_network(tiny_config(option)), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.nbytes) or t, lambda t: t):
            net(**tiny_inputs(net.config))
        return sum(sizes)

    assert stored("activation_checkpointing") < 0.2 * stored("videocrafter2")


@pytest.mark.parametrize(
    "option, spatial, temporal", [("videocrafter2", 0, 0.1), ("dropout", 0.1, 0.1), ("temporal_dropout", 0, 0.2)]
)
def test_dropout_draws_in_training_only(option, spatial, temporal):
    """Temporal convolutions have it by default, as in the released code; ResNet blocks where it is asked for."""
    net = tiny_network(tiny_config(option))
    inputs = tiny_inputs(net.config)
    with torch.no_grad():
        assert torch.equal(net(**inputs), net(**inputs))
        net.train()
        assert not torch.equal(net(**inputs), net(**inputs))
    assert {block.dropout.p for block in modules(net, ResBlock).values()} == {spatial}
    assert {block.dropout.p for block in modules(net, TemporalConvBlock).values()} == {temporal}


@pytest.mark.parametrize("option", ["videocrafter2", "videocrafter1_i2v", "temporal_cross_attention"])
def test_a_context_cache_computes_keys_and_values_once(option):
    net = tiny_network(tiny_config(option), dtype=torch.float64)
    inputs, calls = tiny_inputs(net.config, dtype=torch.float64), []
    for name, module in net.named_modules():
        asks = "cross_attention" in name and ("spatial" in name or net.config.temporal_cross_attention)
        if asks and "initial" not in name and name.split(".")[-1].startswith(("to_k", "to_v")):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    with torch.no_grad():
        plain = [net(**inputs) for _ in range(3)]
        assert len(calls) == 3 * len(set(calls))
        layers, cache = set(calls), net.prepare_context(inputs["context"])
        calls.clear()
        cached = [net(**inputs | {"context": cache}) for _ in range(3)]
    assert sorted(calls) == sorted(layers)
    for one, other in zip(plain, cached, strict=True):
        assert relative_error(other, one) < EXACT


def test_a_context_cache_belongs_to_its_network():
    """Used by two networks in turn, it keeps their keys and values apart."""
    nets = [tiny_network(tiny_config(), seed, torch.float64) for seed in (0, 1)]
    inputs = tiny_inputs(nets[0].config, dtype=torch.float64)
    cache = nets[0].prepare_context(inputs["context"])
    with torch.no_grad():
        for net in (*nets, *nets):
            assert relative_error(net(**inputs | {"context": cache}), net(**inputs)) < EXACT
