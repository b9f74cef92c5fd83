"""vdmlib: the parts of the 3D U-Net of VideoCrafter, one module for each idea of the book.

Every video is ``(batch, frames, channels, height, width)``, written ``b f c h w``.
"""

from . import small
from .attention import (
    Attention,
    DualCrossAttention,
    FeedForward,
    RelativeAttention,
    SpatialTransformer,
    TemporalTransformer,
)
from .conditioning import ImageProjection, Resampler
from .configuration import UNet3DConfig
from .diffusion import NoiseSchedule
from .embeddings import TimestepFPSEmbedding, sinusoidal_embedding
from .inference import ContextCache
from .media import save_video
from .released import checkpoints
from .released.estimate import estimate_memory
from .released.memory import MemoryOptions
from .released.pipeline import VideoCrafterPipeline
from .released.releases import Release
from .resnet import Downsample, ResBlock, Upsample
from .sampling import SamplingStep, sample_ddim
from .shapes import dimension_table
from .temporal import TemporalConvBlock
from .unet3d import UNet3D

# The pages of the book ask for it: raise the second number whenever a name changes that a page uses.
__version__ = "0.2.0"

__all__ = [
    "Attention",
    "ContextCache",
    "Downsample",
    "DualCrossAttention",
    "FeedForward",
    "ImageProjection",
    "MemoryOptions",
    "NoiseSchedule",
    "RelativeAttention",
    "Release",
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
    "VideoCrafterPipeline",
    "checkpoints",
    "dimension_table",
    "estimate_memory",
    "sample_ddim",
    "save_video",
    "sinusoidal_embedding",
    "small",
]
