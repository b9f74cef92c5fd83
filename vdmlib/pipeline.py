"""The released models end to end on one device: a prompt, and for I2V a picture, in; frames out (chapter 10).

    pipe = vdmlib.VideoCrafterPipeline.from_checkpoint("VideoCrafter/VideoCrafter2", kind="t2v")
    frames = pipe("a sailing boat at sunset", seed=1)          # (1, 16, 3, 320, 512) in 0 ... 1
    vdmlib.save_video(frames, "boat.mp4")

U-Net and sampler are this library's; text encoder, image encoder and autoencoder are in :mod:`vdmlib.encoders`.
Follows ``scripts/evaluation/inference.py`` and ``scripts/gradio/i2v_test.py`` of the released code.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from .attention import ContextCache, SpatialTransformer
from .encoders import Tokenizer, decode_latents, prepare_image, require
from .memory import FASTEST, SLICE_TOKENS, MemoryOptions, Stage, lent, lent_by_block
from .releases import RELEASES, Kind, Parts, Release, find_checkpoint, load_release
from .sampling import SamplingStep, sample_ddim
from .unet3d import UNet3D

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class VideoCrafterPipeline:
    """A released model, ready to be called.

    Attributes:
        parts: the networks. release: which model this is. device, dtype: where and in what it runs.
        memory: what to trade for less memory; may be set to other :class:`MemoryOptions` at any time.
    """

    def __init__(
        self,
        parts: Parts,
        release: Release,
        device: torch.device | str | None = None,
        memory: MemoryOptions = FASTEST,
    ):
        self.parts, self.release, self.memory = parts, release, memory
        self.device = choose_device(device)
        self.dtype = next(parts.unet.parameters()).dtype
        self.tokenizer = Tokenizer(release.text_encoder.tokens)
        self._compiled = False
        self._place()

    @classmethod
    def from_checkpoint(
        cls,
        path_or_hub_id: str | Path,
        kind: Kind = "t2v",
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        memory: MemoryOptions = FASTEST,
        release: Release | None = None,
        verify: bool = True,
    ) -> "VideoCrafterPipeline":
        """Load a released checkpoint: VideoCrafter2 or VideoCrafter1, text to video or image to video.

        Args:
            path_or_hub_id: a file, a folder with one checkpoint, or a name on the Hugging Face Hub, such as
                ``VideoCrafter/VideoCrafter2`` (t2v) and ``VideoCrafter/Image2Video-512`` (i2v).
            kind: ``"t2v"`` or ``"i2v"``.
            dtype: of the weights; by default float16 on a GPU and float32 on a CPU.
            device: by default the GPU, if there is one.
            memory: with an ``offload`` the weights stay on the CPU until they are needed.
            release: the model's sizes; by default those of the released model whose names and shapes the file has.
            verify: compare a ``.ckpt``'s checksums, which reads it once in full.

        Raises:
            FileNotFoundError, CheckpointError, ValueError: one sentence on what is wrong; nothing is half loaded.
            ImportError: names the package that is missing.
        """
        if kind not in RELEASES:
            raise ValueError(f"kind is {kind!r}: use 't2v' (text to video) or 'i2v' (image to video).")
        if release is not None and release.kind != kind:
            raise ValueError(f"kind is {kind!r}, but the release given is of kind {release.kind!r}: pass the same.")
        device = choose_device(device)
        dtype = choose_dtype(dtype, device)
        home = device if memory.offload is None else "cpu"
        with _explained("loading", dtype, memory):
            path = find_checkpoint(path_or_hub_id)
            parts, release = load_release(path, kind, release, dtype=dtype, device=home, verify=verify)
            return cls(parts, release, device, memory)

    def compile(self, **options: Any) -> "VideoCrafterPipeline":
        """Let ``torch.compile`` translate the U-Net; the first step then takes minutes, later ones less time."""
        if self.memory.offload is not None:
            raise ValueError(
                f"offload is {self.memory.offload!r}, but compiled weights cannot move: use one or the other."
            )
        self.parts.unet.compile(**options)
        self._compiled = True
        return self

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        image: Any = None,
        negative_prompt: str = "",
        fps: int | float | None = None,
        steps: int = 50,
        guidance_scale: int | float = 12.0,
        eta: int | float = 1.0,
        seed: int | None = None,
        frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        progress: bool = True,
        callback: Callable[[SamplingStep], None] | None = None,
    ) -> Float[Tensor, "b f 3 h w"]:
        """Sample one video for each prompt.

        Args:
            prompt: what to show; a list makes several videos at once.
            image: for i2v, one picture or one for each prompt: a path, a PIL picture, bytes (h, w, 3), or a tensor
                (3, h, w) or (b, 3, h, w) in 0 ... 1. The model sees it as CLIP does, stretched to a square.
            negative_prompt: what guidance leads away from; the released models were trained with the empty prompt.
            fps: frames per second that the model is told, which decides how fast things move.
            steps, guidance_scale, eta: see :func:`vdmlib.sample_ddim`; the defaults are the released scripts'.
            seed: the same number gives the same video, on every device up to rounding; ``None`` a new one each time.
            frames, height, width: of the video; sides are multiples of 64 pixels. Defaults are what the model knows.
            progress, callback: see :func:`vdmlib.sample_ddim`.

        Returns:
            Pixels in 0 ... 1, float32, on the CPU.

        Raises:
            ValueError, TypeError: for anything that does not fit, in one sentence, before any work is done.
            torch.OutOfMemoryError: names the option to try next.
        """
        release = self.release
        prompts = [prompt] if isinstance(prompt, str) else prompt
        chosen = {"fps": fps, "frames": frames, "height": height, "width": width}
        fps, frames, height, width = (getattr(release, k) if v is None else v for k, v in chosen.items())
        pictures = None if image is None else read_images(image)
        self._check(prompts, pictures, negative_prompt, fps, steps, guidance_scale, eta, seed, frames, height, width)
        if self._compiled and self.memory.offload is not None:
            raise ValueError(f"offload is {self.memory.offload!r}, but the U-Net is compiled: load it again without.")
        self._place()

        generator = torch.Generator()
        generator.seed() if seed is None else generator.manual_seed(seed)
        factor = release.autoencoder.downsampling
        shape = (len(prompts), frames, release.unet.out_channels, height // factor, width // factor)
        size = f"{len(prompts)} × {frames} frames of {height} × {width}"
        with self._stage("encoding", size):
            context, uncond_context = self._contexts(prompts, negative_prompt, pictures)
        with self._stage("denoising", size), self._running("unet") as unet:
            unet.slice_attention(SLICE_TOKENS if self.memory.sliced_attention else None)
            latents = sample_ddim(
                _Denoiser(unet, fill_caches=self._compiled),
                release.schedule,
                torch.randn(shape, generator=generator).to(self.device),
                context=context,
                uncond_context=uncond_context,
                guidance_scale=float(guidance_scale),
                fps=fps,
                steps=steps,
                eta=float(eta),
                generator=generator,
                progress=progress,
                callback=callback,
                guidance_in_one_batch=self.memory.guidance_in_one_batch,
            )
        if not latents.isfinite().all():
            raise ArithmeticError(
                f"The latents are not finite numbers: the weights are damaged or too large for {_name(self.dtype)}, "
                f"so download them again or load with dtype=torch.float32."
            )
        with self._stage("decoding", size), self._running("autoencoder") as vae:
            pixels = decode_latents(vae, latents.to(self.dtype), self.memory.decode_frames)
        return ((pixels.float() + 1) / 2).clamp(0, 1).cpu()

    def _check(
        self, prompts, pictures, negative_prompt, fps, steps, guidance_scale, eta, seed, frames, height, width
    ) -> None:
        if not isinstance(prompts, list) or not prompts or not all(isinstance(p, str) for p in prompts):
            raise TypeError(f"prompt is {prompts!r:.60}: pass a string, or a list with one string for each video.")
        if not isinstance(negative_prompt, str):
            raise TypeError(f"negative_prompt is {negative_prompt!r:.60}: pass one string for all videos.")
        if self.release.kind == "t2v" and pictures is not None:
            raise ValueError("An image was given, but this model makes videos from text alone: leave it out.")
        if self.release.kind == "i2v" and pictures is None:
            raise ValueError("This model starts from a picture, but image is None: pass a file, a picture or a tensor.")
        if pictures is not None and len(pictures) not in (1, len(prompts)):
            raise ValueError(
                f"{len(pictures)} images were given for {len(prompts)} prompts: pass one, or one for each prompt."
            )
        _check_number("fps", fps, 0.1, 1000)
        _check_number("guidance_scale", guidance_scale, 0, 1000)
        _check_number("eta", eta, 0, 1)
        _check_number("steps", steps, 1, len(self.release.schedule), whole=True)
        _check_number("frames", frames, 1, 1024, whole=True)
        for name, side in (("height", height), ("width", width)):
            _check_number(name, side, 64, 8192, whole=True)
            if side % 64:
                raise ValueError(
                    f"{name} is {side}, but must be a multiple of 64 pixels: {64 * round(side / 64)} fits."
                )
        if seed is not None:
            _check_number("seed", seed, 0, 2**63 - 1, whole=True)
        if len(self.release.schedule) % steps:
            raise ValueError(
                f"steps is {steps}, but must divide {len(self.release.schedule)}: use 10, 20, 25, 40, 50 or 100."
            )

    def _place(self) -> None:
        home = self.device if self.memory.offload is None else torch.device("cpu")
        for part in self.parts.named().values():
            part.to(home)
            if home.type == "cuda":
                channels_last_weights(part)

    @contextmanager
    def _running(self, name: str) -> Iterator[nn.Module]:
        part, offload = getattr(self.parts, name), self.memory.offload
        if offload is None:
            yield part
            return
        with (lent_by_block if (offload, name) == ("blocks", "unet") else lent)(part, self.device):
            yield part

    def _stage(self, stage: Stage, size: str):
        return _explained(stage, self.dtype, self.memory, size)

    def _contexts(
        self, prompts: list[str], negative_prompt: str, pictures: Tensor | None
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b n c"]]:
        """Tokens for the prompts and, as many, for the negative prompt, each encoded once."""
        with self._running("text_encoder") as encoder:
            tokens = [encoder(self.tokenizer([*prompts, negative_prompt]).to(self.device))]
        if pictures is not None:
            size, grey = self.release.image_encoder.image_size, torch.zeros(1, 3, 2, 2)  # As in the released scripts.
            prepared = torch.cat([prepare_image(picture, size) for picture in (pictures * 2 - 1, grey)])
            with self._running("image_encoder") as encoder:
                seen = encoder(prepared.to(self.device, self.dtype))
            with self._running("resampler") as resampler:
                tokens.append(resampler(seen))
        with_prompt, without = zip(*((kind[:-1], kind[-1:]) for kind in tokens), strict=True)
        return tuple(
            torch.cat([repeat(t, "b n c -> (b r) n c", r=len(prompts) // len(t)) for t in kinds], dim=1)
            for kinds in (with_prompt, without)
        )


class _Denoiser:
    """The U-Net for a sampler that keeps its latents in float32, whatever the dtype of the weights."""

    def __init__(self, unet: UNet3D, fill_caches: bool):
        self.unet, self.fill_caches = unet, fill_caches
        self.dtype = next(unet.parameters()).dtype

    def prepare_context(self, context: Tensor) -> ContextCache:
        cache = self.unet.prepare_context(context)
        if self.fill_caches:  # A compiler then meets one kind of call, not a first one and all others.
            for module in self.unet.modules():
                if isinstance(module, SpatialTransformer):
                    for block in module.blocks:
                        cache.keys_values(block.cross_attention)
        return cache

    def __call__(self, x: Tensor, timesteps: Tensor, **conditions: Any) -> Tensor:
        return self.unet(x.to(self.dtype), timesteps, **conditions).float()


@contextmanager
def _explained(stage: str, dtype: torch.dtype, memory: MemoryOptions, size: str = "the weights") -> Iterator[None]:
    """Turn "out of memory" into a sentence that names the option to try next."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.cuda.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        options = memory.next(stage)
        if dtype == torch.float32:
            advice = "load the model with dtype=torch.float16, which halves everything"
        elif options is not None:
            advice = f"try memory=vdmlib.MemoryOptions({FASTEST.changes(options)}) next"
        else:
            advice = "make the video smaller, with fewer frames or less height and width"
        raise torch.cuda.OutOfMemoryError(
            f"Memory ran out while {stage} {size} in {_name(dtype)}: {advice}. ({str(error).splitlines()[0][:160]})"
        ) from error


def channels_last_weights(module: nn.Module) -> None:
    """Lay out the weights of convolutions as their inputs are, so that no call has to do it again."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = layer.weight.data.to(memory_format=torch.channels_last)
        elif isinstance(layer, nn.Conv3d):
            layer.weight.data = layer.weight.data.to(memory_format=torch.channels_last_3d)


def choose_device(device: torch.device | str | None) -> torch.device:
    """A device that is there; by default the GPU if there is one."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise ValueError(
            f"device is {str(device)!r}, which this machine or this build of PyTorch does not have: use 'cpu', or "
            f"'cuda' where there is an NVIDIA GPU. ({(str(error).splitlines() or ['unknown'])[0][:100]})"
        ) from None
    return device


def choose_dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype:
    """A dtype that the device computes in; by default float16 on a GPU and float32 on a CPU."""
    if dtype is None:
        return torch.float16 if device.type == "cuda" else torch.float32
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen not in DTYPES.values():
        raise ValueError(f"dtype is {dtype!r}: use {', '.join(DTYPES)}.")
    if chosen == torch.bfloat16 and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        raise ValueError(f"dtype is bfloat16, but {torch.cuda.get_device_name(device)} has none: use float16.")
    return chosen


def read_images(image: Any) -> Float[Tensor, "b 3 h w"]:
    """A path, a PIL picture, bytes (h, w, 3) or a tensor (3, h, w) or (b, 3, h, w), as a tensor in 0 ... 1."""
    pillow = require("PIL.Image")
    if isinstance(image, str | os.PathLike):
        image = _open_picture(Path(image).expanduser(), pillow)
    if isinstance(image, pillow.Image):
        numpy = require("numpy")
        image = numpy.array(image.convert("RGB"))
    if hasattr(image, "__array__") and not isinstance(image, Tensor):
        image = torch.as_tensor(image)
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[-1] != 3:
            raise ValueError(f"image is an array {tuple(image.shape)} of {_name(image.dtype)}: pass bytes, (h, w, 3).")
        image = rearrange(image, "h w c -> c h w") / 255
    if not isinstance(image, Tensor):
        raise TypeError(f"image is a {type(image).__name__}: pass a path, a PIL picture, bytes (h, w, 3) or a tensor.")
    if image.ndim == 3:
        image = rearrange(image, "c h w -> 1 c h w")
    if image.ndim != 4 or image.shape[1] != 3 or min(image.shape) < 1 or min(image.shape[2:]) < 2:
        raise ValueError(f"image has shape {tuple(image.shape)}: pass (3, h, w) or (b, 3, h, w) with 2 pixels or more.")
    if not image.is_floating_point() or not image.isfinite().all() or image.min() < 0 or image.max() > 1:
        raise ValueError(
            f"image is {_name(image.dtype)} from {image.min():.3g} to {image.max():.3g}: pass fractions in 0 ... 1."
        )
    return image.detach().float().cpu()


def _open_picture(path: Path, pillow):
    if not path.is_file():
        raise FileNotFoundError(f"There is no picture {path}: correct the path.")
    try:
        with pillow.open(path) as picture:
            return require("PIL.ImageOps").exif_transpose(picture).convert("RGB")
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise ValueError(f"{path.name} is no picture that can be read: save it as PNG or JPEG. ({error})") from None


def save_video(frames: Float[Tensor, "*b f 3 h w"], path: str | Path, fps: int | float = 8) -> Path:
    """Write one video, pixels in 0 ... 1, as ``.mp4`` (H.264) or as a looping ``.gif``; returns the path."""
    path = Path(path).expanduser()
    if frames.ndim == 5 and len(frames) == 1:
        frames = rearrange(frames, "1 f c h w -> f c h w")
    if frames.ndim != 4 or frames.shape[1] != 3 or not len(frames):
        raise ValueError(
            f"frames has shape {tuple(frames.shape)}, but one video is (frames, 3, height, width): pick it with [i]."
        )
    _check_number("fps", fps, 0.1, 240)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent}: create it first, or write somewhere else.")
    pixels = (frames.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = rearrange(pixels, "f c h w -> f h w c").numpy()
    if path.suffix == ".gif":
        pillow = require("PIL.Image")
        first, *others = (pillow.fromarray(frame) for frame in pixels)
        first.save(path, save_all=True, append_images=others, duration=round(1000 / fps), loop=0)
    elif path.suffix == ".mp4":
        require("imageio_ffmpeg")
        writer = require("imageio.v2")
        if pixels.shape[1] % 2 or pixels.shape[2] % 2:
            raise ValueError(
                f"Frames of {pixels.shape[1]} × {pixels.shape[2]} cannot be written as mp4: use even sides."
            )
        writer.mimwrite(path, pixels, format="FFMPEG", fps=fps, codec="libx264", macro_block_size=2, quality=8)
    else:
        raise ValueError(f"{path.name} ends in {path.suffix!r}: use .mp4 or .gif.")
    return path


def _check_number(name: str, value: Any, least: int | float, most: int | float, whole: bool = False) -> None:
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{name} is {value!r:.60}: use {kind} from {least} to {most}.")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
