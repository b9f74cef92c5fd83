"""The book's small video model: its networks, and how it samples (chapters 1 and 9)."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, SupportsIndex

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..autoencoder import Autoencoder
from ..checks import (
    check_choice,
    check_first_frames,
    check_frames_beside,
    check_given_latents,
    check_instance,
    check_number,
    check_rates,
    check_small_pictures,
)
from ..configuration import UNet3DConfig
from ..diffusion import NoiseSchedule
from ..inference import unwrapped
from ..sampling import SamplingStep, draw_noise, noise_streams, sample_ddim
from ..unet3d import UNet3D
from . import data

IMAGE_TOKENS = (16, 64)  # that a given frame may be turned into


def small_unet(**changes) -> UNet3DConfig:
    """The denoiser of the small model: two levels, 8 × 8 and 4 × 4 latents, with text in every transformer."""
    settings: dict[str, Any] = dict(
        in_channels=8,
        out_channels=8,
        model_channels=32,
        channel_multipliers=(1, 2),
        res_blocks=1,
        attention_factors=(1, 2),
        head_channels=16,
        context_channels=64,
        temporal_dropout=0.0,  # Dropping activations at random helps large networks only.
        temporal_cross_attention=True,
        initial_temporal_attention=False,
        scale_shift_norm=True,
        temporal_length=data.FRAMES,
        text_tokens=data.CAPTION_TOKENS,
        default_fps=data.FRAME_RATES[0],
    )
    return UNet3DConfig(**settings | changes)


def small_schedule() -> NoiseSchedule:
    """Cosine schedule, v-prediction."""
    return replace(NoiseSchedule.cosine(), prediction="v")


class TextEncoder(nn.Module):
    """Captions of the small closed vocabulary to context tokens: an embedding for each word and each position."""

    def __init__(self, channels: int, layers: int = 0):
        super().__init__()
        self.words = nn.Embedding(len(data.VOCABULARY), channels)
        self.positions = nn.Parameter(torch.randn(data.CAPTION_TOKENS, channels) * 0.02)
        layer = nn.TransformerEncoderLayer(
            channels, channels // 16, 2 * channels, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(layers))

    def forward(self, tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
        hidden = self.words(tokens) + self.positions
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class FrameEncoder(nn.Module):
    """A given frame's latents to one token for each place, 64 for 8 × 8: fine enough to carry handwriting.

    Two convolutions, learned positions, and one transformer layer among the tokens. VideoCrafter's tokens come from
    CLIP through a resampler (chapter 4); this one is learned together with the layers that read it.
    """

    def __init__(self, in_channels: int, channels: int, tokens: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.positions = nn.Parameter(torch.randn(tokens, channels))
        self.layer = nn.TransformerEncoderLayer(
            channels, channels // 16, 2 * channels, dropout=0.0, batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n c2"]:
        tokens = rearrange(self.convolutions(latents), "b c h w -> b (h w) c") + self.positions
        return self.norm(self.layer(tokens))


@dataclass(frozen=True)
class BesideFrame:
    """A denoiser that sees a given frame's latents beside the noisy latents of every frame, as in DynamiCrafter."""

    unet: UNet3D
    first_frame: Float[Tensor, "b c h w"]

    def prepare_context(self, context: Tensor, **options: Any) -> Any:
        return self.unet.prepare_context(context, **options)

    def __call__(self, x: Float[Tensor, "b2 f c h w"], timesteps: Tensor, context: Any, fps: Any) -> Tensor:
        # A sampler may ask for both halves of the guidance at once: then the given frames count for each half.
        check_frames_beside(x, self.first_frame)
        halves = len(x) // len(self.first_frame)
        given = repeat(self.first_frame, "b c h w -> (halves b) f c h w", halves=halves, f=x.shape[1])
        return self.unet(torch.cat([x, given], dim=2), timesteps, context=context, fps=fps)


class VideoModel(nn.Module):
    """Text encoder and denoiser; with ``config.image_attention`` also an encoder of the given first frame.

    The image tokens are the latents of the given frame, 2 × 2 of them in a token: 16 tokens for 8 × 8 latents; or, with
    ``image_tokens=64``, those of a :class:`FrameEncoder`. If the denoiser has more input channels than output channels,
    the given frame's latents are also put beside the noisy ones (:class:`BesideFrame`).

    Tokens of nothing but zeros have keys and values of zero, since these layers have no bias: the image branch then
    adds exactly nothing. So zeros are what stands for *no picture*, in training (``shown``) and in sampling.
    """

    def __init__(self, config: UNet3DConfig, text_layers: int = 0, image_tokens: int = 16):
        super().__init__()
        check_instance("config", config, UNet3DConfig, "small_unet()")
        check_number("text_layers", text_layers, 0, whole=True)
        check_choice("image_tokens", image_tokens, IMAGE_TOKENS)
        if (channels := config.context_channels) is None:
            raise ValueError("context_channels is None, but this model reads captions: give the width of its tokens.")
        self.text_encoder = TextEncoder(channels, text_layers)
        self.image_encoder, self.image_positions = None, None
        if config.image_attention and image_tokens == 64:
            self.image_encoder = FrameEncoder(config.out_channels, channels, image_tokens)
        elif config.image_attention:
            self.image_encoder = nn.Sequential(
                nn.Conv2d(config.out_channels, channels, 2, stride=2),
                nn.Flatten(start_dim=2),
            )
            self.image_positions = nn.Parameter(torch.randn(16, channels) * 0.02)
        self.unet = UNet3D(config)
        if image_tokens == 64:
            # The image branch begins with values of zero: at first the model is the text-to-video model it starts from.
            for name, value in self.unet.named_parameters():
                if "to_v_image" in name:
                    nn.init.zeros_(value)

    def context(
        self,
        tokens: Int[Tensor, "b n"],
        first_frame: Float[Tensor, "b2 c h w"] | None = None,
        shown: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b m c2"]:
        """Context tokens of captions and, for I2V, of the latents of the given first frames.

        One frame serves all captions. ``shown``: of which clips the attention sees the picture; by default of all. For
        the others its tokens are 0.
        """
        first_frame = self._given(first_frame, len(tokens))
        text = self.text_encoder(tokens)
        if self.image_encoder is None or first_frame is None:
            return text
        image = self.image_encoder(first_frame)
        if self.image_positions is not None:
            image = rearrange(image, "b c n -> b n c") + self.image_positions
        if shown is not None:
            image = image * shown[:, None, None]
        return torch.cat([text, image], dim=1)

    @property
    def beside_noise(self) -> bool:
        """Whether the given frame's latents are put beside the noisy ones."""
        return self.unet.config.in_channels > self.unet.config.out_channels

    @property
    def takes_frame(self) -> bool:
        """Whether clips go on from a given frame (I2V), which comes through attention, beside the noise, or both."""
        return self.image_encoder is not None or self.beside_noise

    def denoiser(self, first_frame: Float[Tensor, "b2 c h w"] | None = None) -> Callable[..., Tensor]:
        """What training and sampling call as ``denoiser(x, timesteps, context=..., fps=...)``."""
        first_frame = self._given(first_frame)
        return self.unet if first_frame is None or not self.beside_noise else BesideFrame(self.unet, first_frame)

    def forward(
        self,
        x: Float[Tensor, "b f c h w"],
        timesteps: Int[Tensor, " b"],
        tokens: Int[Tensor, "b n"],
        fps: Float[Tensor, " b"],
        first_frame: Float[Tensor, "b2 c h w"] | None = None,
        shown: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b f c h w"]:
        """Predict v from noisy latents; ``shown`` as in :meth:`context`."""
        context = self.context(tokens, first_frame, shown)
        return self.denoiser(first_frame)(x, timesteps, context=context, fps=fps)

    def _given(
        self, first_frame: Float[Tensor, "b c h w"] | None, captions: int | None = None
    ) -> Float[Tensor, "b2 c h w"] | None:
        """The given frames' latents, one for each caption; ``None`` in a model that takes none."""
        check_given_latents(first_frame, self.unet.config.out_channels, captions, self.takes_frame)
        if first_frame is None or captions in (None, len(first_frame)):
            return first_frame
        return repeat(first_frame, "1 c h w -> b c h w", b=captions)


@dataclass(frozen=True)
class Pipeline:
    """A text encoder, denoiser and autoencoder that make clips from captions.

    Example::

        model = vdmlib.small.load_pretrained("t2v")
        video = model.generate(["a red 7 moving left quickly"], fps=16)      # (1, 8, 3, 64, 64), in [−1, 1]

    Attributes:
        video_model: text encoder and denoiser.
        autoencoder: whose latents the denoiser knows.
        card: what is known about the weights (:func:`read_card`); the sampling settings that judged
            best are taken from it.
    """

    video_model: VideoModel
    autoencoder: Autoencoder
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "video_model", unwrapped(self.video_model))
        object.__setattr__(self, "autoencoder", unwrapped(self.autoencoder))
        check_instance("video_model", self.video_model, VideoModel, 'load_video_model("t2v")')
        check_instance("autoencoder", self.autoencoder, Autoencoder, "load_autoencoder()")
        check_instance("card", self.card, Mapping, 'read_card("t2v")')

    @torch.no_grad()
    def generate(  # noqa: PLR0913, the documented entry point
        self,
        captions: Sequence[str],
        fps: int | float | Sequence[int | float] | Tensor = data.FRAME_RATES[0],
        first_frame: Float[Tensor, "*b 3 h w"] | None = None,
        *,
        seed: int | None = 0,
        frames: int = data.FRAMES,
        steps: SupportsIndex | Iterable[SupportsIndex] | None = None,
        guidance_scale: int | float | None = None,
        eta: int | float | None = None,
        progress: bool = False,
        callback: Callable[[SamplingStep], None] | None = None,
    ) -> Float[Tensor, "b f 3 h2 w2"]:
        """A clip in [−1, 1] for each caption, for I2V from the given frames; the same clips for the same seed.

        Guidance compares with the empty caption; the given frame stays in both halves.

        Args:
            captions: of the words in :data:`vdmlib.small.data.VOCABULARY`.
            fps: frames per second that the model is told, from 0.1 to 1000: one number, or one for each caption.
            first_frame: for I2V, pictures of 64 × 64 pixels in [−1, 1]: one, or one for each caption.
            seed: of the noise; each caption has a stream of its own (:func:`vdmlib.sampling.noise_streams`), so that
                its clip does not depend on the others. ``None`` gives other clips each time.
            frames: of each clip; the shipped models were trained on 8.
            steps: a number that divides 1000, or a list of levels, most noise first; by default that of the card.
            guidance_scale, eta: see :func:`vdmlib.sample_ddim`; by default those of the card.
            progress, callback: see :func:`vdmlib.sample_ddim`.

        Raises:
            ValueError, TypeError: for what the model does not know or cannot use, in one sentence.
        """
        like = next(self.video_model.parameters())
        tokens = data.tokenize(captions).to(like.device)
        rates = check_rates(fps, len(captions))
        frames = check_number("frames", frames, 1, 1000, whole=True)
        given = self._given_frames(first_frame, len(captions))
        side, streams = data.SIZE // self.autoencoder.factor, noise_streams(seed, len(captions))
        latents = sample_ddim(
            self.video_model.denoiser(given),
            small_schedule(),
            draw_noise((len(captions), frames, self.autoencoder.latent_channels, side, side), streams, like),
            context=self.video_model.context(tokens, given),
            uncond_context=self.video_model.context(torch.zeros_like(tokens), given),
            guidance_scale=self._setting("guidance_scale", guidance_scale, 3.0),
            fps=torch.tensor(rates).to(like),
            steps=self._setting("sampling_steps", steps, 25),
            eta=self._setting("eta", eta, 1.0),
            generator=streams,
            progress=progress,
            callback=callback,
        )
        return self.autoencoder.decode(latents).clamp(-1, 1)

    def _given_frames(
        self, first_frame: Float[Tensor, "*b 3 h w"] | None, captions: int
    ) -> Float[Tensor, "b c h2 w2"] | None:
        """Latents of the frames to go on from, one for each caption."""
        pictures = None
        if first_frame is not None:
            check_small_pictures("first_frame", first_frame, data.SIZE)
            pictures = first_frame if first_frame.ndim == 4 else first_frame[None]
        given = None if pictures is None else len(pictures)
        check_first_frames(given, captions, self.video_model.takes_frame, "first_frame")
        if pictures is None:
            return None
        latents = self.autoencoder.encode(pictures[:, None].to(next(self.video_model.parameters())))
        return repeat(latents, "b 1 c h w -> (n b) c h w", n=captions // len(pictures))

    def _setting(self, name: str, given: Any, usual: int | float) -> Any:
        return self.card.get(name, usual) if given is None else given
