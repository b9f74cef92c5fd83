"""How the outputs of a notebook are compared with those that are stored.

The notebooks run under the conditions under which they were executed, unless the environment names others
(`make processors`). Moving pictures are compared by what is seen: the last digit of a sum can turn a pixel into the
next colour of the palette. Still pictures are not compared; nbval leaves them out.
"""

import base64
import io
import os

import numpy as np
from execute_notebooks import ENVIRONMENT, INSTRUCTIONS
from nbval.plugin import IPyNbCell
from PIL import Image, ImageSequence

fixed = ENVIRONMENT.keys() - INSTRUCTIONS.keys() if INSTRUCTIONS.keys() & os.environ.keys() else ENVIRONMENT.keys()
threads = os.environ.get("OMP_NUM_THREADS", ENVIRONMENT["OMP_NUM_THREADS"])
os.environ |= {name: ENVIRONMENT[name] for name in fixed} | {"OMP_NUM_THREADS": threads}
os.environ.pop("COLAB_RELEASE_TAG", None)

GREY_LEVELS = 1  # Of 255: how far the frames of a moving picture may be apart on average.


def frames(gif: str) -> np.ndarray:
    """(frames, height, width, 3) colours of a GIF in base64."""
    with Image.open(io.BytesIO(base64.b64decode(gif))) as picture:
        return np.stack([np.asarray(frame.convert("RGB"), dtype=float) for frame in ImageSequence.Iterator(picture)])


def look_alike(gif: str, other: str) -> bool:
    one, two = frames(gif), frames(other)
    return one.shape == two.shape and bool((np.abs(one - two).mean(axis=(1, 2, 3)) <= GREY_LEVELS).all())


def compare_outputs(cell, outputs, stored, skip_compare=None):
    for new, old in zip(outputs, stored, strict=False):
        gifs = [output.get("data", {}).get("image/gif") for output in (new, old)]
        if all(gifs) and look_alike(*gifs):
            new["data"]["image/gif"] = gifs[1]
    return exactly(cell, outputs, stored, skip_compare)


exactly, IPyNbCell.compare_outputs = IPyNbCell.compare_outputs, compare_outputs
