"""How the outputs of a notebook are compared with those that are stored.

The notebooks run under the conditions under which they were executed, unless the environment names others
(`make processors`) or the command another kernel (`make notebook-outputs`: that with Colab's versions). Moving pictures
are compared by what is seen: the last digit of a sum can turn a pixel into the next colour of the palette. Still
pictures are not compared; nbval leaves them out.
"""

import base64
import io
import os

import numpy as np
from execute_notebooks import ENVIRONMENT, INSTRUCTIONS
from nbval.plugin import IPyNbCell, IPyNbFile
from PIL import Image, ImageSequence

fixed = ENVIRONMENT.keys() - INSTRUCTIONS.keys() if INSTRUCTIONS.keys() & os.environ.keys() else ENVIRONMENT.keys()
threads = os.environ.get("OMP_NUM_THREADS", ENVIRONMENT["OMP_NUM_THREADS"])
os.environ |= {name: ENVIRONMENT[name] for name in fixed} | {"OMP_NUM_THREADS": threads}
os.environ.pop("COLAB_RELEASE_TAG", None)

# How far moving pictures may be apart: grey levels of 255 on average of a frame, and pixels in height and width.
BY_ROUNDING = 1, 0
BY_VERSIONS = 8, 2  # Another matplotlib sets its text a little differently; 7.0 and 1 were seen.


def frames(gif: str) -> np.ndarray:
    """(frames, height, width, 3) colours of a GIF in base64."""
    with Image.open(io.BytesIO(base64.b64decode(gif))) as picture:
        return np.stack([np.asarray(frame.convert("RGB"), dtype=float) for frame in ImageSequence.Iterator(picture)])


def look_alike(gif: str, other: str, grey_levels: float, pixels: int) -> bool:
    one, two = frames(gif), frames(other)
    least, most = np.minimum(one.shape, two.shape), np.maximum(one.shape, two.shape)
    if len(one) != len(two) or (most - least > pixels).any():
        return False
    one, two = (moving[:, : least[1], : least[2]] for moving in (one, two))
    return bool((np.abs(one - two).mean(axis=(1, 2, 3)) <= grey_levels).all())


def compare_outputs(cell, outputs, stored, skip_compare=None):
    apart = BY_VERSIONS if cell.config.option.nbval_kernel_name else BY_ROUNDING
    for new, old in zip(outputs, stored, strict=False):
        gifs = [output.get("data", {}).get("image/gif") for output in (new, old)]
        if all(gifs) and look_alike(*gifs, *apart):
            new["data"]["image/gif"] = gifs[1]
    return exactly(cell, outputs, stored, skip_compare)


exactly, IPyNbCell.compare_outputs = IPyNbCell.compare_outputs, compare_outputs


SLOWEST = ("02", "03", "07", "10", "11")


def pytest_collection_modifyitems(items) -> None:
    """The slowest chapters first, so that two processes end together."""
    items.sort(key=lambda item: not item.path.name.startswith(SLOWEST))


NEEDS_MORE = "11_gpu_sampling.ipynb"  # Its outputs come from packages that Colab installs later; see test_colab.py.


def setup(file: IPyNbFile) -> None:
    """Start the kernel that the command names, or that of the book where a chapter needs more packages."""
    options = file.config.option
    if options.nbval_kernel_name:
        options.nbval_current_env = file.path.name == NEEDS_MORE
    start_kernel(file)


start_kernel, IPyNbFile.setup = IPyNbFile.setup, setup
