"""The released models end to end on one device: a prompt, and for I2V a picture, in; frames out (chapter 11).

Example::

    pipe = vdmlib.VideoCrafterPipeline.from_checkpoint("VideoCrafter/VideoCrafter2", kind="t2v")
    frames = pipe("a sailing boat at sunset", seed=1)          # (1, 16, 3, 320, 512) in −1 ... 1
    vdmlib.save_video(frames, "boat.mp4")

U-Net and sampler are this library's; text encoder, image encoder and autoencoder come from
:mod:`vdmlib.released.encoders`.
Follows ``scripts/evaluation/inference.py`` and ``scripts/gradio/i2v_test.py`` of the released code.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, SupportsIndex

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from ..checks import (
    check_choice,
    check_first_frames,
    check_instance,
    check_number,
    check_prompts,
    check_rate,
    check_side,
)
from ..devices import channels_last_weights, choose_device, choose_dtype, compile_network, dtype_name
from ..media import read_pictures
from ..sampling import SamplingStep, ddim_steps, draw_noise, noise_streams, sample_ddim
from .checkpoints import find_checkpoint, load_release
from .encoders import decode_latents, encode_text, seen_by_clip, tokenizer
from .memory import FASTEST, MemoryOptions, Phase, lend, lend_by_block, memory_explained, slice_layers
from .releases import RELEASES, Kind, Networks, Release


@dataclass(frozen=True)
class SamplingSettings:
    """How a video is sampled, checked once, when it is made. The defaults are the released scripts'.

    Attributes:
        steps, guidance_scale, eta: see :func:`vdmlib.sample_ddim`.
        fps: frames per second that the model is told.
        frames, height, width: of the video; sides are multiples of 64 pixels.
        seed: of the first video; the next ones have the seeds after it. ``None`` for a new one.
    """

    steps: SupportsIndex | Iterable[SupportsIndex] = 50
    guidance_scale: int | float = 12.0
    eta: int | float = 1.0
    fps: int | float = 28
    frames: int = 16
    height: int = 320
    width: int = 512
    seed: int | None = None

    def __post_init__(self):
        if isinstance(self.steps, Iterable) and not isinstance(self.steps, str | SupportsIndex):
            object.__setattr__(self, "steps", tuple(self.steps))  # Levels are read more than once.
        check_number("guidance_scale", self.guidance_scale, 0, 1000)
        check_number("eta", self.eta, 0, 1)
        check_rate(self.fps)
        check_number("frames", self.frames, 1, 1024, whole=True)
        check_side("height", self.height)
        check_side("width", self.width)
        if self.seed is not None:
            check_number("seed", self.seed, 0, 2**63 - 1, whole=True)

    @classmethod
    def of(cls, release: Release, **given: Any) -> "SamplingSettings":
        """What is given, and where that is ``None`` or nothing the fps, frames and sides the release was trained on."""
        for name in ("fps", "frames", "height", "width"):
            given[name] = getattr(release, name) if given.get(name) is None else given[name]
        settings = cls(**given)
        ddim_steps(release.schedule, settings.steps, settings.eta)  # Says what does not fit this schedule.
        return settings


class VideoCrafterPipeline:
    """A released model, ready to be called.

    Attributes:
        networks: of the model. release: which model this is. device, dtype: where and in what it runs.
        memory: what to trade for less memory; may be set to other :class:`MemoryOptions` at any time.
    """

    def __init__(
        self,
        networks: Networks,
        release: Release,
        device: torch.device | str | None = None,
        memory: MemoryOptions = FASTEST,
    ):
        check_instance("networks", networks, Networks, "build_networks(release)")
        check_instance("release", release, Release, "Release.videocrafter2()")
        check_instance("memory", memory, MemoryOptions, "MemoryOptions(decode_frames=1)")
        self.networks, self.release, self.memory = networks, release, memory
        self.device = choose_device(device)
        self.dtype = next(networks.unet.parameters()).dtype
        self.tokenizer = tokenizer(release.text_encoder)
        self._compiled = False
        with self._phase("loading"):
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
        check_choice("kind", kind, RELEASES)
        if release is not None and release.kind != kind:
            raise ValueError(f"kind is {kind!r}, but the release given is of kind {release.kind!r}: pass the same.")
        device = choose_device(device)
        dtype = choose_dtype(dtype, device)
        home = device if memory.offload is None else "cpu"
        path = find_checkpoint(path_or_hub_id)
        with memory_explained("loading", device, dtype, memory):
            networks, release = load_release(path, kind, release, dtype=dtype, device=home, verify=verify)
        return cls(networks, release, device, memory)

    def compile(self, **options: Any) -> "VideoCrafterPipeline":
        """Let ``torch.compile`` translate the U-Net: the first step then takes minutes.

        Whether later ones gain depends on the machine: ``tools/measure/gpu_check.py`` measures it, and
        ``tools/measure/benchmark.py --compile`` did on two CPU cores, where nothing was gained.
        """
        self._check_weights_stay()
        unet = self.networks.unet
        compile_network(unet, **options)
        # A compiler should meet one kind of call, not a first one that fills caches and all others.
        unet.prepare_context = partial(unet.prepare_context, fill=True)
        self._compiled = True
        return self

    def _check_weights_stay(self) -> None:
        if self.memory.offload is not None:
            raise ValueError(
                f"offload is {self.memory.offload!r}, but compiled weights cannot move: use one or the other."
            )

    @torch.no_grad()
    def __call__(  # noqa: PLR0913, the documented entry point
        self,
        prompt: str | list[str],
        image: Any = None,
        negative_prompt: str = "",
        fps: int | float | None = None,
        steps: SupportsIndex | Iterable[SupportsIndex] = 50,
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
            prompt: what to show; a list makes several videos at once. Warns where it is too long to be seen in full.
            image: for i2v, one picture for all prompts or one for each, in any form that
                :func:`vdmlib.media.read_pictures` reads. The model sees it as CLIP does, stretched to a square.
            negative_prompt: what guidance leads away from; the released models were trained with the empty prompt.
            fps: frames per second that the model is told, which decides how fast things move. Warns where the
                model has none.
            steps, guidance_scale, eta: see :func:`vdmlib.sample_ddim`; the defaults are the released scripts'.
            seed: the same number gives the same video, on every device up to rounding, alone or among others: prompt
                ``i`` of a list is sampled from ``seed + i``. ``None`` makes new videos each time.
            frames, height, width: of the video; sides are multiples of 64 pixels. Defaults are what the model knows.
            progress, callback: see :func:`vdmlib.sample_ddim`.

        Returns:
            Pixels in −1 ... 1, float32, on the CPU.

        Raises:
            ValueError, TypeError: for anything that does not fit, in one sentence, before any work is done.
            torch.OutOfMemoryError: names the option to try next.
        """
        prompts = [prompt] if isinstance(prompt, str) else prompt
        check_prompts(prompts, negative_prompt)
        given = dict(steps=steps, guidance_scale=guidance_scale, eta=eta, fps=fps, frames=frames, seed=seed)
        settings = SamplingSettings.of(self.release, height=height, width=width, **given)
        pictures = None if image is None else read_pictures(image)
        check_first_frames(None if pictures is None else len(pictures), len(prompts), self.release.kind == "i2v")
        if fps is not None and not self.release.unet.use_fps:
            warnings.warn(f"fps is {fps}, but this model is told no frame rate: it changes nothing.", stacklevel=3)
        if self._compiled:
            self._check_weights_stay()

        size = f"{len(prompts)} × {settings.frames} frames of {settings.height} × {settings.width}"
        with self._phase("loading"):
            self._place()
        with self._phase("encoding", size):
            contexts = self._contexts(prompts, negative_prompt, pictures)
        with self._phase("denoising", size):
            latents = self._denoise(settings, *contexts, progress=progress, callback=callback)
        self._check_finite("latents", latents)
        with self._phase("decoding", size), self._running("autoencoder") as vae:
            pixels = decode_latents(vae, latents.to(self.dtype), self.memory.decode_frames).float()
        self._check_finite("pixels", pixels)
        return pixels.clamp(-1, 1).cpu()

    def _denoise(
        self,
        settings: SamplingSettings,
        context: Float[Tensor, "b n c"],
        uncond_context: Float[Tensor, "b n c"],
        progress: bool,
        callback: Callable[[SamplingStep], None] | None,
    ) -> Float[Tensor, "b f latents h w"]:
        """Latents for as many videos as there are contexts, each from a stream of noise of its own."""
        videos, factor = len(context), self.release.autoencoder.downsampling
        shape = (videos, settings.frames, self.release.unet.out_channels)
        streams = noise_streams(settings.seed, videos)
        slice_layers(self.networks.unet, self.memory, self.device)
        noise = draw_noise((*shape, settings.height // factor, settings.width // factor), streams)
        with self._running("unet") as unet:
            return sample_ddim(
                unet,
                self.release.schedule,
                noise.to(self.device, torch.promote_types(noise.dtype, self.dtype)),  # float64 for weights in float64
                context=context,
                uncond_context=uncond_context,
                guidance_scale=settings.guidance_scale,
                fps=settings.fps,
                steps=settings.steps,
                eta=settings.eta,
                generator=streams,
                progress=progress,
                callback=callback,
                guidance_in_one_batch=self.memory.guidance_in_one_batch,
            )

    def _check_finite(self, what: str, values: Tensor) -> None:
        if not values.isfinite().all():
            wide = self.dtype in (torch.float32, torch.float64)
            too_large = "" if wide else f" or too large for {dtype_name(self.dtype)}"
            raise ArithmeticError(
                f"The {what} are not finite numbers: the weights are damaged{too_large}, so download them again"
                f"{'' if wide else ' or load with dtype=torch.float32'}."
            )

    def _place(self) -> None:
        """Bring the weights where the options want them to wait; free of cost where they are."""
        home = self.device if self.memory.offload is None else torch.device("cpu")
        for network in self.networks.named().values():
            network.to(home)
            if home.type == "cuda":
                channels_last_weights(network)

    @contextmanager
    def _running(self, name: str) -> Iterator[nn.Module]:
        network, offload = getattr(self.networks, name), self.memory.offload
        if offload is None:
            yield network
            return
        with (lend_by_block if (offload, name) == ("blocks", "unet") else lend)(network, self.device):
            yield network

    def _phase(self, phase: Phase, size: str = "the weights"):
        return memory_explained(phase, self.device, self.dtype, self.memory, size)

    def _contexts(
        self, prompts: list[str], negative_prompt: str, pictures: list[Float[Tensor, "3 _ _"]] | None
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b n c"]]:
        """Tokens for the prompts and, as many, for the negative prompt, each encoded once."""
        with self._running("text_encoder") as encoder:
            tokens = [encode_text(encoder, self.tokenizer([*prompts, negative_prompt]).to(self.device))]
        eye = self.release.image_encoder
        if pictures is not None and eye is not None:
            grey = torch.zeros(3, 2, 2)  # "No picture", as in the released scripts.
            prepared = torch.cat([seen_by_clip(picture[None], eye.image_size) for picture in (*pictures, grey)])
            with self._running("image_encoder") as encoder:
                seen = encoder(prepared.to(self.device, self.dtype))
            with self._running("resampler") as resampler:
                tokens.append(resampler(seen))

        def beside(kinds: list[Tensor]) -> Tensor:
            return torch.cat([repeat(t, "b n c -> (b r) n c", r=len(prompts) // len(t)) for t in kinds], dim=1)

        return beside([kind[:-1] for kind in tokens]), beside([kind[-1:] for kind in tokens])
