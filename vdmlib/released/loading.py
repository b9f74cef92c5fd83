"""The released checkpoints: what each file holds, where it is, and reading it whole or not at all (chapter 10)."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..media import require
from .checkpoints import UNET_PREFIX, CheckpointError, load_unet, read_checkpoint, released_names
from .encoders import autoencoder_names, resampler_name
from .releases import RELEASES, Kind, Networks, Release, build_networks

Names = dict[str, tuple[str, tuple[int, ...]]]

AUTOENCODER, TEXT, IMAGE, RESAMPLER = (
    "first_stage_model.",
    "cond_stage_model.model.",
    "embedder.model.",
    "image_proj_model.",
)
# Buffers of the released sampler. The schedule here is computed, so they are allowed and left aside.
SCHEDULE = {
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance",
    "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2", "scale_arr",
}  # fmt: skip


def checkpoint_names(release: Release, networks: Networks | None = None) -> dict[str, Names]:
    """For each network and each of its parameters: the name in the released file, in full, and the shape there."""
    if networks is None:
        with torch.device("meta"):
            networks = build_networks(release)

    def own(network: nn.Module, prefix: str, rename=str) -> Names:
        return {name: (prefix + rename(name), tuple(p.shape)) for name, p in network.named_parameters()}

    def prefixed(names: Names, prefix: str) -> Names:
        return {ours: (prefix + theirs, shape) for ours, (theirs, shape) in names.items()}

    names = {
        "unet": prefixed(released_names(release.unet), UNET_PREFIX),
        "autoencoder": prefixed(autoencoder_names(networks.autoencoder), AUTOENCODER),
        "text_encoder": own(networks.text_encoder, TEXT),
    }
    if release.kind == "i2v":
        names["image_encoder"] = own(networks.image_encoder, IMAGE + "visual.")
        names["resampler"] = own(networks.resampler, RESAMPLER, resampler_name)
    return names


def unused_names(release: Release) -> dict[str, tuple[int, ...]]:
    """What else a released file holds of CLIP and no sampler needs: projections, a last block, half a text encoder."""
    text, channels = release.text_encoder, release.text_encoder.channels
    last, width = f"{TEXT}transformer.resblocks.{text.layers - 1}.", 4 * channels
    unused = {
        f"{TEXT}text_projection": (channels, channels),
        f"{TEXT}logit_scale": (),
        f"{last}attn.in_proj_weight": (3 * channels, channels),
        f"{last}attn.in_proj_bias": (3 * channels,),
        f"{last}attn.out_proj.weight": (channels, channels),
        f"{last}mlp.c_fc.weight": (width, channels),
        f"{last}mlp.c_fc.bias": (width,),
        f"{last}mlp.c_proj.weight": (channels, width),
    }
    vectors = ("ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias", "attn.out_proj.bias", "mlp.c_proj.bias")
    unused |= {last + name: (channels,) for name in vectors}
    if release.kind == "i2v":
        image = release.image_encoder
        unused |= {
            f"{IMAGE}positional_embedding": (text.tokens, channels),
            f"{IMAGE}text_projection": (channels, image.embedding_channels),
            f"{IMAGE}logit_scale": (),
            f"{IMAGE}token_embedding.weight": (text.vocabulary, channels),
            f"{IMAGE}ln_final.weight": (channels,),
            f"{IMAGE}ln_final.bias": (channels,),
            f"{IMAGE}visual.ln_post.weight": (image.channels,),
            f"{IMAGE}visual.ln_post.bias": (image.channels,),
            f"{IMAGE}visual.proj": (image.channels, image.embedding_channels),
        }
    return unused


def find_checkpoint(path_or_hub_id: str | Path) -> Path:
    """The file itself: a path, the checkpoint in a folder, or a download from the Hugging Face Hub.

    A download that was interrupted goes on where it stopped; a finished one is used again.
    """
    path = Path(path_or_hub_id).expanduser()
    if path.is_dir():
        found = sorted(p for suffix in ("ckpt", "safetensors", "pt") for p in path.glob(f"*.{suffix}"))
        if len(found) != 1:
            raise FileNotFoundError(
                f"The folder {path} holds {len(found)} checkpoints, but exactly one is needed: pass the file's path."
            )
        return found[0]
    hub_id = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(path_or_hub_id))
    if path.exists() or not hub_id or path.suffix in (".ckpt", ".safetensors", ".pt", ".pth"):
        return path
    hub = require("huggingface_hub")
    try:
        return Path(hub.hf_hub_download(str(path_or_hub_id), "model.ckpt"))
    except Exception as error:  # The hub's library lets the errors of its network libraries through.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"model.ckpt could not be downloaded from {path_or_hub_id} on the Hugging Face Hub: check the name and the "
            f"network and run again, what has already arrived is kept. ({reason[0][:200]})"
        ) from error


def load_release(
    path: str | Path,
    kind: Kind,
    release: Release | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    verify: bool = True,
) -> tuple[Networks, Release]:
    """Read a released checkpoint. Every name and shape is checked before the first weight is used.

    Args:
        path: the file; never executed, see :func:`vdmlib.checkpoints.read_checkpoint`.
        kind: text to video or image to video.
        release: which model; by default the released one of this kind whose names and shapes are the file's.
        dtype, device: of the weights; ``None`` leaves them as they are.
        verify: read a ``.ckpt`` once in full to compare its checksums, which finds damage inside the weights.

    Raises:
        CheckpointError: lists what is missing, foreign or misshapen, or says that the file is damaged.
    """
    weights = _unwrap(read_checkpoint(path), path)
    release = release or _recognise(weights, kind)
    with torch.device("meta"):
        networks = build_networks(release)
    names = checkpoint_names(release, networks)
    _check(weights, names, release, path)
    if verify:
        _verify(Path(path))
    networks.unet = load_unet(path, release.unet, dtype=dtype, device=device).requires_grad_(False)
    for name, network in networks.named().items():
        if name != "unet":
            shapes = {ours: p.shape for ours, p in network.named_parameters()}
            converted = {
                ours: weights[theirs].reshape(shapes[ours]).to(device=device, dtype=dtype)
                for ours, (theirs, _) in names[name].items()
            }
            network.load_state_dict(converted, assign=True)
            network.requires_grad_(False)
    return networks, release


def _unwrap(content: Mapping, path: str | Path) -> Mapping[str, Tensor]:
    weights = content["state_dict"] if isinstance(content.get("state_dict"), Mapping) else content
    strange = [str(name) for name, value in weights.items() if not isinstance(value, Tensor)]
    if strange or not weights:
        raise CheckpointError(
            f"{Path(path).name} is no checkpoint of weights (it holds {', '.join(strange[:3]) or 'nothing'}): pass a "
            f"released model.ckpt."
        )
    return weights


def _recognise(weights: Mapping[str, Tensor], kind: Kind) -> Release:
    first, *others = RELEASES[kind]
    shapes = {name: tuple(weight.shape) for name, weight in weights.items() if name.startswith(UNET_PREFIX)}
    for release in others:
        if shapes == {UNET_PREFIX + name: shape for name, shape in released_names(release.unet).values()}:
            return release
    return first


def _check(weights: Mapping[str, Tensor], names: Mapping[str, Names], release: Release, path: str | Path) -> None:
    needed = {theirs: shape for network in names.values() for theirs, shape in network.values()}
    known = needed | unused_names(release)
    missing = [name for name in needed if name not in weights]
    foreign = [name for name in weights if name not in known and name not in SCHEDULE]
    misshapen = [
        f"{name} is {tuple(weights[name].shape)}, needs {shape}"
        for name, shape in needed.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]
    integers = [name for name in needed if name in weights and not weights[name].is_floating_point()]
    problems = {
        "missing": missing, "foreign": foreign, "of the wrong shape": misshapen, "without fractions": integers,
    }  # fmt: skip
    if found := [f"{len(list_)} {what} ({_some(list_)})" for what, list_ in problems.items() if list_]:
        raise CheckpointError(
            f"{Path(path).name} is not the checkpoint of this {release.kind} model: {', '.join(found)}; "
            f"{_advice(weights, release)}."
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _advice(weights: Mapping[str, Tensor], release: Release) -> str:
    of_image_model = any(name.startswith(IMAGE) for name in weights)
    if of_image_model != (release.kind == "i2v"):
        return f"it looks like kind {'i2v' if of_image_model else 't2v'!r}, so pass that"
    return "pass the released model.ckpt of this kind, as it was downloaded"


def _verify(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(f"{path.name} is damaged inside ({damaged} has a wrong checksum): download it again.")
