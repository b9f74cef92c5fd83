"""The 3D U-Net of VideoCrafter, assembled from the parts of the other modules (chapter 8)."""

import dataclasses
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention import Attention, ContextCache, SpatialTransformer, TemporalTransformer
from .configuration import UNet3DConfig
from .embeddings import TimestepFPSEmbedding
from .resnet import Downsample, ResBlock, Upsample
from .temporal import channels_last


class InputBlock(nn.Module):
    """Encoder block 0: the first convolution, and a temporal transformer of its own (``init_attn``)."""

    def __init__(self, convolution: nn.Conv2d, temporal_transformer: TemporalTransformer | None):
        super().__init__()
        self.convolution = convolution
        self.temporal_transformer = temporal_transformer

    def forward(self, x: Float[Tensor, "b f c_in h w"], embedding: Tensor, context) -> Float[Tensor, "b f c h w"]:
        frames = self.convolution(rearrange(x, "b f c h w -> (b f) c h w"))
        x = rearrange(frames, "(b f) c h w -> b f c h w", b=x.shape[0])
        return x if self.temporal_transformer is None else self.temporal_transformer(x, context)


class UNetBlock(nn.ModuleDict):
    """A block of encoder, middle or decoder: its layers, one after the other, each given what it needs.

    The names tell the layers: ``resnet``, ``spatial_transformer``, ``temporal_transformer``, ``resnet_out``,
    ``downsample``, ``upsample``.
    """

    def forward(self, x: Float[Tensor, "b f c h w"], embedding: Float[Tensor, "b f e"], context) -> Tensor:
        for layer in self.values():
            if isinstance(layer, ResBlock):
                x = layer(x, embedding)
            elif isinstance(layer, SpatialTransformer | TemporalTransformer):
                x = layer(x, context)
            else:
                x = layer(x)
        return x


class UNet3D(nn.Module):
    """The denoiser of a latent video diffusion model.

    Equal, weight for weight, to the released network that ``config`` names (``UNetModel`` in
    ``lvdm/modules/networks/openaimodel3d.py``); :mod:`vdmlib.checkpoints` loads its weights.

    Example::

        net = vdmlib.UNet3D(vdmlib.UNet3DConfig.small())
        eps = net(x, timesteps, context=context, fps=24)        # x and eps: (b, f, c, h, w)
    """

    def __init__(self, config: UNet3DConfig):
        super().__init__()
        self.config = config
        embedding_channels = 4 * config.model_channels
        self.embedding = TimestepFPSEmbedding(config.model_channels, embedding_channels, config.fps)

        channels = config.model_channels
        first = nn.Conv2d(config.in_channels, channels, 3, padding=1)
        initial = None
        if config.initial_temporal_attention:
            width = config.head_channels or channels // config.heads
            initial = self._temporal_transformer(channels, config.spatial_depth, heads=8, head_channels=width)
        self.encoder_blocks = nn.ModuleList([InputBlock(first, initial)])
        skips = [channels]
        for level, multiplier in enumerate(config.channel_multipliers):
            for _ in range(config.res_blocks):
                self.encoder_blocks.append(self._block(channels, multiplier * config.model_channels, level))
                channels = multiplier * config.model_channels
                skips.append(channels)
            if level + 1 < config.levels:
                self.encoder_blocks.append(UNetBlock({"downsample": self._resample(channels, "down")}))
                skips.append(channels)

        self.middle = UNetBlock(
            {
                "resnet": self._resnet(channels, channels),
                **self._transformers(channels),
                "resnet_out": self._resnet(channels, channels),
            }
        )

        self.decoder_blocks = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(config.channel_multipliers))):
            for i in range(config.res_blocks + 1):
                block = self._block(channels + skips.pop(), multiplier * config.model_channels, level)
                channels = multiplier * config.model_channels
                if level > 0 and i == config.res_blocks:
                    block["upsample"] = self._resample(channels, "up")
                self.decoder_blocks.append(block)

        self.norm_out = nn.GroupNorm(32, channels)
        self.conv_out = nn.Conv2d(channels, config.out_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def _block(self, in_channels: int, out_channels: int, level: int) -> UNetBlock:
        attends = 2**level in self.config.attention_factors
        return UNetBlock(
            {
                "resnet": self._resnet(in_channels, out_channels),
                **(self._transformers(out_channels) if attends else {}),
            }
        )

    def _resnet(self, in_channels: int, out_channels: int) -> ResBlock:
        return ResBlock(
            in_channels,
            4 * self.config.model_channels,
            out_channels,
            self.config.temporal_convolution,
            self.config.scale_shift_norm,
            dropout=self.config.dropout,
        )

    def _resample(self, channels: int, direction: str) -> nn.Module:
        if self.config.resample_in_res_blocks:
            return ResBlock(
                channels,
                4 * self.config.model_channels,
                scale_shift_norm=self.config.scale_shift_norm,
                resample=direction,
                dropout=self.config.dropout,
            )
        return {"down": Downsample, "up": Upsample}[direction](channels, self.config.convolutional_resampling)

    def _transformers(self, channels: int) -> dict[str, nn.Module]:
        config, heads = self.config, self.config.attention_heads(channels)
        layers = {
            "spatial_transformer": SpatialTransformer(
                channels,
                context_channels=config.context_channels,
                depth=config.spatial_depth,
                **heads,
                **self._dual(config.image_attention),
            )
        }
        if config.temporal_attention:
            layers["temporal_transformer"] = self._temporal_transformer(channels, config.temporal_depth, **heads)
        return layers

    def _temporal_transformer(self, channels: int, depth: int, heads: int, head_channels: int) -> TemporalTransformer:
        config = self.config
        return TemporalTransformer(
            channels,
            heads,
            head_channels,
            depth=depth,
            context_channels=config.context_channels if config.temporal_cross_attention else None,
            max_distance=config.temporal_length if config.relative_positions else None,
            causal=config.causal_attention,
            # Over time each pixel attends to all image tokens of its video.
            **self._dual(config.temporal_image_attention) | {"image_tokens_per_frame": None},
        )

    def _dual(self, image_attention: bool) -> dict[str, Any]:
        if not image_attention:
            return {}
        config = self.config
        return dict(
            image_attention=True,
            image_scale=config.image_scale,
            text_tokens=config.text_tokens,
            image_tokens_per_frame=config.image_tokens_per_frame,
        )

    def forward(
        self,
        x: Float[Tensor, "b f c_in h w"],
        timesteps: Num[Tensor, " b"] | Num[Tensor, "b f"],
        context: Float[Tensor, "b m c2"] | ContextCache | None = None,
        fps: int | float | Num[Tensor, ""] | Num[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b f c_out h w"]:
        """Predict the noise (or whatever the network was trained to predict) in ``x``.

        Args:
            x: noisy latents; height and width divisible by 2 to the number of levels less one.
            timesteps: noise level of each video, or of each frame.
            context: text tokens, for I2V followed by image tokens; or a cache made by :meth:`prepare_context`.
            fps: frames per second, one number or one for each video; ``None`` means ``config.default_fps``.

        Raises:
            ValueError, TypeError: for anything that does not fit, in one sentence.
        """
        timesteps, fps = self._check(x, timesteps, context, fps)
        embedding = self.embedding(timesteps, fps)
        hidden = channels_last(x)
        skips = []
        for block in self.encoder_blocks:
            hidden = self._run(block, hidden, embedding, context)
            skips.append(hidden)
        hidden = self._run(self.middle, hidden, embedding, context)
        for block in self.decoder_blocks:
            hidden = torch.cat([hidden, skips.pop()], dim=2)
            hidden = self._run(block, hidden, embedding, context)
        frames = self.norm_out(rearrange(hidden, "b f c h w -> (b f) c h w"))
        frames = self.conv_out(F.silu(frames, inplace=True))
        return rearrange(frames, "(b f) c h w -> b f c h w", b=x.shape[0])

    def _run(self, block: nn.Module, hidden: Tensor, embedding: Tensor, context) -> Tensor:
        if self.config.activation_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, hidden, embedding, context, use_reentrant=False)
        return block(hidden, embedding, context)

    def prepare_context(self, context: Float[Tensor, "b m c"]) -> ContextCache:
        """Context tokens for repeated calls: each layer's keys and values are computed in the first one only."""
        self._check_context(context)
        return context if isinstance(context, ContextCache) else ContextCache(context)

    def slice_attention(self, tokens_at_once: int | None) -> None:
        """Let every self-attention take about so many tokens at a time, in less memory; ``None`` for all at once."""
        for module in self.modules():
            if isinstance(module, Attention):
                module.tokens_at_once = tokens_at_once

    def _check(self, x, timesteps, context, fps) -> tuple[Tensor, Tensor | None]:
        config = self.config
        self._check_type("x", x)
        if x.ndim != 5 or x.shape[2] != config.in_channels:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, but this network needs (batch, frames, {config.in_channels}, height, "
                f"width): the frames come before the channels."
            )
        b, f, _, h, w = x.shape
        multiple = 2 ** (config.levels - 1)
        if not x.numel():
            raise ValueError(f"x has shape {tuple(x.shape)}, which is empty: pass at least one video of one frame.")
        if h % multiple or w % multiple:
            raise ValueError(
                f"The latents are {h} × {w}, but they are halved {config.levels - 1} times: make height and width "
                f"multiples of {multiple}."
            )
        if not isinstance(timesteps, Tensor):
            raise TypeError(f"timesteps is of type {type(timesteps).__name__}, but must be a tensor.")
        if timesteps.shape not in ((b,), (b, f)):
            raise ValueError(
                f"timesteps has shape {tuple(timesteps.shape)}, but needs one for each video, ({b},), or one for each "
                f"frame, ({b}, {f})."
            )
        timesteps = timesteps.to(x.device)
        timesteps = timesteps if timesteps.ndim == 2 else repeat(timesteps, "b -> b f", f=f)
        if context is not None or config.context_channels is not None:
            self._check_context(context, b)
        if not config.fps:
            return timesteps, None
        fps = config.default_fps if fps is None else fps
        if not isinstance(fps, Tensor) and not (isinstance(fps, Real) and fps > 0):
            raise ValueError(f"fps is {fps!r}, but must be a number above 0, or a tensor with one for each video.")
        fps = fps.to(x.device) if isinstance(fps, Tensor) else torch.tensor(fps, device=x.device)
        if fps.shape not in ((), (b,)):
            raise ValueError(f"fps has shape {tuple(fps.shape)}, but needs one number, or one for each video, ({b},).")
        return timesteps, fps.expand(b)

    def _check_type(self, name: str, value):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} is of type {type(value).__name__}, but must be a tensor.")
        dtype = self.conv_out.weight.dtype
        if value.dtype != dtype and not (value.is_floating_point() and torch.is_autocast_enabled(value.device.type)):
            raise TypeError(f"{name} is {value.dtype}, but the weights are {dtype}: convert one with .to(dtype).")

    def _check_context(self, context, batch: int | None = None):
        channels = self.config.context_channels
        if channels is None:
            raise ValueError("A context was given, but this network has none (context_channels=None): leave it out.")
        if context is None:
            raise ValueError(
                f"context is missing: pass the text tokens, (batch, tokens, {channels}); for an unconditional sample, "
                f"those of the empty prompt."
            )
        tokens = context.tokens if isinstance(context, ContextCache) else context
        self._check_type("context", tokens)
        fits = tokens.ndim == 3 and tokens.shape[1] > 0 and tokens.shape[2] == channels
        if not fits or (batch is not None and tokens.shape[0] != batch):
            raise ValueError(
                f"context has shape {tuple(tokens.shape)}, but this network needs ({batch or 'batch'}, tokens, "
                f"{channels}): one row of tokens for each video."
            )
        if self.config.image_attention and tokens.shape[1] <= self.config.text_tokens:
            raise ValueError(
                f"context has {tokens.shape[1]} tokens, but this network needs {self.config.text_tokens} text tokens "
                f"and image tokens after them: concatenate both."
            )


@dataclass(frozen=True)
class BlockRow:
    """One row of the dimension table. Shapes are (batch, frames, channels, height, width)."""

    name: str
    part: str
    layers: tuple[str, ...]
    input_shape: tuple[int, ...]
    skip_channels: int
    output_shape: tuple[int, ...]
    parameters: int


def dimension_table(
    config: UNet3DConfig, frames: int = 16, height: int = 40, width: int = 64, batch: int = 1
) -> list[BlockRow]:
    """What goes in and out of every block, found by running the network on the ``meta`` device (no memory, no time).

    ``skip_channels`` of a decoder block says how many of its input channels came over the skip connection.
    """
    with torch.device("meta"):
        net = UNet3D(dataclasses.replace(config, activation_checkpointing=False))
        x = torch.empty(batch, frames, config.in_channels, height, width)
        tokens = config.text_tokens + 16 * config.image_attention
        context = None if config.context_channels is None else torch.empty(batch, tokens, config.context_channels)
        timesteps = torch.zeros(batch, dtype=torch.long)

    first = net.encoder_blocks[0]
    named: list[tuple[str, str, nn.Module]] = [("encoder 0", "encoder", first.convolution)]
    if first.temporal_transformer is not None:
        named.append(("initial temporal attention", "init_attention", first.temporal_transformer))
    named += [(f"encoder {i}", "encoder", block) for i, block in enumerate(net.encoder_blocks) if i]
    named += [("middle", "middle", net.middle)]
    named += [(f"decoder {i}", "decoder", block) for i, block in enumerate(net.decoder_blocks)]
    named += [("out", "out", net.conv_out)]

    def as_video(shape: torch.Size) -> tuple[int, ...]:
        return tuple(shape) if len(shape) == 5 else (batch, frames, *shape[1:])

    rows: list[BlockRow] = []
    encoder_channels: list[int] = []

    def record(name: str, part: str, module: nn.Module):
        layers = [type(layer).__name__ for layer in module.values()] if isinstance(module, UNetBlock) else None

        def hook(module, inputs, output):
            parameters = sum(p.numel() for p in module.parameters())
            if part == "out":
                parameters += sum(p.numel() for p in net.norm_out.parameters())
            skip = encoder_channels.pop() if part == "decoder" else 0
            if part == "encoder":
                encoder_channels.append(output.shape[-3])
            rows.append(
                BlockRow(
                    name,
                    part,
                    tuple(layers or [type(module).__name__]),
                    as_video(inputs[0].shape),
                    skip,
                    as_video(output.shape),
                    parameters,
                )
            )

        return hook

    hooks = [module.register_forward_hook(record(name, part, module)) for name, part, module in named]
    with torch.no_grad():
        net(x, timesteps, context=context, fps=config.default_fps)
    for hook in hooks:
        hook.remove()
    return rows
