"""The released models end to end on one device: a prompt, and for I2V a picture, in; frames out (chapter 10).

    pipe = vdmlib.VideoCrafterPipeline.from_checkpoint("VideoCrafter/VideoCrafter2", kind="t2v")
    frames = pipe("a sailing boat at sunset", seed=1)          # (1, 16, 3, 320, 512) in 0 ... 1
    vdmlib.save_video(frames, "boat.mp4")

U-Net and sampler are this library's; text encoder, image encoder and autoencoder come from
:mod:`vdmlib.released.encoders`.
Follows ``scripts/evaluation/inference.py`` and ``scripts/gradio/i2v_test.py`` of the released code.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from ..attention import ContextCache, SpatialTransformer
from ..devices import (
    channels_last_weights,
    choose_device,
    choose_dtype,
    compile_network,
    dtype_name,
)
from ..media import check_number, read_images
from ..media import save_video as save_video
from ..sampling import SamplingStep, sample_ddim
from ..unet3d import UNet3D
from .checkpoints import find_checkpoint, load_release
from .encoders import decode_latents, encode_text, prepare_image, tokenizer
from .memory import FASTEST, MemoryOptions, Phase, lend, lend_by_block, memory_explained, slice_layers
from .releases import RELEASES, Kind, Networks, Release


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
        if kind not in RELEASES:
            raise ValueError(f"kind is {kind!r}: use 't2v' (text to video) or 'i2v' (image to video).")
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
        if self.memory.offload is not None:
            raise ValueError(
                f"offload is {self.memory.offload!r}, but compiled weights cannot move: use one or the other."
            )
        compile_network(self.networks.unet, **options)
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
        with self._phase("loading"):
            self._place()

        generator = torch.Generator()
        generator.seed() if seed is None else generator.manual_seed(seed)
        factor = release.autoencoder.downsampling
        shape = (len(prompts), frames, release.unet.out_channels, height // factor, width // factor)
        size = f"{len(prompts)} × {frames} frames of {height} × {width}"
        with self._phase("encoding", size):
            context, uncond_context = self._contexts(prompts, negative_prompt, pictures)
        with self._phase("denoising", size), self._running("unet") as unet:
            slice_layers(unet, self.memory, self.device)
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
        self._check_finite("latents", latents)
        with self._phase("decoding", size), self._running("autoencoder") as vae:
            pixels = decode_latents(vae, latents.to(self.dtype), self.memory.decode_frames).float()
        self._check_finite("pixels", pixels)
        return ((pixels + 1) / 2).clamp(0, 1).cpu()

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
        check_number("fps", fps, 0.1, 1000)
        check_number("guidance_scale", guidance_scale, 0, 1000)
        check_number("eta", eta, 0, 1)
        check_number("steps", steps, 1, len(self.release.schedule), whole=True)
        check_number("frames", frames, 1, 1024, whole=True)
        for name, side in (("height", height), ("width", width)):
            check_number(name, side, 64, 8192, whole=True)
            if side % 64:
                raise ValueError(
                    f"{name} is {side}, but must be a multiple of 64 pixels: {64 * round(side / 64)} fits."
                )
        if seed is not None:
            check_number("seed", seed, 0, 2**63 - 1, whole=True)
        if len(self.release.schedule) % steps:
            raise ValueError(
                f"steps is {steps}, but must divide {len(self.release.schedule)}: use 10, 20, 25, 40, 50 or 100."
            )

    def _check_finite(self, what: str, values: Tensor) -> None:
        if not values.isfinite().all():
            raise ArithmeticError(
                f"The {what} are not finite numbers: the weights are damaged or too large for "
                f"{dtype_name(self.dtype)}, so download them again or load with dtype=torch.float32."
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
        self, prompts: list[str], negative_prompt: str, pictures: Tensor | None
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b n c"]]:
        """Tokens for the prompts and, as many, for the negative prompt, each encoded once."""
        with self._running("text_encoder") as encoder:
            tokens = [encode_text(encoder, self.tokenizer([*prompts, negative_prompt]).to(self.device))]
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
