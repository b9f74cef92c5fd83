"""Every name and shape of the released files, at full size and without memory."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vdmlib import Release
from vdmlib.released.names import SCHEDULE, checkpoint_names, unused_names
from vdmlib.released.releases import skeleton

MANIFESTS = Path(__file__).parents[1] / "manifests"
RELEASES = {
    "t2v": Release.videocrafter2,
    "i2v": Release.videocrafter1_i2v,
    "t2v_512_v1": Release.videocrafter1_t2v_512,
    "t2v_1024_v1": Release.videocrafter1_t2v_1024,
}


@pytest.mark.parametrize("name", RELEASES)
def test_names_and_shapes_are_the_released_files(name):
    manifest = json.loads((MANIFESTS / f"checkpoint_{name}.json").read_text())
    vae = json.loads((MANIFESTS / "autoencoder_kl.json").read_text())
    release = RELEASES[name]()
    names_of = checkpoint_names(skeleton(release))
    ours = {t: list(s) for network, names in names_of.items() if network != "unet" for t, s in names.values()}
    ours |= {name: list(shape) for name, shape in unused_names(release).items()}
    others = {n: s for n, s in manifest["keys_outside_unet_and_vae"].items() if n not in SCHEDULE}
    assert ours == others | {f"first_stage_model.{name}": shape for name, shape in vae["keys"].items()}
    buffers = manifest["keys_outside_unet_and_vae"].keys() & SCHEDULE
    assert len(ours) + len(names_of["unet"]) + len(buffers) == manifest["total_keys"]
    elements = sum(torch.Size(shape).numel() for _, shape in names_of["unet"].values())
    assert elements == manifest["prefixes"]["model.diffusion_model."]["elements"]


def test_a_release_sees_pictures_or_it_does_not():
    for kind, changes in (("t2v", dict(kind="i2v")), ("i2v", dict(kind="t2v")), ("i2v", dict(resampler=None))):
        with pytest.raises(ValueError, match=r"give both to image-to-video models \('i2v'\), neither to others"):
            replace(Release.tiny(kind), **changes)
