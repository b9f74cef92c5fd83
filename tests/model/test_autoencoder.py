"""The autoencoder: shapes, variance, frame by frame, and that it can learn."""

import pytest
import torch
from golden_numbers import EXACT, relative_error

from vdmlib.autoencoder import Autoencoder, ResidualBlock, psnr
from vdmlib.small import data


@pytest.fixture(scope="module")
def video():
    return data.MovingDigits().batch(range(4)).video


def test_an_eighth_of_height_and_width(video):
    net = Autoencoder().eval()
    latents = net.encode(video)
    assert latents.shape == (4, 8, 8, 8, 8)
    assert net.decode(latents).shape == video.shape


def test_latents_have_mean_zero_and_variance_one(video):
    latents = Autoencoder().double().train().encode(video.double())
    assert latents.mean(dim=(0, 1, 3, 4)).abs().max() < EXACT
    assert (latents.std(dim=(0, 1, 3, 4)) - 1).abs().max() < 1e-2


def test_frames_do_not_see_each_other(video):
    net, video = Autoencoder().double().eval(), video.double()
    changed = video.clone()
    changed[:, 3] = 0
    before, after, others = net(video), net(changed), [0, 1, 2, 4, 5, 6, 7]
    assert relative_error(after[:, 3], before[:, 3]) > 0.01
    assert relative_error(after[:, others], before[:, others]) < EXACT


def test_noise_on_the_latents_only_in_training(video):
    net = Autoencoder()
    torch.manual_seed(0)
    noisy, again = net.train()(video), net.train()(video)
    assert not torch.equal(noisy, again)
    assert torch.equal(net.eval()(video), net.eval()(video))


def test_it_learns_to_reproduce_a_clip(video):
    torch.manual_seed(0)
    net = Autoencoder().train()
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    before = psnr(net(video), video)
    for _ in range(30):
        optimizer.zero_grad()
        (net(video[:2, ::2]) - video[:2, ::2]).square().mean().backward()
        optimizer.step()
    assert psnr(net(video[:2, ::2]), video[:2, ::2]) > max(before, 0) + 8


def test_psnr():
    a = torch.zeros(2, 3, dtype=torch.float64)
    assert psnr(a, a + 0.2) == pytest.approx(20.0, rel=EXACT)  # 10 · log10(2² / 0.2²)


def test_sizes_that_do_not_fit_are_explained():
    with pytest.raises(ValueError, match="multiples of 8"):
        Autoencoder().encode(torch.zeros(1, 1, 3, 60, 64))


@pytest.mark.parametrize("channels", [(16, 32, 96), (8, 8, 8), (16, 8)])
def test_each_level_of_the_decoder_but_the_first_has_a_residual_block_more(channels):
    """Beside the two at its start, whether or not the levels differ in width."""
    net = Autoencoder(channels=channels)
    blocks = [isinstance(layer, ResidualBlock) for layer in net.decoder]
    assert sum(blocks) == 2 + len(channels) - 1
    assert net.decode(net.encode(torch.zeros(1, 2, 3, 16, 24))).shape == (1, 2, 3, 16, 24)
