"""How much memory a run needs, counted tensor by tensor before anything is allocated (chapter 11)."""

import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ..attention import Attention, FeedForward
from ..checks import check_instance, check_number, check_side
from ..devices import choose_dtype
from ..unet3d import UNet3D
from .encoders import decode_latents, encode_text
from .memory import FASTEST, MemoryOptions, Phase, slice_layers, tensors_of
from .releases import Networks, Release, skeleton


class TensorLedger(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive while it is active: each storage once, from birth to death.

    ``on_cpu`` also counts that a CPU's convolution copies its weights while it runs, into a layout of its own and, if
    need be, into that of its input before; beside a short and small video that is more than all activations.
    """

    def __init__(self, on_cpu: bool = False):
        super().__init__()
        self.on_cpu = on_cpu
        self.bytes = self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for leaf in tree_leaves((args, kwargs)):
            self._meet(leaf, new=False)
        result = func(*args, **kwargs)
        for leaf in tree_leaves(result):
            self._meet(leaf, new=True)
        if self.on_cpu and func is torch.ops.aten.convolution.default and math.prod(args[1].shape[2:]) > 1:
            copies = 1 if args[0].is_contiguous() else 2
            self.peak = max(self.peak, self.bytes + copies * args[1].nbytes)
        return result

    def _meet(self, leaf: object, new: bool) -> None:
        if not isinstance(leaf, Tensor) or (key := leaf.untyped_storage()._cdata) in self._known:
            return
        storage = leaf.untyped_storage()
        size = storage.nbytes() if new else 0  # What was there before, such as weights, is not counted.

        def forget(_):
            del self._known[key]
            self.bytes -= size

        self._known[key] = weakref.ref(storage, forget)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)


def peak_bytes(run: Callable[[], object], on_cpu: bool = False) -> int:
    """The most bytes that the tensors made inside ``run`` take at one moment; see :class:`TensorLedger`."""
    with TensorLedger(on_cpu) as ledger:
        run()
    return ledger.peak


@contextmanager
def alike_computed_once(net: nn.Module, ledger: TensorLedger) -> Iterator[None]:
    """Of the many slices of equal size that a layer takes one after the other, only the first is computed.

    The others take as much memory as that one, and are counted so; of fake tensors there is nothing else to know.
    """
    methods = {FeedForward: ("each_token",), Attention: ("keys_values", "attend_to")}
    changed = [(m, name) for m in net.modules() for kind in methods if isinstance(m, kind) for name in methods[kind]]
    for layer, name in changed:
        setattr(layer, name, _once(getattr(layer, name), ledger))
    try:
        yield
    finally:
        for layer, name in changed:
            delattr(layer, name)


def _once(compute: Callable[..., Any], ledger: TensorLedger) -> Callable[..., Any]:
    known: dict[str, tuple[int, Any]] = {}

    def computed(*given: Any) -> Any:
        alike = str(tree_map(_layout, given))
        if alike in known:
            needed, layouts = known[alike]
            ledger.peak = max(ledger.peak, ledger.bytes + needed)
            return tree_map(lambda layout: torch.empty_strided(**layout.__dict__), layouts)
        before, peak, ledger.peak = ledger.bytes, ledger.peak, ledger.bytes
        result = compute(*given)
        known[alike] = ledger.peak - before, tree_map(_layout, result)
        ledger.peak = max(peak, ledger.peak)
        return result

    return computed


@dataclass(frozen=True)
class _Layout:
    """How a tensor lies in memory: all that is to be known of a fake one."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


def _layout(leaf: Any) -> Any:
    return _Layout(tuple(leaf.shape), leaf.stride(), leaf.dtype) if isinstance(leaf, Tensor) else leaf


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes: of each network's weights, and in each phase the weights on the device and the peak of everything else."""

    weights: dict[str, int]
    resident: dict[Phase, int]
    activations: dict[Phase, int]

    @property
    def peak(self) -> int:
        """The most that is needed at once, and so what the device must have."""
        return max(self.resident[phase] + self.activations[phase] for phase in self.resident)


def estimate_memory(  # noqa: PLR0913, a documented entry point
    release: Release,
    options: MemoryOptions = FASTEST,
    dtype: torch.dtype | str = torch.float16,
    frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    prompts: int = 1,
    guidance: bool = True,
    device: torch.device | str = "cuda",
) -> MemoryEstimate:
    """What a run of :class:`vdmlib.VideoCrafterPipeline` on a device needs, without memory, weights or that device.

    Every phase runs on fake tensors, which have shapes and lifetimes but no contents, and all of them are counted.
    Kernels are taken to be fused as the CPU's are. What a GPU's libraries take as working space, and copies where one
    of them wants another layout, come on top.

    Args:
        release: which model; frames, height and width are its own where they are ``None``.
        options: what is traded for less memory.
        dtype: of the weights.
        prompts: videos made at once. guidance: whether each step also asks for the negative prompt.
        device: only its kind counts; a CPU copies the weights of convolutions.

    Raises:
        ValueError, TypeError: for sizes that no video can have and arguments of another kind, in one sentence.
    """
    check_instance("release", release, Release, "Release.videocrafter2()")
    check_instance("options", options, MemoryOptions, "MemoryOptions(decode_frames=1)")
    device, dtype = torch.device(device), choose_dtype(dtype, torch.device("cpu"))
    frames = release.frames if frames is None else frames
    height = release.height if height is None else height
    width = release.width if width is None else width
    check_number("frames", frames, 1, 1024, whole=True)
    check_number("prompts", prompts, 1, 1024, whole=True)
    check_side("height", height)
    check_side("width", width)
    networks = skeleton(release)
    weights = {
        name: sum(parameter.numel() for parameter in network.parameters()) * dtype.itemsize
        for name, network in networks.named().items()
    }
    factor = release.autoencoder.downsampling
    latents = (prompts, frames, release.unet.in_channels, height // factor, width // factor)
    with FakeTensorMode(), torch.no_grad():
        for network in networks.named().values():
            make_fake(network, dtype)
        slice_layers(networks.unet, options, device)
        run = _FakeRun(release, networks, options, dtype, latents, halves=2 if guidance else 1)
        activations: dict[Phase, int] = {
            phase: max(run.peak_bytes(step, on_cpu=device.type == "cpu") for step in steps)
            for phase, steps in run.steps().items()
        }
    return MemoryEstimate(weights, _resident(weights, networks.unet, options, dtype), activations)


@dataclass(frozen=True)
class _FakeRun:
    """What a pipeline computes, phase by phase, on fake tensors. ``halves``: two with guidance, else one."""

    release: Release
    networks: Networks
    options: MemoryOptions
    dtype: torch.dtype
    latents: tuple[int, ...]
    halves: int

    def steps(self) -> Mapping[Phase, Sequence[Callable[[], object]]]:
        """The calls of which each phase consists, one after the other; what they take at first is not counted."""
        text, videos = self.release.text_encoder, self.latents[0]
        ids, tokens = torch.zeros(videos + 1, text.tokens, dtype=torch.long), text.tokens
        encode: list[Callable[[], object]] = [lambda: encode_text(self.networks.text_encoder, ids)]
        image_encoder, resampler = self.networks.image_encoder, self.networks.resampler
        if self.release.image_encoder is not None and image_encoder is not None and resampler is not None:
            side = self.release.image_encoder.image_size
            pictures = torch.empty(videos + 1, 3, side, side, dtype=self.dtype)
            encode.append(lambda: resampler(image_encoder(pictures)))
            tokens += resampler.queries.shape[1]
        at_once = self.halves if self.options.guidance_in_one_batch else 1
        context = torch.empty(at_once * videos, tokens, self.release.unet.context_channels or 0, dtype=self.dtype)
        return {"encoding": encode, "denoising": [lambda: self._denoise(context)], "decoding": [self._decode]}

    def peak_bytes(self, step: Callable[[], object], on_cpu: bool) -> int:
        with TensorLedger(on_cpu) as ledger, alike_computed_once(self.networks.unet, ledger):
            step()
        return ledger.peak

    def _denoise(self, context: Tensor) -> object:
        x = torch.empty(self.latents)
        # Where the two halves take turns, the keys and values of the first stay while the second runs.
        caches = [self.networks.unet.prepare_context(context) for _ in range(self.halves * len(x) // len(context))]
        for cache in caches:
            repeated = torch.cat([x] * (len(context) // len(x))).to(self.dtype)
            result = self.networks.unet(repeated, torch.zeros(len(context)), context=cache, fps=self.release.fps)
        return x, result.float()

    def _decode(self) -> Tensor:
        latents = torch.empty(self.latents, dtype=self.dtype)
        return decode_latents(self.networks.autoencoder, latents, self.options.decode_frames)


def make_fake(network: nn.Module, dtype: torch.dtype) -> None:
    for kind in tensors_of(network):
        for name, tensor in kind.items():
            if tensor is not None:
                fake = torch.empty(tensor.shape, dtype=dtype)
                kind[name] = nn.Parameter(fake, requires_grad=False) if isinstance(tensor, nn.Parameter) else fake


def _resident(weights: dict[str, int], net: UNet3D, options: MemoryOptions, dtype: torch.dtype) -> dict[Phase, int]:
    if options.offload is None:
        return dict.fromkeys(("encoding", "denoising", "decoding"), sum(weights.values()))
    unet = weights["unet"]
    if options.offload == "blocks":
        blocks = [sum(p.numel() for p in block.parameters()) * dtype.itemsize for block in net.named_blocks().values()]
        unet = unet - sum(blocks) + max(blocks)
    images = weights.get("image_encoder", 0) + weights.get("resampler", 0)
    return {"encoding": max(weights["text_encoder"], images), "denoising": unet, "decoding": weights["autoencoder"]}
