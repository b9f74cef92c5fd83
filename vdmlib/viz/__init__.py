"""The drawings of the book: one visual language for every figure.

One meaning for each colour, from the palette of Okabe and Ito, which people who see few colours can tell
apart: ``COLOURS``. What a colour says is also said by a word, a place or a mark. Tensors are boxes labelled
with their shape. The encoder goes down on the left, the decoder up on the right.

Light and dark pages: every figure is an opaque, light card (``CARD``) with dark ink. It is the same on both, so
that a colour, or a shade in a heat map, means the same on both. Pictures of data are grey, zero is black.

Widths are in inches of a page that is 7 wide; text of 10 points or more can still be read on a phone.

Numbers may be tensors of any type on any device, arrays, or lists of them. Pixels run from -1 to 1.

Matplotlib, Pillow and the widgets are needed for this module only, so ``import vdmlib`` does not import it.
"""

from .budget import budget_bars
from .dual_map import dual_map
from .machine import memory_over_time, roofline
from .motion import animate, gif_bytes, image_slider
from .pictures import heatmap, image_grid, labelled_heatmap, picture_map, source, table, tensor_row, to_bytes
from .resnet_map import resnet_map
from .style import CARD, COLOURS, DIVERGING, FAINT, INK, MUTED, SEQUENTIAL, arrow, box, mix, shown_once, use_style
from .transformer_map import row_map, transformer_map
from .unet_map import HIGHLIGHTS, unet_map

__all__ = [
    "CARD",
    "COLOURS",
    "DIVERGING",
    "FAINT",
    "HIGHLIGHTS",
    "INK",
    "MUTED",
    "SEQUENTIAL",
    "animate",
    "arrow",
    "box",
    "budget_bars",
    "dual_map",
    "gif_bytes",
    "heatmap",
    "image_grid",
    "image_slider",
    "labelled_heatmap",
    "memory_over_time",
    "mix",
    "picture_map",
    "resnet_map",
    "roofline",
    "row_map",
    "shown_once",
    "source",
    "table",
    "tensor_row",
    "to_bytes",
    "transformer_map",
    "unet_map",
    "use_style",
]
