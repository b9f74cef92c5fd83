"""What goes in and out of every block of a U-Net, found by running it (chapters 2 and 8)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from .checks import check_callable, check_instance, check_number
from .configuration import UNet3DConfig
from .unet2d import UNet2D
from .unet3d import UNet3D, UNetBlock


@dataclass(frozen=True)
class BlockRow:
    """One row of a table of shapes: (b, c, h, w) in a network for pictures, (b, f, c, h, w) in one for videos.

    ``skip_channels`` of a decoder block says how many of its input channels came over the skip connection.
    """

    name: str
    layers: tuple[str, ...]
    input_shape: tuple[int, ...]
    skip_channels: int
    output_shape: tuple[int, ...]
    parameters: int

    @property
    def part(self) -> str:
        """The name without its number: "encoder", "init_attention", "middle", "decoder" or "out"."""
        return self.name.rstrip(" 0123456789")


def block_rows(blocks: Mapping[str, nn.Module], run: Callable[[], object]) -> list[BlockRow]:
    """One row for each of the named blocks, in the order in which they return while ``run()`` runs."""
    check_instance("blocks", blocks, Mapping, "net.named_blocks()")
    check_callable("run", run, "lambda: net(x, timesteps)")
    rows: list[BlockRow] = []

    def record(name: str, block: nn.Module, inputs: tuple, output: Tensor) -> None:
        shape = tuple(inputs[0].shape)
        # What a decoder block is given besides the result of the block before, the skip connection has brought.
        skip_channels = shape[-3] - rows[-1].output_shape[-3] if name.startswith("decoder") else 0
        layers = block.children() if isinstance(block, UNetBlock) or type(block) is nn.Sequential else [block]
        kinds = tuple(type(layer).__name__ for layer in layers)
        rows.append(BlockRow(name, kinds, shape, skip_channels, tuple(output.shape), count_parameters(block)))

    hooks = [block.register_forward_hook(partial(record, name)) for name, block in blocks.items()]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return rows


def count_parameters(module: nn.Module) -> int:
    check_instance("module", module, nn.Module, "UNet3D(config)")
    return sum(p.numel() for p in module.parameters())


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        check_number(name, size, 1, whole=True)


def shape_table(net: UNet2D, height: int, width: int, batch: int = 1) -> list[BlockRow]:
    """What goes in and out of every block of a 2D U-Net for pictures of this size."""
    check_instance("net", net, UNet2D, "UNet2D()")
    _check_sizes(height=height, width=width, batch=batch)
    like = net.out.weight
    x, noise_level = like.new_zeros(batch, net.in_channels, height, width), like.new_zeros(batch)
    return block_rows(net.named_blocks(), lambda: net(x, noise_level))


def dimension_table(
    config: UNet3DConfig, frames: int = 16, height: int = 40, width: int = 64, batch: int = 1
) -> list[BlockRow]:
    """What goes in and out of every block of a 3D U-Net, found on the ``meta`` device: no memory, no time.

    Height and width are those of the latents.
    """
    check_instance("config", config, UNet3DConfig, "UNet3DConfig.videocrafter2()")
    _check_sizes(frames=frames, height=height, width=width, batch=batch)
    with torch.device("meta"):
        net = UNet3D(config)
        x, timesteps = torch.empty(batch, frames, config.in_channels, height, width), torch.zeros(batch)
        context = None
        if config.context_channels is not None:  # One token more than the text's stands for the image.
            context = torch.empty(batch, config.text_tokens + 1, config.context_channels)
    rows = block_rows(net.named_blocks(), lambda: net(x, timesteps, context=context))

    def as_video(shape: tuple[int, ...]) -> tuple[int, ...]:  # Convolutions over space see all frames as one batch.
        return shape if len(shape) == 5 else (batch, frames, *shape[1:])

    # The norm before the last convolution belongs to no block.
    rows[-1] = replace(rows[-1], parameters=rows[-1].parameters + count_parameters(net.norm_out))
    return [replace(r, input_shape=as_video(r.input_shape), output_shape=as_video(r.output_shape)) for r in rows]
