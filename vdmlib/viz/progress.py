"""Where a training run stands, as pictures for its folder (chapter 9)."""

import io
from collections.abc import Mapping, Sequence

from einops import rearrange
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor


def draw_progress(
    log: Sequence[Mapping[str, int | float]], sheet: Float[Tensor, "b f 3 h w"] | None
) -> dict[str, bytes]:
    """The loss over the steps and a sheet of clips in [−1, 1], a clip in each row: PNG files by their names."""
    from PIL import Image

    figure, files = Figure(figsize=(6, 3), layout="constrained"), {}
    axes = figure.subplots()
    axes.plot([row["step"] for row in log], [row["loss"] for row in log])
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    figure.savefig(loss := io.BytesIO(), format="png", dpi=120)
    files["loss.png"] = loss.getvalue()
    if sheet is not None:
        pixels = rearrange((sheet + 1) * 127.5, "b f c h w -> (b h) (f w) c").round().byte().cpu().numpy()
        Image.fromarray(pixels).save(samples := io.BytesIO(), format="png")
        files["samples.png"] = samples.getvalue()
    return files
