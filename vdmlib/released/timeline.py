"""One pass through the U-Net, operation by operation: what lives when, and what is computed and moved (chapter 11)."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from ..attention import SpatialTransformer, TemporalTransformer, TransformerBlock
from ..checks import check_instance
from ..devices import choose_dtype
from ..resnet import Downsample, ResBlock, Upsample
from ..temporal import TemporalConvBlock
from ..unet3d import UNet3D
from .estimate import TensorLedger, make_fake
from .memory import FASTEST, MemoryOptions, slice_layers
from .releases import Release

_KINDS = {
    TemporalConvBlock: "temporal convolution",
    ResBlock: "ResNet, space",
    SpatialTransformer: "spatial transformer",
    TemporalTransformer: "temporal transformer",
    Downsample: "halving, doubling",
    Upsample: "halving, doubling",
}


def _flops(func: Any, args: Any, kwargs: Any, result: Any) -> int:
    if func is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default:  # PyTorch's table leaves it out.
        return sdpa_flop_count(*(tensor.shape for tensor in args[:3]))
    count = flop_registry.get(func._overloadpacket)
    return count(*args, **kwargs, out_val=result) if count else 0


def stored_bytes(tensor: Tensor) -> int:
    """Of a tensor's numbers, each once: what is only repeated (expanded, with a stride of 0) lies in memory once."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(size for size, stride in sizes if stride) * tensor.element_size()


@dataclass(frozen=True)
class Operation:
    """One operation of PyTorch.

    Attributes:
        block: of the U-Net, as in :meth:`vdmlib.UNet3D.named_blocks`; "" between blocks.
        kind: of the innermost layer, such as "spatial transformer"; "other" outside of these.
        layer: of a transformer: "attention over space", "attention over time", "attention to text" (and picture),
            "feed-forward"; "" outside of these.
        live: bytes of all tensors but weights and inputs after it.
        skips: how many of them wait for the decoder.
        flops: a multiplication and an addition count as two; operations other than products count nothing.
        moved: bytes of what it reads and of what it writes, 0 where it is only another view.
    """

    block: str
    kind: str
    layer: str
    live: int
    skips: int
    flops: int
    moved: int


class _Recorder(TensorLedger):
    def __init__(self):
        super().__init__()
        self.operations: list[Operation] = []
        self.block, self.layer, self.kinds, self.skips = "", "", ["other"], [0]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = super().__torch_dispatch__(func, types, args, kwargs)
        flops = _flops(func, args, kwargs or {}, result)
        given, made = ([leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)] for tree in (args, result))
        storages = {leaf.untyped_storage()._cdata for leaf in given}
        is_view = all(leaf.untyped_storage()._cdata in storages for leaf in made) and not func._schema.is_mutable
        moved = 0 if is_view else sum(stored_bytes(leaf) for leaf in [*given, *made])
        where = self.block, self.kinds[-1], self.layer
        self.operations.append(Operation(*where, self.bytes, sum(self.skips), flops, moved))
        return result

    @contextmanager
    def inside(self, block: str | None, kind: str | None, layer: str | None) -> Iterator[None]:
        before = self.block, self.layer
        self.block, self.layer = block or self.block, layer or self.layer
        self.kinds.append(kind or self.kinds[-1])
        yield
        self.block, self.layer = before
        self.kinds.pop()


def timeline(
    release: Release,
    options: MemoryOptions = FASTEST,
    dtype: torch.dtype | str = torch.float16,
    guidance: bool = True,
) -> list[Operation]:
    """What the U-Net of a release does in one sampling step at its own size, as on a GPU, on fake tensors.

    As :func:`vdmlib.estimate_memory` counts, whose peak while denoising it has, but for the copy of the result. With
    ``guidance_in_one_batch`` off only the first of the two passes is in it.

    Raises:
        TypeError, ValueError: for arguments of another kind.
    """
    check_instance("release", release, Release, "Release.videocrafter2()")
    check_instance("options", options, MemoryOptions, "MemoryOptions(decode_frames=1)")
    dtype, config = choose_dtype(dtype, torch.device("cpu")), release.unet
    factor = release.autoencoder.downsampling
    videos = 2 if guidance and options.guidance_in_one_batch else 1
    size = (release.frames, config.in_channels, release.height // factor, release.width // factor)
    with torch.device("meta"):
        net = UNet3D(config).eval().requires_grad_(False)
    recorder = _Recorder()
    with FakeTensorMode(), torch.no_grad(), ExitStack() as stack:
        make_fake(net, dtype)
        slice_layers(net, options, torch.device("cuda"))
        blocks = {block: name for name, block in net.named_blocks().items()}
        layers = _layers_of_transformers(net)
        for module in net.modules():
            names = blocks.get(module), _KINDS.get(type(module)), layers.get(module)
            if any(names):
                stack.enter_context(_watched(module, *names, recorder))
        tokens = config.text_tokens + (16 if config.image_attention else 0)
        context = torch.empty(videos, tokens, config.context_channels or 0, dtype=dtype)
        with recorder:
            net(torch.empty(videos, *size, dtype=dtype), torch.zeros(videos), net.prepare_context(context))
    return recorder.operations


def _layers_of_transformers(net: UNet3D) -> dict[nn.Module, str]:
    found: dict[nn.Module, str] = {}
    for transformer in net.modules():
        if isinstance(transformer, SpatialTransformer | TemporalTransformer):
            own = f"attention over {'space' if isinstance(transformer, SpatialTransformer) else 'time'}"
            for block in cast(Iterable[TransformerBlock], transformer.blocks):
                found[block.self_attention] = own
                found[block.cross_attention] = "attention to text" if transformer.uses_context else own
                found[block.feed_forward] = "feed-forward"
    return found


@contextmanager
def _watched(
    module: nn.Module, block: str | None, kind: str | None, layer: str | None, recorder: _Recorder
) -> Iterator[None]:
    # No hooks: with them a network keeps what layers have returned, for whoever looks at it.
    forward: Callable[..., Tensor] = module.forward

    def watched(*inputs: Any, **options: Any) -> Tensor:
        with recorder.inside(block, kind, layer):
            if block is not None and block.startswith("decoder"):
                recorder.skips.pop()  # Joined with what comes from below just before.
            result = forward(*inputs, **options)
        if block == "init_attention":
            recorder.skips.pop()  # Keeps its own result instead of that of the convolution.
        if block is not None and block.startswith(("encoder", "init")):
            recorder.skips.append(result.nbytes)
        return result

    module.forward = watched
    try:
        yield
    finally:
        del module.forward
