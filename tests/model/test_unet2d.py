"""The 2D U-Net of chapter 2."""

import jaxtyping
import pytest
import torch
from golden_numbers import EXACT, relative_error
from torch import nn

from vdmlib.shapes import shape_table
from vdmlib.unet2d import ConvBlock, UNet2D

WIDTHS = (8, 16, 24)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return UNet2D(in_channels=3, out_channels=2, widths=WIDTHS)


@pytest.fixture
def x():
    return torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(1))


SIGMA = torch.tensor([0.3, 0.9])


def test_shapes_follow_the_picture(net, x):
    assert net(x, SIGMA).shape == (2, 2, 16, 24)
    assert net(x[:1, :, :8, :4], SIGMA[:1]).shape == (1, 2, 8, 4)


def test_forward_is_push_middle_pop(net, x):
    net, x, sigma = net.double(), x.double(), SIGMA.double()
    h = torch.cat([x, sigma.reshape(2, 1, 1, 1).expand(2, 1, 16, 24)], dim=1)
    e0 = net.encoder_blocks[0](h)
    e1 = net.encoder_blocks[1](e0)
    e2 = net.encoder_blocks[2](e1)
    h = net.decoder_blocks[0](torch.cat([net.middle(e2), e2], dim=1))
    h = net.decoder_blocks[1](torch.cat([h, e1], dim=1))
    h = net.decoder_blocks[2](torch.cat([h, e0], dim=1))
    assert relative_error(net(x, sigma), net.out(h)) < EXACT


def silence_bottom(net):
    return net.middle.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))


def test_skips_carry_the_picture_past_a_silent_bottom(net, x):
    plain = UNet2D(in_channels=3, out_channels=2, widths=WIDTHS, skip_connections=False)
    for network, passes in ((net, True), (plain, False)):
        silence_bottom(network)
        moved = (network(x, SIGMA) - network(-x, SIGMA)).abs().max()
        assert (moved > 1e-3) == passes


@pytest.mark.parametrize("number", range(len(WIDTHS)))
def test_each_skip_is_used(net, x, number):
    before = net(x, SIGMA)

    def without_the_skip(module, inputs):
        (joined,) = inputs
        c = joined.shape[1] // 2
        return (torch.cat([joined[:, :c], torch.zeros_like(joined[:, c:])], dim=1),)

    net.decoder_blocks[number].register_forward_pre_hook(without_the_skip)
    assert (net(x, SIGMA) - before).abs().max() > 1e-3


def test_noise_level_matters_and_belongs_to_its_picture(net, x):
    net, x = net.double(), x.double()
    before = net(x, SIGMA.double())
    after = net(x, torch.tensor([0.3, 0.1]).double())
    assert relative_error(after[0], before[0]) < EXACT
    assert (after[1] - before[1]).abs().max() > 1e-3


@pytest.mark.parametrize("skip_connections", [True, False])
def test_every_parameter_gets_a_gradient(x, skip_connections):
    torch.manual_seed(0)
    net = UNet2D(in_channels=3, out_channels=2, widths=WIDTHS, skip_connections=skip_connections)
    net(x, SIGMA).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_receptive_field_of_the_encoder_follows_the_formula():
    net = UNet2D(widths=WIDTHS).double()
    path, field, jump = nn.Sequential(), 1, 1
    for block in net.encoder_blocks:
        for layer in block.modules():
            if isinstance(layer, nn.Conv2d):
                path.append(layer)
                field, jump = field + (layer.kernel_size[0] - 1) * jump, jump * layer.stride[0]
        x = torch.randn(1, 2, 96, 96, dtype=torch.double, requires_grad=True)
        middle = 48 // jump
        path(x)[0, :, middle, middle].sum().backward()
        seen = x.grad.abs().sum(dim=(0, 1)) > 0
        assert int(seen.any(dim=0).sum()) == int(seen.any(dim=1).sum()) == field
    assert field == 35


def test_shape_table_is_what_runs():
    net = UNet2D(widths=WIDTHS)
    rows = shape_table(net, 16, 24, batch=2)
    assert [row.name for row in rows] == [
        "encoder 0", "encoder 1", "encoder 2", "middle", "decoder 0", "decoder 1", "decoder 2", "out",
    ]  # fmt: skip
    assert [row.output_shape for row in rows] == [
        (2, 8, 16, 24), (2, 16, 8, 12), (2, 24, 4, 6), (2, 24, 4, 6),
        (2, 16, 8, 12), (2, 8, 16, 24), (2, 8, 16, 24), (2, 1, 16, 24),
    ]  # fmt: skip
    assert [row.skip_channels for row in rows] == [0, 0, 0, 0, 24, 16, 8, 0]
    assert [row.input_shape[1] for row in rows] == [2, 8, 16, 24, 48, 32, 16, 8]
    assert rows[0].layers == ("ConvBlock",)
    assert rows[4].layers == ("ConvBlock", "DoubleResolution")
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in net.parameters())
    assert not net.out._forward_hooks
    assert all(row.skip_channels == 0 for row in shape_table(UNet2D(skip_connections=False), 8, 8))


@pytest.mark.parametrize("widths", [(), (12, 16), (8, 0), (-8,)])
def test_widths_that_cannot_be_grouped(widths):
    with pytest.raises(ValueError, match="multiple of 8"):
        UNet2D(widths=widths)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((2, 3, 14, 24), "14 × 24.*halved 2 times.*multiples of 4"),
        ((2, 3, 16, 22), "16 × 22"),
        ((2, 1, 16, 24), r"\(2, 1, 16, 24\).*needs \(batch, 3, height, width\)"),
    ],
)
def test_pictures_that_do_not_fit(net, shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        net(torch.zeros(shape), SIGMA)


def test_shapes_that_the_signature_forbids_get_a_sentence(net, x):
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError, match="x has 2 pictures"):
            net(x, SIGMA[:1])
        with pytest.raises(ValueError, match="pass a batch"):
            net(x[0], SIGMA)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_conv_block_normalises():
    y = ConvBlock(3, 16)(100 * torch.randn(2, 3, 8, 8) + 50)
    assert y.abs().max() < 20
