"""The small video model of the book: its networks, how it samples, and its shipped weights (chapters 1 and 9).

model = vdmlib.small.model.load_pretrained()
video = model.generate(["a red 7 moving left quickly"], fps=16)      # (1, 8, 3, 64, 64), in [−1, 1]
"""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..autoencoder import Autoencoder
from ..configuration import UNet3DConfig
from ..diffusion import NoiseSchedule
from ..sampling import sample_ddim
from ..unet3d import UNet3D
from . import data
from .judge import DigitClassifier

WEIGHTS = Path(__file__).parent / "shipped"


def small_unet(**changes) -> UNet3DConfig:
    """The denoiser of the small model: two levels, 8 × 8 and 4 × 4 latents, with text in every transformer."""
    settings = dict(
        in_channels=8,
        out_channels=8,
        model_channels=32,
        channel_multipliers=(1, 2),
        res_blocks=1,
        attention_factors=(1, 2),
        head_channels=16,
        context_channels=64,
        temporal_cross_attention=True,
        initial_temporal_attention=False,
        scale_shift_norm=True,
        temporal_length=data.FRAMES,
        text_tokens=data.CAPTION_TOKENS,
        default_fps=data.FRAME_RATES[0],
    )
    return UNet3DConfig(**settings | changes)


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


class VideoModel(nn.Module):
    """Text encoder and denoiser; with ``config.image_attention`` also an encoder of the given first frame.

    The image tokens are the latents of the given frame, 2 × 2 of them in a token: 16 tokens for 8 × 8 latents. If the
    denoiser has more input channels than output channels, the given frame's latents are also put beside the noisy
    ones of every frame, as in DynamiCrafter.
    """

    def __init__(self, config: UNet3DConfig, text_layers: int = 0):
        super().__init__()
        self.text_encoder = TextEncoder(config.context_channels, text_layers)
        self.image_encoder = None
        if config.image_attention:
            self.image_encoder = nn.Sequential(
                nn.Conv2d(config.out_channels, config.context_channels, 2, stride=2),
                nn.Flatten(start_dim=2),
            )
            self.image_positions = nn.Parameter(torch.randn(16, config.context_channels) * 0.02)
        self.unet = UNet3D(config)

    @property
    def concatenates(self) -> bool:
        return self.unet.config.in_channels > self.unet.config.out_channels

    def context(
        self, tokens: Int[Tensor, "b n"], first_frame: Float[Tensor, "b c h w"] | None = None
    ) -> Float[Tensor, "b m c2"]:
        """Context tokens of captions and, for I2V, of the latents of the given first frames."""
        text = self.text_encoder(tokens)
        if self.image_encoder is None:
            return text
        if first_frame is None:
            raise ValueError("This model continues a given frame, but first_frame is missing: pass its latents.")
        image = rearrange(self.image_encoder(first_frame), "b c n -> b n c") + self.image_positions
        return torch.cat([text, image], dim=1)

    def concat(self, first_frame: Float[Tensor, "b c h w"] | None, frames: int) -> Tensor | None:
        """The given frame's latents for every frame, or ``None`` where the denoiser does not take them."""
        if not self.concatenates:
            return None
        return repeat(first_frame, "b c h w -> b f c h w", f=frames)

    def forward(
        self,
        x: Float[Tensor, "b f c h w"],
        timesteps: Int[Tensor, " b"],
        tokens: Int[Tensor, "b n"],
        fps: Float[Tensor, " b"],
        first_frame: Float[Tensor, "b c h w"] | None = None,
    ) -> Float[Tensor, "b f c h w"]:
        """Predict v from noisy latents."""
        context = self.context(tokens, first_frame)
        if self.concatenates:
            x = torch.cat([x, self.concat(first_frame, x.shape[1])], dim=2)
        return self.unet(x, timesteps, context=context, fps=fps)


def small_schedule() -> NoiseSchedule:
    """Cosine schedule, v-prediction."""
    return replace(NoiseSchedule.cosine(), prediction="v")


@torch.no_grad()
def generate(
    model: VideoModel,
    autoencoder: Autoencoder,
    tokens: Int[Tensor, "b n"],
    fps: Float[Tensor, " b"],
    first_frame: Float[Tensor, "b 3 h w"] | None = None,
    steps: int = 25,
    guidance_scale: int | float = 3.0,
    eta: int | float = 1.0,
    seed: int = 0,
    frames: int = data.FRAMES,
    size: int = data.SIZE,
    progress: bool = False,
    **settings,
) -> Float[Tensor, "b f 3 h w"]:
    """Sample clips in [−1, 1] from captions, for I2V also from given frames; deterministic for a seed.

    Guidance compares with the empty caption; the given frame stays in both halves. Further settings go to
    :func:`vdmlib.sample_ddim`.
    """
    b, device = len(tokens), next(model.parameters()).device
    side = size // autoencoder.factor
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(b, frames, autoencoder.latent_channels, side, side, generator=generator)
    given = None
    if first_frame is not None:
        given = rearrange(autoencoder.encode(first_frame[:, None].to(device)), "b 1 c h w -> b c h w")
    latents = sample_ddim(
        model.unet,
        small_schedule(),
        noise.to(device),
        context=model.context(tokens.to(device), given),
        uncond_context=model.context(torch.zeros_like(tokens).to(device), given),
        guidance_scale=guidance_scale,
        fps=fps.to(device),
        steps=steps,
        eta=eta,
        generator=generator,
        concat=None if given is None else model.concat(given, frames),
        progress=progress,
        **settings,
    )
    return autoencoder.decode(latents).clamp(-1, 1)


# Weights


def has_part(name: str, parts: Sequence[str] | None) -> bool:
    """Whether a weight's name contains one of the parts; ``None`` stands for every name."""
    return parts is None or any(part in name for part in parts)


def save_weights(path: str | Path, model: nn.Module, card: Mapping[str, Any], parts: Sequence[str] | None = None):
    """Half-precision weights as ``.safetensors`` and, beside them, a ``.json`` card with their hash.

    ``parts`` saves only the weights whose names contain one of them.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value for name, value in model.state_dict().items() if has_part(name, parts)}
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, path)
    text = json.dumps({"sha256": sha256(path), **card}, indent=1, ensure_ascii=False)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def read_card(name: str, folder: str | Path = WEIGHTS) -> dict[str, Any]:
    """What is known about shipped weights: hash, command, configuration, log, the judge's numbers."""
    path = Path(folder) / f"{name}.json"
    if not path.exists():
        raise FileNotFoundError(
            f"There are no weights called {name!r} in {folder}: train them with python -m vdmlib.train {name}."
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _load(name: str, model: nn.Module, folder: str | Path) -> nn.Module:
    card = read_card(name, folder)
    path = weights_path(name, folder)
    _check_hash(path, card["sha256"])
    weights = {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
    if card.get("config", {}).get("trained_parts") is not None:
        # The file holds what was trained; all else is as in the weights that the training started from.
        base = weights_path(card["config"]["init_from"], folder)
        _check_hash(base, card["init_from_sha256"])
        start_from(model, base)
        weights = model.state_dict() | weights
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


def weights_path(name: str | Path, folder: str | Path = WEIGHTS) -> Path:
    """The file that is meant: a path that ends in ``.safetensors``, or the name of weights in the folder."""
    path = Path(name) if Path(name).suffix else Path(folder) / f"{name}.safetensors"
    if not path.exists():
        raise FileNotFoundError(f"There are no weights {path}: train them first, or correct the name.")
    return path


def sha256(path: Path) -> str:
    """The file's hash, as cards have it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_hash(path: Path, expected: str):
    if (found := sha256(path)) != expected:
        raise ValueError(f"{path} has the hash {found}, but the card says {expected}: fetch the file again.")


def load_autoencoder(folder: str | Path = WEIGHTS) -> Autoencoder:
    """The shipped autoencoder."""
    read_card("autoencoder", folder)
    return _load("autoencoder", Autoencoder(), folder)


def load_video_model(name: str = "t2v", folder: str | Path = WEIGHTS) -> VideoModel:
    """The shipped text encoder and denoiser; ``name`` is "t2v" or "i2v"."""
    config = read_card(name, folder)["config"]
    unet = {key: tuple(value) if isinstance(value, list) else value for key, value in config["unet"].items()}
    return _load(name, VideoModel(UNet3DConfig(**unet), config["text_layers"]), folder)


def load_classifier(folder: str | Path = WEIGHTS) -> DigitClassifier:
    """The judge's shipped digit classifier."""
    read_card("judge", folder)
    return _load("judge", DigitClassifier(), folder)


@dataclass(frozen=True)
class Pretrained:
    """A text encoder, denoiser and autoencoder that make a clip from a caption.

    Example::

        model = vdmlib.small.model.load_pretrained()
        video = model.generate(["a red 7 moving left quickly"], fps=16)      # (1, 8, 3, 64, 64), in [−1, 1]
    """

    video_model: VideoModel
    autoencoder: Autoencoder
    card: dict[str, Any]

    def generate(
        self,
        captions: Sequence[str],
        fps: int | float | Sequence[int | float] = 10,
        first_frame: Float[Tensor, "b 3 h w"] | None = None,
        **settings,
    ) -> Float[Tensor, "b f 3 h w"]:
        """Clips for captions; see :func:`generate`, whose ``settings`` are by default those that judged best."""
        best = {"steps": self.card["sampling_steps"]} | {k: self.card[k] for k in ("guidance_scale", "eta")}
        rates = list(fps) if isinstance(fps, Sequence) else [fps] * len(captions)
        return generate(
            self.video_model,
            self.autoencoder,
            data.tokenize(captions),
            torch.tensor([float(rate) for rate in rates]),
            first_frame,
            **best | settings,
        )


def load_pretrained(name: str = "t2v", folder: str | Path = WEIGHTS) -> Pretrained:
    """The shipped small model, ready to sample; ``name`` is "t2v" or "i2v"."""
    return Pretrained(load_video_model(name, folder), load_autoencoder(folder), read_card(name, folder))


def start_from(model: nn.Module, path: str | Path):
    """Copy every weight that the file has under the same name; a wider first convolution gets zeros for what is new.

    ``path`` is a ``.safetensors`` file, or the name of shipped weights.
    """
    given, own = load_file(weights_path(path)), model.state_dict()
    for name, value in own.items():
        if name not in given:
            continue
        if given[name].shape != value.shape:
            if given[name].shape[0] != value.shape[0] or given[name].shape[1] > value.shape[1]:
                raise ValueError(
                    f"{name} is {tuple(given[name].shape)} in {path}, but {tuple(value.shape)} in this model: "
                    f"start from weights of the same width."
                )
            value.zero_()
            value[:, : given[name].shape[1]] = given[name].to(value)
        else:
            value.copy_(given[name].to(value))
