"""Which 3D U-Net: every option of the released family, and the released networks by name (chapter 8)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class UNet3DConfig:
    """Everything that decides the shape of a :class:`UNet3D`. The defaults are VideoCrafter2's.

    Attributes:
        in_channels, out_channels: of the latents.
        model_channels: channels of the first level; all must be multiples of 32.
        channel_multipliers: channels of each level as multiples of ``model_channels``; each level halves the picture.
        res_blocks: ResNet blocks on each level of the encoder (the decoder has one more).
        attention_factors: the levels with transformers, by how much the picture is reduced there (1, 2, 4, ...). The
            middle always has them.
        head_channels: width of an attention head; if ``None``, every level has ``heads`` heads instead.
        context_channels: width of the context tokens; ``None`` for a network without context.
        spatial_depth, temporal_depth: transformer blocks in each spatial and temporal transformer.
        temporal_convolution: temporal convolutions in every ResNet block; ``"spatial"`` for kernels that span pixels.
        temporal_attention: temporal transformers after the spatial ones.
        temporal_cross_attention: their second attention asks the context. (The article says so; the released models
            leave it off and attend over time twice.)
        initial_temporal_attention: one more temporal transformer right after the first convolution.
        relative_positions: learned relative positions in the temporal transformers (VideoCrafter1 T2V).
        temporal_length: the frames the network was trained on, and the largest relative distance it knows.
        causal_attention: no frame attends to a later one.
        fps: embed the frame rate.
        default_fps: what ``fps=None`` means.
        image_attention: dual cross-attention to text and image tokens in the spatial transformers (I2V).
        temporal_image_attention: the same in the temporal transformers, where they ask the context.
        image_scale, text_tokens, image_tokens_per_frame: see :class:`vdmlib.attention.Attention`.
        scale_shift_norm, resample_in_res_blocks, convolutional_resampling, dropout: see :class:`vdmlib.ResBlock`.
        linear_projections: only changes the shapes under the released names (linear layers or 1 × 1 convolutions).
        activation_checkpointing: recompute each block in the backward pass instead of storing its activations.
    """

    in_channels: int = 4
    out_channels: int = 4
    model_channels: int = 320
    channel_multipliers: tuple[int, ...] = (1, 2, 4, 4)
    res_blocks: int = 2
    attention_factors: tuple[int, ...] = (1, 2, 4)
    head_channels: int | None = 64
    heads: int | None = None
    context_channels: int | None = 1024
    spatial_depth: int = 1
    temporal_depth: int = 1
    temporal_convolution: bool | str = True
    temporal_attention: bool = True
    temporal_cross_attention: bool = False
    initial_temporal_attention: bool = True
    relative_positions: bool = False
    temporal_length: int = 16
    causal_attention: bool = False
    fps: bool = True
    default_fps: int = 16
    image_attention: bool = False
    temporal_image_attention: bool = False
    image_scale: float | str = 1.0
    text_tokens: int = 77
    image_tokens_per_frame: int | None = None
    scale_shift_norm: bool = False
    resample_in_res_blocks: bool = False
    convolutional_resampling: bool = True
    dropout: float = 0.0
    linear_projections: bool = True
    activation_checkpointing: bool = False

    def __post_init__(self):
        optional = ("head_channels", "heads", "context_channels", "image_tokens_per_frame")
        counts = ("in_channels", "out_channels", "model_channels", "res_blocks", "spatial_depth", "temporal_depth")
        for name in (*counts, "temporal_length", "text_tokens", *optional):
            value = getattr(self, name)
            if not (isinstance(value, int) and value > 0) and not (value is None and name in optional):
                raise ValueError(f"{name} is {value!r}, but must be a whole number of at least 1.")
        if self.model_channels % 32:
            raise ValueError(
                f"model_channels is {self.model_channels}, but GroupNorm makes 32 groups: choose a multiple of 32."
            )
        if not (self.channel_multipliers and all(isinstance(m, int) and m > 0 for m in self.channel_multipliers)):
            raise ValueError(
                f"channel_multipliers is {self.channel_multipliers}, but needs a whole number of at least 1 for each "
                f"level."
            )
        if (self.head_channels is None) == (self.heads is None):
            raise ValueError(
                f"head_channels is {self.head_channels} and heads is {self.heads}, but one decides the other: set one "
                f"of them, and the other to None."
            )
        for channels in (multiplier * self.model_channels for multiplier in self.channel_multipliers):
            if channels % (self.head_channels or self.heads):
                heads = f"heads of {self.head_channels} channels" if self.head_channels else f"{self.heads} heads"
                raise ValueError(f"A level of {channels} channels cannot be split into {heads}: choose a divisor.")
        if any(factor not in (2**level for level in range(32)) for factor in self.attention_factors):
            raise ValueError(
                f"attention_factors is {self.attention_factors}, but the levels reduce the picture by 1, 2, 4, ...: "
                f"name some of these."
            )
        if self.temporal_convolution not in (True, False, "spatial"):
            raise ValueError(
                f"temporal_convolution is {self.temporal_convolution!r}, but must be True, False or 'spatial'."
            )
        if not (isinstance(self.image_scale, int | float) or self.image_scale == "learned"):
            raise ValueError(f"image_scale is {self.image_scale!r}, but must be a number or 'learned'.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, but must be a probability below 1.")
        if self.context_channels is None and (self.image_attention or self.temporal_cross_attention):
            raise ValueError(
                "image_attention and temporal_cross_attention ask a context, but context_channels is None: give the "
                "width of its tokens."
            )
        if self.temporal_image_attention and not (self.image_attention and self.temporal_cross_attention):
            raise ValueError(
                "temporal_image_attention also needs image_attention and temporal_cross_attention: set all three."
            )

    @property
    def levels(self) -> int:
        return len(self.channel_multipliers)

    def attention_heads(self, channels: int) -> dict[str, int]:
        """Number and width of the heads on a level with this many channels."""
        width = self.head_channels or channels // self.heads
        return {"heads": channels // width, "head_channels": width}

    @classmethod
    def videocrafter2(cls) -> "UNet3DConfig":
        """VideoCrafter2, text to video, 320 × 512 (``configs/inference_t2v_512_v2.0.yaml``)."""
        return cls()

    @classmethod
    def videocrafter1_t2v_512(cls) -> "UNet3DConfig":
        """VideoCrafter1, text to video, 320 × 512: relative positions, no temporal convolution, no FPS."""
        return cls(temporal_convolution=False, relative_positions=True, fps=False)

    @classmethod
    def videocrafter1_t2v_1024(cls) -> "UNet3DConfig":
        """VideoCrafter1, text to video, 576 × 1024: relative positions, no temporal convolution."""
        return cls(temporal_convolution=False, relative_positions=True)

    @classmethod
    def videocrafter1_i2v(cls) -> "UNet3DConfig":
        """VideoCrafter1, image to video, 320 × 512: VideoCrafter2's network with dual cross-attention."""
        return cls(image_attention=True)

    @classmethod
    def dynamicrafter_512(cls) -> "UNet3DConfig":
        """DynamiCrafter, 320 × 512: noisy latents and the latent of the given frame side by side, 8 channels."""
        return cls(in_channels=8, image_attention=True, image_tokens_per_frame=16, default_fps=24, dropout=0.1)

    @classmethod
    def small(cls) -> "UNet3DConfig":
        """58 million parameters in VideoCrafter2's arrangement: seconds for a forward pass on a laptop."""
        return cls(model_channels=64, head_channels=32, context_channels=256)

    @classmethod
    def tiny(cls) -> "UNet3DConfig":
        """Two levels with one block each, for tests and for pages that must be quick."""
        return cls(
            model_channels=32,
            channel_multipliers=(1, 2),
            res_blocks=1,
            attention_factors=(1, 2),
            head_channels=8,
            context_channels=24,
            temporal_length=4,
        )

    @classmethod
    def from_videocrafter(cls, params: Mapping[str, Any]) -> "UNet3DConfig":
        """Translate ``model.params.unet_config.params`` of a released YAML file, with the released defaults.

        Knows VideoCrafter's and DynamiCrafter's parameters; any other raises a ``ValueError`` that names it.
        """
        if not isinstance(params, Mapping):
            raise TypeError(
                f"The parameters are of type {type(params).__name__}, but must be a mapping: pass unet_config.params."
            )
        given = dict(params)
        take = given.pop
        unset = -1  # The released code's word for "not given".
        head_channels, heads = take("num_head_channels", unset), take("num_heads", unset)
        cross = not take("temporal_selfatt_only", True)
        learned_scale = take("image_cross_attention_scale_learnable", False)
        # DynamiCrafter has other names for the same things.
        dynamicrafter = "image_cross_attention" in given
        image_attention = take("image_cross_attention", False) | take("use_image_attention", False)
        # A released temporal transformer that asks the context ignores the causal flag.
        causal = take("use_causal_attention", False) and not cross
        convolution = take("temporal_conv", False)
        spatial = take("tempspatial_aware", False)
        try:
            config = cls(
                in_channels=take("in_channels"),
                out_channels=take("out_channels"),
                model_channels=take("model_channels"),
                channel_multipliers=tuple(take("channel_mult", (1, 2, 4, 8))),
                res_blocks=take("num_res_blocks"),
                attention_factors=tuple(sorted(take("attention_resolutions"))),
                head_channels=None if head_channels == unset else head_channels,
                heads=heads if head_channels == unset else None,
                context_channels=take("context_dim", None),
                spatial_depth=take("transformer_depth", 1),
                temporal_depth=take("temporal_transformer_depth", 1),
                temporal_convolution="spatial" if convolution and spatial else bool(convolution),
                temporal_attention=take("temporal_attention", True),
                temporal_cross_attention=cross,
                initial_temporal_attention=take("addition_attention", False),
                relative_positions=take("use_relative_position", True),
                temporal_length=take("temporal_length", None) or 16,
                causal_attention=causal,
                fps=take("fps_cond", False) | take("fs_condition", False),
                default_fps=take("default_fs", 16),
                image_attention=bool(image_attention),
                image_scale="learned" if learned_scale else 1.0,
                image_tokens_per_frame=16 if dynamicrafter else None,
                scale_shift_norm=take("use_scale_shift_norm", False),
                resample_in_res_blocks=take("resblock_updown", False),
                convolutional_resampling=take("conv_resample", True),
                dropout=take("dropout", 0.0),
                linear_projections=take("use_linear", False),
                activation_checkpointing=take("use_checkpoint", False),
            )
        except KeyError as error:
            raise ValueError(f"The released U-Net's parameters lack {error}: pass unet_config.params whole.") from None
        if take("dims", 2) != 2:
            raise ValueError("dims is not 2, but only networks with convolutions over pictures are known: use dims=2.")
        take("use_fp16", False)  # Here the dtype is chosen when the weights are loaded.
        if given:
            raise ValueError(f"Unknown parameters of a released U-Net: {', '.join(sorted(given))}; remove them.")
        return config
