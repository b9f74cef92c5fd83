"""Declares torchvision's two operators where its compiled ones cannot be loaded, so that it can be imported.

The tests run with PyTorch's build for CPUs; the registry's torchvision is compiled for CUDA and describes, while it is
imported, two operators that then do not exist ("operator torchvision::nms does not exist"). open_clip and diffusers
import it for what they do with picture files, which no test uses. Whoever installs matching builds never needs this.
"""

import sys
from importlib.abc import MetaPathFinder


class Declare(MetaPathFinder):
    """Acts at the one moment that counts: compiled operators are loaded by then, if they can be, and not described."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision._meta_registrations":
            import torch

            for operator in ("nms", "qnms"):
                if not hasattr(torch.ops.torchvision, operator):
                    torch.library.define(
                        f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                    )


sys.meta_path.insert(0, Declare())
