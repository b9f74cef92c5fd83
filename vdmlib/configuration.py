"""Which 3D U-Net: every option of the released family, and the released networks by name (chapter 8)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from .checks import (
    check_attention_factors,
    check_bool,
    check_context_settings,
    check_heads,
    check_level_channels,
    check_number,
    check_probability,
    check_released_settings,
    check_temporal_convolution,
    check_whole_numbers,
)

NEEDED = object()  # In place of a default: the released code has none.
UNSET = -1  # The released code's word for a number of heads, or of their channels, that is not given.

# Parameters of the released ``UNetModel`` that mean one field here: their name, the field, and their default.
RELEASED: dict[str, tuple[str, Any]] = {
    "in_channels": ("in_channels", NEEDED),
    "out_channels": ("out_channels", NEEDED),
    "model_channels": ("model_channels", NEEDED),
    "channel_mult": ("channel_multipliers", (1, 2, 4, 8)),
    "num_res_blocks": ("res_blocks", NEEDED),
    "attention_resolutions": ("attention_factors", NEEDED),
    "num_head_channels": ("head_channels", UNSET),
    "num_heads": ("heads", UNSET),
    "context_dim": ("context_channels", None),
    "transformer_depth": ("spatial_depth", 1),
    "temporal_conv": ("temporal_convolution", False),
    "temporal_attention": ("temporal_attention", True),
    "temporal_transformer_depth": ("temporal_depth", 1),
    "addition_attention": ("initial_temporal_attention", False),
    "use_relative_position": ("relative_positions", True),
    "temporal_length": ("temporal_length", None),
    "use_causal_attention": ("causal_attention", False),
    "fps_cond": ("use_fps", False),
    "default_fs": ("default_fps", 16),
    "use_image_attention": ("image_attention", False),
    "use_scale_shift_norm": ("scale_shift_norm", False),
    "resblock_updown": ("resample_in_res_blocks", False),
    "conv_resample": ("convolutional_resampling", True),
    "dropout": ("dropout", 0.0),
    "use_linear": ("linear_projections", False),
    "use_checkpoint": ("activation_checkpointing", False),
}
# Those that change what another one means, or nothing here.
RELEASED_BESIDES: dict[str, Any] = {
    "tempspatial_aware": False,
    "temporal_selfatt_only": True,
    "fs_condition": False,
    "image_cross_attention": False,
    "image_cross_attention_scale_learnable": False,
    "dims": 2,
    "use_fp16": False,  # Here the dtype is chosen when the weights are loaded.
}


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
        spatial_depth: transformer blocks in each spatial transformer.
        temporal_convolution: temporal convolutions in every ResNet block; ``"spatial"`` for kernels that span pixels.
        temporal_dropout: in the temporal convolutions, in training.
        temporal_attention: temporal transformers after the spatial ones.
        temporal_depth: transformer blocks in each temporal transformer.
        temporal_cross_attention: their second attention asks the context. (The article says so; the released models
            leave it off and attend over time twice.)
        initial_temporal_attention: one more temporal transformer right after the first convolution.
        relative_positions: learned relative positions in the temporal transformers (VideoCrafter1 T2V).
        temporal_length: the frames the network was trained on, and the largest relative distance it knows.
        causal_attention: no frame attends to a later one.
        use_fps: embed the frame rate.
        default_fps: what ``fps=None`` means.
        image_attention: dual cross-attention to text and image tokens in the spatial transformers (I2V).
        temporal_image_attention: the same in the temporal transformers, where they ask the context. Without it they ask
            the text tokens alone (DynamiCrafter's class); with ``"joint"`` one softmax spans text and image tokens
            (VideoCrafter's class, and the book's ``i2v``).
        image_scale, text_tokens, image_tokens_per_frame: see :class:`vdmlib.attention.ImageTokens`.
        scale_shift_norm, dropout: see :class:`vdmlib.ResBlock`.
        resample_in_res_blocks: ResNet blocks halve and double the picture, instead of single layers.
        convolutional_resampling: those single layers are convolutions.
        linear_projections: only changes the shapes under the released names (linear layers or 1 × 1 convolutions).
        activation_checkpointing: recompute each block in the backward pass instead of storing its activations.
    """

    # Size
    in_channels: int = 4
    out_channels: int = 4
    model_channels: int = 320
    channel_multipliers: tuple[int, ...] = (1, 2, 4, 4)
    res_blocks: int = 2

    # Attention in space and to the context
    attention_factors: tuple[int, ...] = (1, 2, 4)
    head_channels: int | None = 64
    heads: int | None = None
    context_channels: int | None = 1024
    spatial_depth: int = 1

    # Time
    temporal_convolution: bool | Literal["spatial"] = True
    temporal_dropout: float = 0.1
    temporal_attention: bool = True
    temporal_depth: int = 1
    temporal_cross_attention: bool = False
    initial_temporal_attention: bool = True
    relative_positions: bool = False
    temporal_length: int = 16
    causal_attention: bool = False

    # Frame rate
    use_fps: bool = True
    default_fps: int = 16

    # Image to video
    image_attention: bool = False
    temporal_image_attention: bool | Literal["joint"] = False
    image_scale: float | Literal["learned"] = 1.0
    text_tokens: int = 77
    image_tokens_per_frame: int | None = None

    # ResNet blocks and changes of resolution
    scale_shift_norm: bool = False
    dropout: float = 0.0
    resample_in_res_blocks: bool = False
    convolutional_resampling: bool = True

    # Files and training
    linear_projections: bool = True
    activation_checkpointing: bool = False

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is bool:
                check_bool(field.name, value)
            elif field.type is int or (field.type == int | None and value is not None):
                object.__setattr__(self, field.name, check_number(field.name, value, 1, 2**31 - 1, whole=True))
        check_temporal_convolution(self.temporal_convolution)
        check_probability("temporal_dropout", self.temporal_dropout)
        check_probability("dropout", self.dropout)
        check_level_channels(self.model_channels, self.channel_multipliers)
        check_heads(self.head_channels, self.heads, [m * self.model_channels for m in self.channel_multipliers])
        check_attention_factors(self.attention_factors)
        check_context_settings(self)
        self._make_plain()

    def _make_plain(self) -> None:
        """Numbers of Python's own, whatever library's they were: those can be written into a file."""
        for name in ("channel_multipliers", "attention_factors"):
            object.__setattr__(self, name, tuple(map(int, getattr(self, name))))
        for name in ("dropout", "temporal_dropout", "image_scale"):
            if not isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, check_number(name, value))

    @property
    def levels(self) -> int:
        return len(self.channel_multipliers)

    def attention_heads(self, channels: int) -> dict[str, int]:
        """Number and width of the heads on a level with this many channels."""
        width = self.head_channels or channels // (self.heads or 1)  # One of the two is set.
        return {"heads": channels // width, "head_channels": width}

    @classmethod
    def videocrafter2(cls) -> "UNet3DConfig":
        """VideoCrafter2, text to video, 320 × 512 (``configs/inference_t2v_512_v2.0.yaml``)."""
        return cls()

    @classmethod
    def videocrafter1_t2v_512(cls) -> "UNet3DConfig":
        """VideoCrafter1, text to video, 320 × 512: relative positions, no temporal convolution, no FPS."""
        return cls(temporal_convolution=False, relative_positions=True, use_fps=False)

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
        needed = [name for name, (_, default) in RELEASED.items() if default is NEEDED]
        check_released_settings(params, RELEASED.keys() | RELEASED_BESIDES.keys(), needed, "unet_config.params")
        for name in ("channel_mult", "attention_resolutions"):
            if name in params:
                check_whole_numbers(name, params[name])
        given: dict[str, Any] = {field: params.get(name, default) for name, (field, default) in RELEASED.items()}
        besides = {name: params.get(name, default) for name, default in RELEASED_BESIDES.items()}

        cross = not besides["temporal_selfatt_only"]
        dynamicrafter = "image_cross_attention" in params  # It has other names for the same things.
        heads_given = given["head_channels"] == UNSET  # Else their width decides.
        changed: dict[str, Any] = dict(
            channel_multipliers=tuple(given["channel_multipliers"]),
            attention_factors=tuple(sorted(given["attention_factors"])),
            head_channels=None if heads_given else given["head_channels"],
            heads=given["heads"] if heads_given else None,
            temporal_convolution=(
                "spatial"
                if given["temporal_convolution"] and besides["tempspatial_aware"]
                else given["temporal_convolution"]
            ),
            temporal_cross_attention=cross,
            temporal_length=given["temporal_length"] or 16,
            # A released temporal transformer that asks the context ignores the causal flag.
            causal_attention=given["causal_attention"] and not cross,
            use_fps=given["use_fps"] or besides["fs_condition"],
            image_attention=given["image_attention"] or besides["image_cross_attention"],
            image_scale="learned" if besides["image_cross_attention_scale_learnable"] else 1.0,
            image_tokens_per_frame=16 if dynamicrafter else None,
            temporal_image_attention="joint" if cross and given["image_attention"] else False,
        )
        return cls(**given | changed)
