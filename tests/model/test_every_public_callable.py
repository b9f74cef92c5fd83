"""Every function, class and method that a notebook can reach answers a mistake in a sentence.

A callable is found here as soon as a module defines it under a public name; so is each method that takes something, of
a class with a row. It then needs a row in ``ROWS``, one of the tables beside this file may say more, or a reason in
``EXCEPTIONS``.
"""

import importlib
import inspect
import pkgutil
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from tiny_networks import tiny_config

import vdmlib
from vdmlib import course, files, media, small, train, viz
from vdmlib.attention import DualCrossAttention, SpatialTransformer, TemporalTransformer
from vdmlib.autoencoder import Autoencoder
from vdmlib.course.leaderboard import leaderboard
from vdmlib.released import downloads, encoders, memory, names, synthetic, timeline, trace
from vdmlib.released.pipeline import SamplingSettings
from vdmlib.released.releases import build_networks
from vdmlib.small import data, judge, stages, training

LAYER = "a layer: UNet3D, which makes it, checks sizes and inputs for all of its layers"
SHOWN = "its source is shown on a page line by line; its callers check"
RESULT = "a result that the library makes and hands out"
INNER = "called by the library alone, with what it has already checked"
NOTHING = "takes nothing that could be wrong"
COMMAND = "a command: tests/small/test_settings.py and test_sample_cli.py have its errors and exit codes"
EXCEPTIONS = {
    "attention.attend": LAYER,
    "attention.Attention": LAYER,
    "attention.RelativeAttention": LAYER,
    "attention.ImageTokens": LAYER,
    "attention.FeedForward": LAYER,
    "attention.TransformerBlock": LAYER,
    "conditioning.ImageProjection": LAYER,
    "conditioning.Resampler": LAYER,
    "embeddings.EmbeddingMLP": LAYER,
    "resnet.Downsample": LAYER,
    "resnet.Upsample": LAYER,
    "temporal.TimeConv": SHOWN,
    "temporal.TemporalConvBlock": SHOWN,
    "small.model.TextEncoder": "a layer of VideoModel, which checks its configuration; tokenize checks the captions",
    "temporal.per_frame": SHOWN,
    "temporal.per_video": SHOWN,
    "sampling.split_prediction": SHOWN,
    "inference.ContextCache": RESULT,
    "sampling.SamplingStep": RESULT,
    "small.data.Clips": RESULT,
    "exercises.check": "whatever a test of an exercise raises is printed as a property that fails",
    "sample.sample_small": COMMAND,
    "sample.sample_checkpoint": COMMAND,
    "sample.parser": COMMAND,
    "sample.main": COMMAND,
    "train.checked_config": COMMAND,
    "train.command_of": COMMAND,
    "train.folder_of": COMMAND,
    "train.parser": COMMAND,
    "train.main": COMMAND,
    "course.try_part": "never raises: what is wrong is printed, tests/course/test_parts.py",
    "course": "has tests of its own, tests/course",
    "grade": "has tests of its own, tests/course",
}
EXCEPTIONS |= dict.fromkeys(
    [
        "autoencoder.ResidualBlock",
        "conditioning.PerceiverAttention",
        "attention.RelativePosition",
        "unet2d.ConvBlock",
        "unet2d.HalveResolution",
        "unet2d.DoubleResolution",
        "unet3d.UNetBlock",
        "small.model.FrameEncoder",
        "attention.DualCrossAttention.keys_values",
        "attention.DualCrossAttention.attend_to",
    ],
    "a layer, made and called by one with a row",
)
EXCEPTIONS |= dict.fromkeys(
    [
        "exercises.Report",
        "files.CheckpointFile",
        "released.estimate.MemoryEstimate",
        "released.releases.Networks",
        "released.timeline.Operation",
        "released.trace.Trace",
        "released.synthetic.SyntheticWeights",
        "sampling.DDIMStep",
        "sampling.Guided",
        "shapes.BlockRow",
        "small.data.Clip",
        "small.distributed.Processes",
        "small.judge.Verdict",
        "small.model.BesideFrame",
        "small.training.Result",
        "released.estimate.TensorLedger",
    ],
    RESULT,
)
EXCEPTIONS |= dict.fromkeys(
    [
        "small.model.small_schedule",
        "released.trace.recorded_trace",
        "viz.style.use_style",
        "small.judge.DigitClassifier",
    ],
    NOTHING,
)
EXCEPTIONS |= dict.fromkeys(
    [
        "configuration.UNet3DConfig.attention_heads",
        "devices.channels_last_weights",
        "devices.compile_network",
        "devices.dtype_name",
        "inference.AsksContext",
        "inference.unwrapped",
        "inference.bare_name",
        "inference.in_chunks",
        "media.rounded",
        "media.write_gif",
        "media.replacing",
        "media.save_somewhere",
        "released.encoders.encode_text",
        "released.encoders.AutoencoderConfig",
        "released.encoders.seen_by_clip",
        "released.encoders.encode_pixels",
        "released.encoders.decode_latents",
        "released.estimate.peak_bytes",
        "released.estimate.alike_computed_once",
        "released.estimate.make_fake",
        "released.memory.slice_layers",
        "released.memory.lend",
        "released.memory.tensors_of",
        "released.memory.lend_by_block",
        "released.memory.MemoryOptions.next_saving",
        "released.memory.MemoryOptions.difference",
        "released.downloads.download",
        "files.refuse_doubled_names",
        "files.first_sentence",
        "released.names.resampler_name",
        "released.names.unet_names",
        "released.names.autoencoder_names",
        "released.names.checkpoint_names",
        "released.names.unused_names",
        "released.releases.skeleton",
        "released.synthetic.write",
        "released.timeline.stored_bytes",
        "released.trace.made_weight",
        "released.pipeline.VideoCrafterPipeline.compile",
        "small.stages.generator_for",
        "small.stages.Stage",
        "small.stages.numbers_of",
        "small.stages.AutoencoderStage",
        "small.stages.JudgeStage",
        "small.stages.augment",
        "small.stages.hide_look",
        "small.stages.DenoiserStage.train",
        "small.stages.DenoiserStage.timesteps",
        "small.stages.DenoiserStage.given_frames",
        "small.stages.DenoiserStage.denoise",
        "small.stages.DenoiserStage.report",
        "small.stages.DenoiserStage.sheet",
        "small.training.learning_rate_at",
        "small.training.update_average",
        "small.training.half_precision",
        "small.training.card_of",
        "small.training.Run.step",
        "small.training.Run.remaining",
        "small.training.Run.record",
        "small.training.Run.checkpoint",
        "small.weights.write_whole",
        "small.weights.has_piece",
        "small.weights.sha256",
        "small.weights.read_weights",
        "small.weights.copy_weights",
        "small.data.MovingDigits.generator",
        "temporal.channels_last",
        "viz.pictures.as_array",
        "viz.progress.draw_progress",
        "viz.style.check_drawable",
    ],
    INNER,
)

CLIPS = torch.zeros(2, 8, 3, 64, 64)
PROMPT = data.Prompt(7, "red", "left", "slowly")


@cache
def classifier() -> judge.DigitClassifier:
    return judge.DigitClassifier().eval()


@cache
def pipeline() -> small.Pipeline:
    config = small.small_unet(channel_multipliers=(1,), attention_factors=(1,), context_channels=16)
    return small.Pipeline(small.VideoModel(config), vdmlib.autoencoder.Autoencoder())


@cache
def released_pipeline() -> vdmlib.VideoCrafterPipeline:
    release = vdmlib.Release.tiny()
    return vdmlib.VideoCrafterPipeline(build_networks(release), release, "cpu")


def explained(phase):
    with memory.memory_explained(phase, torch.device("cpu"), torch.float32, vdmlib.MemoryOptions()):
        pass


def losses(**changed):
    given = dict(predict=None, autoencoder=torch.nn.Identity(), schedule=small.small_schedule(), clips=CLIPS)
    return judge.wrong_condition_losses(**given | changed)


X = torch.zeros(1, 2, 32, 4, 4)
SCHEDULE = vdmlib.NoiseSchedule.linear()

# What is done, which exception it ends in, and what its sentence must name: the given and the needed.
ROWS = {
    "autoencoder.Autoencoder": (
        lambda: Autoencoder(channels=16), ValueError, "channels is 16", "each level",
    ),
    "autoencoder.Autoencoder.encode": (lambda: Autoencoder().encode(CLIPS[0]), ValueError, "(8, 3, 64, 64)", "[None]"),
    "autoencoder.Autoencoder.decode": (lambda: Autoencoder().decode(CLIPS), ValueError, "(2, 8, 3, 64, 64)", "8, "),
    "attention.SpatialTransformer": (
        lambda: SpatialTransformer(32, 1, 8, 24)(X), ValueError, "context is missing", "(batch, tokens, 24)",
    ),
    "attention.TemporalTransformer": (
        lambda: TemporalTransformer(32, 1, 8, 24)(X, torch.zeros(1, 7, 16)), ValueError, "(1, 7, 16)", "tokens, 24)",
    ),
    "resnet.ResBlock": (
        lambda: vdmlib.ResBlock(32, 8, resample="half"), ValueError, "resample is 'half'", "one of down, up",
    ),
    "configuration.UNet3DConfig.from_videocrafter": (
        lambda: vdmlib.UNet3DConfig.from_videocrafter({"heads": 8}), ValueError, "lack 'in_channels'", "whole",
    ),
    "diffusion.NoiseSchedule.scaled_linear": (
        lambda: vdmlib.NoiseSchedule.scaled_linear(0), ValueError, "steps is 0", "from 1",
    ),
    "diffusion.NoiseSchedule.linear": (
        lambda: vdmlib.NoiseSchedule.linear(end=2), ValueError, "end is 2", "from 0 to 1",
    ),
    "diffusion.NoiseSchedule.cosine": (
        lambda: vdmlib.NoiseSchedule.cosine(offset="s"), ValueError, "offset is 's'", "from 0 to 1",
    ),
    "diffusion.NoiseSchedule.from_videocrafter": (
        lambda: vdmlib.NoiseSchedule.from_videocrafter([]), TypeError, "type list", "mapping",
    ),
    "diffusion.NoiseSchedule.with_scale": (
        lambda: SCHEDULE.with_scale("0.7"), ValueError, "last is '0.7'", "finite number",
    ),
    "diffusion.NoiseSchedule.coefficients": (
        lambda: SCHEDULE.coefficients(torch.tensor([1000]), X), ValueError, "from 1000 to 1000", "0 ... 999",
    ),
    "diffusion.NoiseSchedule.add_noise": (
        lambda: SCHEDULE.add_noise(X, X[:, :1], torch.tensor([1])), ValueError, "(1, 1, 32, 4, 4)", "make them equal",
    ),
    "diffusion.NoiseSchedule.target": (
        lambda: SCHEDULE.target(X, X[:, :1], torch.tensor([1])), ValueError, "(1, 1, 32, 4, 4)", "make them equal",
    ),
    "diffusion.NoiseSchedule.ddim_timesteps": (
        lambda: SCHEDULE.ddim_timesteps(0), ValueError, "steps is 0", "use one of",
    ),
    "media.read_images": (
        lambda: media.read_images([CLIPS[0, 0], CLIPS[0, 0, :, :8]]), ValueError, "8 × 64, 64 × 64", "one size",
    ),
    "media.read_pictures": (lambda: media.read_pictures([]), ValueError, "image is an empty list", "a path"),
    "media.centre_square": (lambda: media.centre_square([0.0]), TypeError, "picture is of type list", "tensor"),
    "media.check_output": (lambda: media.check_output("clip.avi"), ValueError, "'.avi'", "use .mp4 or .gif"),
    "released.checkpoints.unet_to_videocrafter": (
        lambda: vdmlib.checkpoints.unet_to_videocrafter(5), TypeError, "net is 5", "UNet3D(config)",
    ),
    "released.encoders.tokenizer": (
        lambda: encoders.tokenizer("ViT-H-14"), TypeError, "config is 'ViT-H-14'", "TextEncoderConfig()",
    ),
    "released.encoders.image_encoder": (
        lambda: encoders.image_encoder("ViT-H-14"), TypeError, "config is 'ViT-H-14'", "ImageEncoderConfig()",
    ),
    "released.encoders.build_vae": (lambda: encoders.build_vae(4), TypeError, "config is 4", "AutoencoderConfig()"),
    "released.encoders.prepare_image": (
        lambda: encoders.prepare_image(300 + CLIPS[0]), ValueError, "image runs from 300", "-1 ... 1",
    ),
    "files.read_checkpoint": (
        lambda: files.read_checkpoint("nowhere.ckpt"), FileNotFoundError, "no file nowhere.ckpt", "correct the path",
    ),
    "files.opened": (
        lambda: files.opened(5).__enter__(), TypeError, "path is 5", "a string or a Path",
    ),
    "released.pipeline.VideoCrafterPipeline.from_checkpoint": (
        lambda: vdmlib.VideoCrafterPipeline.from_checkpoint("nowhere", "v2v"), ValueError,
        "kind is 'v2v'", "one of t2v, i2v",
    ),
    "released.pipeline.SamplingSettings": (lambda: SamplingSettings(eta=2), ValueError, "eta is 2", "from 0 to 1"),
    "released.pipeline.SamplingSettings.of": (
        lambda: SamplingSettings.of(vdmlib.Release.tiny(), steps=7), ValueError, "steps is 7", "use one of",
    ),
    "released.releases.build_networks": (
        lambda: build_networks("tiny"), TypeError, "release is 'tiny'", "Release.videocrafter2()",
    ),
    "released.releases.Release.tiny": (lambda: vdmlib.Release.tiny("v2v"), ValueError, "kind is 'v2v'", "t2v, i2v"),
    "small.data.MovingDigits.batch": (
        lambda: data.MovingDigits(length=3).batch([3]), IndexError, "Clip 3", "use 0 to 2",
    ),
    "small.data.MovingDigits.batches": (
        lambda: next(data.MovingDigits().batches(0)), ValueError, "size is 0", "from 1",
    ),
    "small.judge.mean_colour": (lambda: judge.mean_colour(CLIPS[0]), ValueError, "(8, 3, 64, 64)", "clip[None]"),
    "small.judge.verdict_table": (lambda: judge.verdict_table([]), TypeError, "verdicts is []", "judge(...)"),
    "small.model.VideoModel.context": (
        lambda: pipeline().video_model.context(data.tokenize(["a red 7"]), torch.zeros(1, 8, 8, 8)), ValueError,
        "text alone", "leave it out",
    ),
    "small.model.VideoModel.denoiser": (
        lambda: pipeline().video_model.denoiser(torch.zeros(1, 8, 8, 8)), ValueError, "text alone", "leave it out",
    ),
    "small.model.Pipeline.generate": (
        lambda: pipeline().generate(["a red 7"], fps=0), ValueError, "fps is 0", "from 0.1",
    ),
    "small.settings.TrainingConfig.from_mapping": (
        lambda: small.TrainingConfig.from_mapping({"step": 3}), ValueError, "settings: step", "use stage",
    ),
    "small.training.Run": (lambda: training.Run("t2v"), TypeError, "config is 't2v'", 'CONFIGS["t2v"]'),
    "small.training.resume": (
        lambda: training.resume(Path(__file__), small.TrainingConfig()), ValueError, "is no checkpoint", "delete it",
    ),
    "small.weights.card_text": (
        lambda: small.weights.card_text({"a": {1}}), TypeError, "cannot be written", "numbers, texts",
    ),
    "small.weights.weights_path": (lambda: small.weights.weights_path(5), TypeError, "name is 5", "a Path"),
    "small.weights.load_weights": (
        lambda: small.weights.load_weights("v2v", judge.DigitClassifier()), FileNotFoundError, "called 'v2v'", "train",
    ),
    "small.weights.start_from": (
        lambda: small.weights.start_from("t2v", "t2v"), TypeError, "model is 't2v'", "VideoModel",
    ),
    "train.read_config": (lambda: train.read_config("v2v", []), ValueError, "'v2v' is no configuration", "use "),
    "unet3d.UNet3D.prepare_context": (
        lambda: vdmlib.UNet3D(tiny_config()).prepare_context(None), ValueError, "context is missing", "(batch, tokens",
    ),
    "viz.pictures.as_pixels": (lambda: viz.pictures.as_pixels(CLIPS), ValueError, "(2, 8, 3, 64, 64)", "(n, 3, h, w)"),
    "course.parts.assignment": (lambda: course.assignment(7), ValueError, "assignment is 7", "one of 1, 2, 3"),
    "course.leaderboard.leaderboard": (
        lambda: leaderboard("ddim"), TypeError, "make_clips is 'ddim'", "pass a function",
    ),
    "autoencoder.psnr": (lambda: vdmlib.autoencoder.psnr(CLIPS, CLIPS[:1]), ValueError, "(2, 8, 3", "make them equal"),
    "attention.DualCrossAttention": (
        lambda: DualCrossAttention(8, 8)(torch.zeros(1, 2, 8), torch.zeros(1, 77, 8)), ValueError, "has 77 tokens",
    ),
    "configuration.UNet3DConfig": (lambda: vdmlib.UNet3DConfig(res_blocks=0), ValueError, "res_blocks is 0", "from 1"),
    "devices.choose_device": (lambda: vdmlib.devices.choose_device("gpu"), ValueError, "device is 'gpu'", "use 'cpu'"),
    "devices.choose_dtype": (
        lambda: vdmlib.devices.choose_dtype("half", torch.device("cpu")), ValueError, "dtype is 'half'", "float16",
    ),
    "diffusion.NoiseSchedule": (
        lambda: vdmlib.NoiseSchedule(torch.zeros(2), torch.ones(3)), ValueError, "(2,)", "(3,)", "each level",
    ),
    "embeddings.sinusoidal_embedding": (
        lambda: vdmlib.sinusoidal_embedding(torch.zeros(2), 1), ValueError, "channels is 1", "from 2",
    ),
    "embeddings.TimestepFPSEmbedding": (
        lambda: vdmlib.TimestepFPSEmbedding(8, 8)(torch.zeros(1, 2)), ValueError, "fps is None", "(b,)",
    ),
    "media.require": (
        lambda: media.require("no_such_package"), ImportError, "needs the package no_such_package", "pip install",
    ),
    "media.to_bytes": (lambda: media.to_bytes([0.0]), TypeError, "pixels is of type list", "tensor"),
    "media.save_video": (lambda: vdmlib.save_video(300 + CLIPS[0], "clip.gif"), ValueError, "300", "-1 ... 1"),
    "released.checkpoints.unet_from_videocrafter": (
        lambda: vdmlib.checkpoints.unet_from_videocrafter({}, "videocrafter2"), TypeError, "'videocrafter2'", "UNet3DC",
    ),
    "released.checkpoints.load_unet": (
        lambda: vdmlib.checkpoints.load_unet("nowhere.ckpt", None), TypeError, "config is None", "UNet3DConfig",
    ),
    "released.checkpoints.load_release": (
        lambda: vdmlib.checkpoints.load_release("nowhere.ckpt", "v2v"), ValueError, "kind is 'v2v'", "t2v",
    ),
    "released.encoders.TextEncoderConfig": (
        lambda: encoders.TextEncoderConfig(heads=7), ValueError, "heads is 7", "channels is 1024",
    ),
    "released.encoders.ImageEncoderConfig": (
        lambda: encoders.ImageEncoderConfig(layers=0), ValueError, "layers is 0", "from 1",
    ),
    "released.encoders.text_encoder": (
        lambda: encoders.text_encoder("ViT-H-14"), TypeError, "config is 'ViT-H-14'", "TextEncoderConfig()",
    ),
    "released.estimate.estimate_memory": (
        lambda: vdmlib.estimate_memory("tiny"), TypeError, "release is 'tiny'", "Release.videocrafter2()",
    ),
    "released.downloads.find_checkpoint": (
        lambda: downloads.find_checkpoint(Path(__file__).parent), FileNotFoundError,
        "holds 0 checkpoints", "exactly one",
    ),
    "released.memory.MemoryOptions": (
        lambda: vdmlib.MemoryOptions(offload="disk"), ValueError, "offload is 'disk'", "None, networks, blocks",
    ),
    "released.memory.memory_explained": (lambda: explained("waiting"), ValueError, "phase is 'waiting'", "decoding"),
    "released.names.released_name": (lambda: names.released_name(5), TypeError, "name is 5"),
    "released.names.released_names": (lambda: names.released_names("tiny"), TypeError, "config is 'tiny'", "UNet3DC"),
    "released.pipeline.VideoCrafterPipeline": (
        lambda: released_pipeline()("a cat", steps=0), ValueError, "steps is 0", "use one of",
    ),
    "released.releases.Release": (
        lambda: vdmlib.Release("v2v", tiny_config()), ValueError, "kind is 'v2v'", "t2v, i2v",
    ),
    "released.synthetic.tiny_checkpoint": (
        lambda: synthetic.tiny_checkpoint("nowhere"), FileNotFoundError, "no folder nowhere", "create it",
    ),
    "released.timeline.timeline": (lambda: timeline.timeline("tiny"), TypeError, "release is 'tiny'", "Release."),
    "released.trace.excerpt": (lambda: trace.excerpt([1.0]), TypeError, "values is of type list", "tensor"),
    "sampling.ddim_steps": (
        lambda: vdmlib.sampling.ddim_steps(vdmlib.NoiseSchedule.linear(), 7), ValueError, "steps is 7", "use one of",
    ),
    "sampling.sample_ddim": (
        lambda: vdmlib.sample_ddim(print, vdmlib.NoiseSchedule.linear(), torch.zeros(2, 4)), ValueError, "(2, 4)",
    ),
    "sampling.noise_streams": (lambda: vdmlib.sampling.noise_streams(-1, 2), ValueError, "seed is -1", "from 0"),
    "sampling.draw_noise": (lambda: vdmlib.sampling.draw_noise((0, 3)), ValueError, "shape is (0, 3)", "from 1"),
    "shapes.block_rows": (lambda: vdmlib.shapes.block_rows([], print), TypeError, "blocks is []", "named_blocks()"),
    "shapes.count_parameters": (lambda: vdmlib.shapes.count_parameters(5), TypeError, "module is 5", "UNet3D"),
    "shapes.shape_table": (
        lambda: vdmlib.shapes.shape_table(vdmlib.unet2d.UNet2D(), 15, 16), ValueError, "15 × 16", "multiples of 8",
    ),
    "shapes.dimension_table": (
        lambda: vdmlib.dimension_table(tiny_config(), 0), ValueError, "frames is 0", "from 1",
    ),
    "small.data.Prompt": (lambda: data.Prompt(10, "red"), ValueError, "digit is 10", "from 0 to 9"),
    "small.data.all_prompts": (lambda: data.all_prompts("new"), ValueError, "combinations is 'new'", "unseen"),
    "small.data.tokenize": (lambda: data.tokenize("a red 7"), TypeError, "captions is the text", "['a red 7']"),
    "small.data.handwriting": (lambda: data.handwriting("training"), ValueError, "split is 'training'", "train"),
    "small.data.render": (lambda: data.render(CLIPS[:, 0, 0, :28, :28], "ab"), TypeError, "prompts is 'ab'", "Prompt("),
    "small.data.clips_of": (
        lambda: data.clips_of([PROMPT], torch.zeros(2, 28, 28)), ValueError, "(2, 28, 28) for 1 prompts",
    ),
    "small.data.draw_glyphs": (
        lambda: data.draw_glyphs(7, "train", torch.Generator()), TypeError, "prompts is 7", "Prompt(",
    ),
    "small.data.MovingDigits": (lambda: data.MovingDigits(length=0), ValueError, "length is 0", "from 1"),
    "small.judge.ink": (lambda: judge.ink(CLIPS[0]), ValueError, "(8, 3, 64, 64)", "clip[None]"),
    "small.judge.track": (lambda: judge.track(CLIPS.byte()), ValueError, "torch.uint8", "floating point"),
    "small.judge.velocity": (lambda: judge.velocity([CLIPS]), TypeError, "video is of type list", "tensor"),
    "small.judge.aligned_glyphs": (lambda: judge.aligned_glyphs(CLIPS[:, :, :1]), ValueError, "(2, 8, 1, 64, 64)"),
    "small.judge.load_classifier": (lambda: small.load_classifier("nowhere"), FileNotFoundError, "nowhere", "train"),
    "small.judge.predict_digits": (lambda: judge.predict_digits(print, CLIPS), TypeError, "load_classifier()"),
    "small.judge.nearest_speed": (lambda: judge.nearest_speed(1.5), TypeError, "type float", "tensor"),
    "small.judge.read_clip": (lambda: judge.read_clip(CLIPS[:0]), ValueError, "(0, 8, 3, 64, 64)"),
    "small.judge.right_answers": (
        lambda: judge.right_answers(classifier(), CLIPS, [PROMPT]), ValueError, "prompts has 1 entries for 2 clips",
    ),
    "small.judge.correlation": (lambda: judge.correlation(CLIPS, CLIPS[0]), ValueError, "(8, 3", "make them equal"),
    "small.judge.ends": (lambda: judge.ends(CLIPS[0, 0]), ValueError, "(3, 64, 64)", "clip[None]"),
    "small.judge.features": (lambda: judge.features(None, CLIPS), TypeError, "classifier is None", "load_classifier"),
    "small.judge.frechet_distance": (
        lambda: judge.frechet_distance(torch.zeros(3, 5), torch.zeros(9, 5)), ValueError, "3 and 9 points", "more",
    ),
    "small.judge.judge": (
        lambda: judge.judge(classifier(), CLIPS, [PROMPT] * 2, 300 + CLIPS), ValueError, "real runs from 300", "1: ",
    ),
    "small.judge.wrong_prompts": (
        lambda: judge.wrong_prompts([PROMPT], "size"), ValueError, "condition is 'size'", "direction, speed",
    ),
    "small.judge.wrong_condition_losses": (losses, TypeError, "clips is tensor", "MovingDigits"),
    "small.judge.kept_handwriting": (
        lambda: judge.kept_handwriting(CLIPS, CLIPS[:1, 0]), ValueError, "first_frame has 1 entries for 2 clips",
    ),
    "small.model.small_unet": (lambda: small.small_unet(res_blocks=0), ValueError, "res_blocks is 0", "from 1"),
    "small.model.VideoModel": (lambda: small.VideoModel("t2v"), TypeError, "config is 't2v'", "small_unet()"),
    "small.model.Pipeline": (lambda: pipeline().generate("a red 7"), TypeError, "captions is the text", "list"),
    "small.settings.TrainingConfig": (
        lambda: small.TrainingConfig(learning_rate="1e-3"), ValueError, "text '1e-3'", "0.001",
    ),
    "small.stages.picture_losses": (
        lambda: stages.picture_losses("i2v", None, CLIPS), TypeError, "model is 'i2v'", "load_video_model",
    ),
    "small.stages.DenoiserStage": (lambda: stages.DenoiserStage("t2v"), TypeError, "config is 't2v'", "CONFIGS"),
    "small.training.train": (lambda: training.train("t2v"), TypeError, "config is 't2v'", 'CONFIGS["t2v"]'),
    "small.weights.save_weights": (
        lambda: small.save_weights("never.safetensors", {}, {}), TypeError, "model is {}", "VideoModel",
    ),
    "small.weights.read_card": (lambda: small.read_card("v2v"), FileNotFoundError, "called 'v2v'", "train"),
    "small.weights.load_autoencoder": (lambda: small.load_autoencoder("nowhere"), FileNotFoundError, "in nowhere"),
    "small.weights.load_video_model": (lambda: small.load_video_model("v2v"), ValueError, "name is 'v2v'", "t2v, i2v"),
    "small.weights.load_pretrained": (lambda: small.load_pretrained("v2v"), ValueError, "name is 'v2v'", "t2v, i2v"),
    "temporal.inflate_conv2d": (
        lambda: vdmlib.temporal.inflate_conv2d(torch.nn.Conv2d(4, 4, 3), "3"), ValueError, "frames is '3'", "number",
    ),
    "temporal.zero_module": (lambda: vdmlib.temporal.zero_module(CLIPS), TypeError, "layer is tensor", "nn.Linear"),
    "unet2d.UNet2D": (lambda: vdmlib.unet2d.UNet2D(widths=16), ValueError, "widths is 16", "each level"),
    "unet3d.UNet3D": (lambda: vdmlib.UNet3D("videocrafter2"), TypeError, "config is 'videocrafter2'", "UNet3DConfig."),
    "viz.budget.budget_bars": (lambda: viz.budget_bars({"a": {"rest": 1}}, {}, ("", "")), ValueError, "['rest']"),
    "viz.dual_map.dual_map": (
        lambda: viz.dual_map(DualCrossAttention(8, 8), 0, 4), ValueError, "pixels is 0", "from 1",
    ),
    "viz.machine.memory_over_time": (lambda: viz.memory_over_time([1], [], ["a"]), ValueError, "1, 0 and 1 entries"),
    "viz.machine.roofline": (lambda: viz.roofline({"T4": (0, 1)}, {}), ValueError, "T4 has (0, 1)", "above 0"),
    "viz.motion.image_slider": (
        lambda: viz.image_slider([CLIPS[0, 0]], ["a", "b"], ""), ValueError, "labels has 2 entries for 1 pictures",
    ),
    "viz.motion.animate": (lambda: viz.animate([]), ValueError, "shape (0,)", "(n, 3, h, w)"),
    "viz.motion.gif_bytes": (lambda: viz.gif_bytes(CLIPS[0], poster=9), ValueError, "poster is 9", "to 7"),
    "viz.pictures.to_bytes": (lambda: viz.to_bytes(CLIPS), ValueError, "(2, 8, 3, 64, 64)", "(n, 3, h, w)"),
    "viz.pictures.tensor_row": (
        lambda: viz.tensor_row([("x", CLIPS)], ["encode"]), ValueError, "steps is ['encode']", "0 arrows",
    ),
    "viz.pictures.heatmap": (lambda: viz.heatmap(CLIPS), ValueError, "(8, 3, 64, 64)", "(rows, columns)"),
    "viz.pictures.labelled_heatmap": (
        lambda: viz.labelled_heatmap(CLIPS[0, 0, 0], ["a"], ["b"]), ValueError, "rows has 1 entries for 64",
    ),
    "viz.pictures.image_grid": (lambda: viz.image_grid(CLIPS[0], columns=0), ValueError, "columns is 0", "from 1"),
    "viz.pictures.picture_map": (lambda: viz.picture_map([(0, 0, CLIPS)]), ValueError, "A deck has 3", "5 places"),
    "viz.pictures.table": (lambda: viz.table(["a", "b"], [["c"]]), ValueError, "A row has 1 entries for 2 columns"),
    "viz.pictures.source": (lambda: viz.source(5), TypeError, "5 has no source", "written in Python"),
    "viz.resnet_map.resnet_map": (lambda: viz.resnet_map(print), TypeError, "ResBlock(64, 256)"),
    "viz.style.mix": (lambda: viz.mix("bleu", 0.5), ValueError, "'bleu'", "COLOURS"),
    "viz.style.box": (lambda: viz.box(0, 0, 1, 1, "bleu", 0.1), ValueError, "'bleu'", "COLOURS"),
    "viz.style.arrow": (lambda: viz.arrow(None, (0, 0), (1, 1), "red"), TypeError, "ax is None", "plt.gca()"),
    "viz.style.shown_once": (lambda: viz.shown_once(5), TypeError, "figure is 5", "plt.figure()"),
    "viz.transformer_map.transformer_map": (
        lambda: viz.transformer_map([SpatialTransformer(64, 4, 16)], []), ValueError, "titles has 0 entries for 1",
    ),
    "viz.transformer_map.row_map": (
        lambda: viz.row_map([torch.zeros(1, 2, 2)], ["a"], ["bleu"], (0, 0, 0)), ValueError, "colour is 'bleu'", "time",
    ),
    "viz.unet_map.unet_map": (lambda: viz.unet_map(5), TypeError, "net is 5", "a network"),
}  # fmt: skip


NETWORK = dict(x=torch.zeros(1, 2, 4, 8, 8), timesteps=torch.zeros(1), context=torch.zeros(1, 77, 24))
# Whoever is asked, one mistake has one sentence.
SAME = {
    "fps of zero": (
        lambda: vdmlib.UNet3D(tiny_config())(**NETWORK, fps=0),
        lambda: vdmlib.sample_ddim(print, vdmlib.NoiseSchedule.linear(), NETWORK["x"], fps=0, steps=5),
        lambda: pipeline().generate(["a red 7"], fps=0),
        lambda: released_pipeline()("a cat", fps=0),
        lambda: data.Prompt(7, "red", fps=0),
    ),
    "fps of one video below zero": (
        lambda: vdmlib.sample_ddim(print, vdmlib.NoiseSchedule.linear(), CLIPS, fps=torch.tensor([8, -1]), steps=5),
        lambda: pipeline().generate(["a red 7"] * 2, fps=[8, -1]),
    ),
    "fps of too many videos": (
        lambda: vdmlib.UNet3D(tiny_config())(**NETWORK, fps=torch.ones(3)),
        lambda: vdmlib.sample_ddim(print, vdmlib.NoiseSchedule.linear(), NETWORK["x"], fps=torch.ones(3), steps=5),
        lambda: pipeline().generate(["a red 7"], fps=[8, 8, 8]),
    ),
    "an unknown kind": (
        lambda: vdmlib.Release("v2v", tiny_config()),
        lambda: vdmlib.checkpoints.load_release("nowhere.ckpt", "v2v"),
        lambda: vdmlib.VideoCrafterPipeline.from_checkpoint("nowhere.ckpt", "v2v"),
        lambda: synthetic.tiny_checkpoint("nowhere", "v2v"),
    ),
    "an unknown dtype": (
        lambda: vdmlib.devices.choose_dtype("half", torch.device("cpu")),
        lambda: vdmlib.VideoCrafterPipeline.from_checkpoint("nowhere.ckpt", dtype="half", device="cpu"),
        lambda: vdmlib.estimate_memory(vdmlib.Release.tiny(), dtype="half"),
        lambda: timeline.timeline(vdmlib.Release.tiny(), dtype="half"),
    ),
    "a dtype for no weights": (
        lambda: vdmlib.checkpoints.unet_from_videocrafter({}, tiny_config(), torch.int8),
        lambda: vdmlib.checkpoints.load_unet("nowhere.ckpt", tiny_config(), torch.int8),
        lambda: vdmlib.checkpoints.load_release("nowhere.ckpt", "t2v", dtype=torch.int8),
    ),
}


def public_callables() -> list[str]:
    """By module and name: what a module defines, and of a class with a row the methods that take something."""
    found = []
    for module in pkgutil.walk_packages(vdmlib.__path__, "vdmlib."):
        if module.name == "vdmlib.checks":
            continue
        for name, thing in vars(importlib.import_module(module.name)).items():
            if getattr(thing, "__module__", None) != module.name or name.startswith("_") or is_error(thing):
                continue
            if inspect.isroutine(thing) or inspect.isclass(thing):
                found.append(f"{module.name}.{name}".removeprefix("vdmlib."))
            if found and found[-1] in ROWS and inspect.isclass(thing):
                found += [f"{found[-1]}.{method}" for method in methods(thing)]
    return found


def methods(kind: type) -> list[str]:
    """Those that take something; ``forward`` is what the class's own row may be about."""
    called = {name: getattr(kind, name) for name in vars(kind) if not name.startswith("_") and name != "forward"}
    taken = {name: inspect.signature(method).parameters for name, method in called.items() if inspect.isroutine(method)}
    return [name for name, parameters in taken.items() if set(parameters) - {"self"}]


def is_error(thing: object) -> bool:
    return inspect.isclass(thing) and issubclass(thing, Exception)


def excepted(name: str) -> bool:
    """For a reason of its own, or its package's."""
    return name in EXCEPTIONS or name.split(".")[0] in EXCEPTIONS


def test_every_public_callable_has_a_row():
    found = public_callables()
    assert len(found) > 250
    assert [name for name in found if name not in ROWS and not excepted(name)] == []
    assert [name for name in found if name in ROWS and name in EXCEPTIONS] == []


def test_no_row_or_exception_is_left_over():
    assert sorted(set(ROWS) - set(public_callables())) == []
    of_callables = {name for name in EXCEPTIONS if "." in name}
    assert sorted(of_callables - set(public_callables())) == []


@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ROWS)
def test_a_mistake_is_answered_by_one_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, kind, *named = ROWS[name]
    with pytest.raises(kind) as error:
        call()
    message = str(error.value)
    assert type(error.value) is kind
    assert all(fragment in message for fragment in named), message
    assert message.endswith(".") and "\n" not in message and len(message) < 300, message
    assert not list(tmp_path.iterdir()) and not plt.get_fignums()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("mistake", SAME)
def test_one_mistake_has_one_sentence_whoever_is_asked(mistake):
    said = set()
    for call in SAME[mistake]:
        with pytest.raises(ValueError) as error:
            call()
        said.add(str(error.value))
    assert len(said) == 1, said
