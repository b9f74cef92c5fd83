"""vdmlib: the parts of the 3D U-Net of VideoCrafter, one module for each idea of the book.

Every video is ``(batch, frames, channels, height, width)``, written ``b f c h w``.
"""

from . import small
from .attention import Attention, ContextCache, FeedForward, SpatialTransformer, TemporalTransformer
from .conditioning import ImageProjection, Resampler
from .configuration import UNet3DConfig
from .diffusion import NoiseSchedule
from .embeddings import TimestepFPSEmbedding, sinusoidal_embedding
from .media import save_video
from .released import checkpoints
from .released.estimate import estimate_memory
from .released.memory import MemoryOptions
from .released.pipeline import VideoCrafterPipeline
from .released.releases import Release
from .resnet import Downsample, ResBlock, Upsample
from .sampling import SamplingStep, sample_ddim
from .temporal import TemporalConvBlock
from .unet3d import UNet3D, dimension_table

# The pages of the book ask for it: raise the second number whenever a name changes that a page uses.
__version__ = "0.2.0"

__all__ = [
    "Attention",
    "ContextCache",
    "Downsample",
    "FeedForward",
    "ImageProjection",
    "MemoryOptions",
    "NoiseSchedule",
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
