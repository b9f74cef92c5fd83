"""The settings of a training run, checked when they are made, and those of the shipped models (chapter 9)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..checks import check_choice, check_number
from ..configuration import UNet3DConfig
from .model import IMAGE_TOKENS, small_unet

STAGE_NAMES = ("autoencoder", "judge", "t2v", "i2v", "i2v_attention")


def _number(default: int | float | None, least: int | float, most: int | float) -> Any:
    return field(default=default, metadata={"range": (least, most)})


@dataclass(frozen=True)
class TrainingConfig:
    """Everything a run depends on.

    Attributes:
        stage: "autoencoder", "judge", "t2v", "i2v" or "i2v_attention".
        steps: optimizer steps.
        batch: clips in a step, over all processes; a multiple of their number.
        stills: pictures (clips of one frame) in a step beside them.
        learning_rate: after ``warmup`` steps; over the last ``decay`` of the steps it falls to zero.
        ema: how much of the averaged weights is kept in a step; the averaged weights are the result.
        caption_dropout: the share of captions replaced by the empty one, for classifier-free guidance.
        word_dropout: the share of captions whose words for digit and colour are hidden (padding in their place), so
            that an image-to-video model has to look for them in the picture.
        picture_dropout: the share of clips whose picture the attention does not see: zeros in place of its tokens.
        given_frame: "first", or "random": the frame of the clip that an image-to-video model is given in training,
            drawn anew for every clip (DynamiCrafter draws one for a batch).
        shift: 1 draws all noise levels alike, more draws high noise more often, by t → shift·t / (1 + (shift − 1)·t).
        snr_cap: weight the loss at low noise down to min(SNR, cap) / SNR (Hang et al. 2023); ``None`` for no weights.
        unet: the denoiser; for "i2v" with more input channels the given frame's latent fills those (DynamiCrafter).
        image_tokens: what a picture becomes for the attention to it: 16 patches of its latents, or 64 tokens of a
            :class:`vdmlib.small.model.FrameEncoder`.
        text_layers: transformer layers of the text encoder, over the words' embeddings.
        init_from: weights to start from: a file (.safetensors), or the name of shipped ones.
        trained_parts: train only the weights whose names contain one of these; ``None`` trains all.
        checkpoint_seconds: how much a kill may cost.
        sample_every: steps between sample sheets.
        seed: of weights, data and noise.

    Raises:
        ValueError: for a setting of the wrong type or out of its range, in one sentence.
    """

    stage: str = "t2v"
    steps: int = _number(20_000, 1, 10**9)
    batch: int = _number(16, 1, 10**6)
    stills: int = _number(0, 0, 10**6)
    learning_rate: int | float = _number(2e-3, 0, 1)
    warmup: int = _number(100, 0, 10**9)
    decay: int | float = _number(0.25, 0, 1)
    weight_decay: int | float = _number(1e-4, 0, 1)
    ema: int | float = _number(0.998, 0, 1)
    caption_dropout: int | float = _number(0.1, 0, 1)
    word_dropout: int | float = _number(0.0, 0, 1)
    picture_dropout: int | float = _number(0.0, 0, 1)
    given_frame: str = "first"
    shift: int | float = _number(1.0, 1e-3, 1e3)
    snr_cap: int | float | None = _number(None, 1e-3, 1e6)
    unet: UNet3DConfig = field(default_factory=small_unet)
    text_layers: int = _number(0, 0, 100)
    image_tokens: int = 16
    init_from: str | None = None
    trained_parts: tuple[str, ...] | None = None
    checkpoint_seconds: int | float = _number(40.0, 0, 86_400)
    log_every: int = _number(50, 1, 10**9)
    sample_every: int = _number(1000, 1, 10**9)
    seed: int = _number(0, 0, 2**31 - 1)

    def __post_init__(self):
        for setting in fields(self):
            value = getattr(self, setting.name)
            if "range" in setting.metadata and not (value is None and setting.default is None):
                _check_text(setting.name, value)
                plain = check_number(setting.name, value, *setting.metadata["range"], whole=setting.type is int)
                object.__setattr__(self, setting.name, plain)
        check_choice("stage", self.stage, STAGE_NAMES)
        check_choice("image_tokens", self.image_tokens, IMAGE_TOKENS)
        check_choice("given_frame", self.given_frame, ("first", "random"))
        if not isinstance(self.unet, UNet3DConfig):
            raise ValueError(f"unet is {self.unet!r:.60}, but must be a UNet3DConfig: use small_unet(...).")
        if not isinstance(self.init_from, str | None):
            raise ValueError(f"init_from is {self.init_from!r:.60}, but must be text: a file, or the name of weights.")
        parts = self.trained_parts
        if parts is not None and not (isinstance(parts, tuple) and parts and all(isinstance(p, str) for p in parts)):
            raise ValueError(f"trained_parts is {parts!r:.60}, but must be None or a tuple of pieces of names.")

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> "TrainingConfig":
        """From a JSON file's mapping: ``stage`` names the defaults, the rest changes them (``unet``: a mapping too)."""
        if not isinstance(given, Mapping):
            raise ValueError(f'The settings are {given!r:.60}, but must be names with values: {{"steps": 1000}}.')
        given = dict(given)
        stage = given.pop("stage", "t2v")
        check_choice("stage", stage, CONFIGS)
        config = CONFIGS[stage]
        _check_names("settings", given, cls)
        if "unet" in given:
            given["unet"] = _changed_unet(config.unet, given["unet"])
        if isinstance(given.get("trained_parts"), list):
            given["trained_parts"] = tuple(given["trained_parts"])
        return replace(config, **given)


def _changed_unet(unet: UNet3DConfig, changes: Any) -> UNet3DConfig:
    if not isinstance(changes, Mapping):
        raise ValueError(f'unet is {changes!r:.60}, but must be names with values: {{"model_channels": 64}}.')
    _check_names("settings of unet", changes, UNet3DConfig)
    return replace(unet, **{k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()})


def _check_names(what: str, given: Mapping[str, Any], kind: type):
    known = [setting.name for setting in fields(kind)]
    if unknown := sorted(map(str, given.keys() - set(known))):
        raise ValueError(f"Unknown {what}: {', '.join(unknown)}; use {', '.join(known)}.")


def _check_text(name: str, value: Any):
    if isinstance(value, str):
        try:
            advice = f"write {float(value):g} without quotes"
        except ValueError:
            advice = "write a number"
        raise ValueError(f"{name} is the text {value!r:.60}, but must be a number: {advice}.")


CONFIGS: dict[str, TrainingConfig] = {
    "autoencoder": TrainingConfig(stage="autoencoder", steps=560, batch=32, learning_rate=3e-3, decay=0.6, ema=0.99),
    "judge": TrainingConfig(stage="judge", steps=500, batch=64, decay=0.6, ema=0.98),
    "t2v": TrainingConfig(stage="t2v", steps=9600, batch=8, decay=0.4, shift=3.0),
    # Both doors, as in DynamiCrafter: image attention beside the text's, as in VideoCrafter1, and the given frame's
    # latents beside the noise, which VideoCrafter1 has not. The text-to-video model's transformers stay as they are, so
    # that the two models share these weights; what is new and the convolutions are trained.
    "i2v": TrainingConfig(
        stage="i2v",
        steps=4000,
        batch=8,
        decay=0.5,
        shift=3.0,
        unet=small_unet(image_attention=True, temporal_image_attention="joint", in_channels=16),
        init_from="t2v",
        trained_parts=("image", "convolution", "resnet", "conv_out", "norm_out", "embedding", "sample"),
    ),
    # The article's arrangement: the picture comes through the second cross-attention alone, in space and in time, with
    # no latent beside the noise. Without the words for digit and colour in half of the captions it would not be needed.
    # The shipped weights made 9,800 steps: these settings up to step 3,583, then shift 10 and three quarters of those
    # words hidden, and the learning rate falling from step 6,958 on.
    "i2v_attention": TrainingConfig(
        stage="i2v_attention",
        steps=6500,
        batch=8,
        decay=0.4,
        shift=3.0,
        word_dropout=0.5,
        picture_dropout=0.1,
        unet=small_unet(image_attention=True, temporal_image_attention=True),
        image_tokens=64,
        init_from="t2v",
        trained_parts=(
            *("image", "cross_attention.to_q", "cross_attention.to_out"),
            *("conv", "norm_in", "norm_out", "norms", "skip", "sample"),
        ),
    ),
}
