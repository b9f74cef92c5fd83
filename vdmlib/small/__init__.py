"""The book's own small text- and image-conditioned video model (chapters 9 and 10).

Example::

    model = vdmlib.small.load_pretrained("t2v")
    video = model.generate(["a red 7 moving left quickly"], fps=16)      # (1, 8, 3, 64, 64), in [−1, 1]
"""

from . import data, judge, model, settings, stages, training, weights
from .judge import load_classifier
from .model import Pipeline, TextEncoder, VideoModel, small_schedule, small_unet
from .settings import CONFIGS, TrainingConfig
from .weights import load_autoencoder, load_pretrained, load_video_model, read_card, save_weights

__all__ = [
    "CONFIGS",
    "Pipeline",
    "TextEncoder",
    "TrainingConfig",
    "VideoModel",
    "data",
    "judge",
    "load_autoencoder",
    "load_classifier",
    "load_pretrained",
    "load_video_model",
    "model",
    "read_card",
    "save_weights",
    "settings",
    "small_schedule",
    "small_unet",
    "stages",
    "training",
    "weights",
]
