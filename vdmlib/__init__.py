"""vdmlib: the parts of the 3D U-Net of VideoCrafter, one module for each idea of the book.

Every video is ``(batch, frames, channels, height, width)``, written ``b f c h w``.
"""

from . import checkpoints
from .attention import Attention, ContextCache, FeedForward, SpatialTransformer, TemporalTransformer
from .conditioning import ImageProjection, Resampler
from .diffusion import NoiseSchedule
from .embeddings import TimestepFPSEmbedding, sinusoidal_embedding
from .resnet import Downsample, ResBlock, Upsample
from .sampling import SamplingStep, sample_ddim
from .temporal import TemporalConvBlock
from .unet3d import UNet3D, UNet3DConfig, dimension_table

__all__ = [
    "Attention",
    "ContextCache",
    "Downsample",
    "FeedForward",
    "ImageProjection",
    "NoiseSchedule",
    "ResBlock",
    "Resampler",
    "SamplingStep",
    "SpatialTransformer",
    "TemporalConvBlock",
    "TemporalTransformer",
    "TimestepFPSEmbedding",
    "UNet3D",
    "UNet3DConfig",
    "Upsample",
    "checkpoints",
    "dimension_table",
    "sample_ddim",
    "sinusoidal_embedding",
]
