"""Each class of the released code, as a function of its constructor arguments, weights and inputs, run on vdmlib.

Takes and returns the released layouts, so that golden numbers can be compared as they are. Nothing here computes.
"""

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

import vdmlib
from vdmlib.attention import (
    Attention,
    DualCrossAttention,
    FeedForward,
    ImageTokens,
    RelativeAttention,
    RelativePosition,
    TransformerBlock,
)
from vdmlib.released.checkpoints import released_name, unet_from_videocrafter
from vdmlib.temporal import TemporalConvBlock, channels_last


def load(module: nn.Module, weights: dict[str, Tensor], rename=released_name) -> nn.Module:
    """Fill a module of vdmlib from released names, strictly."""
    own = module.state_dict()
    names = {name: rename(name) for name in own}
    assert set(names.values()) == set(weights), set(names.values()) ^ set(weights)
    module.load_state_dict({name: weights[theirs].reshape(own[name].shape) for name, theirs in names.items()})
    return module.eval()


def as_video(frames: Tensor, batch: int) -> Tensor:
    return channels_last(rearrange(frames, "(b f) c h w -> b f c h w", b=batch))


def as_frames(video: Tensor) -> Tensor:
    return rearrange(video, "b f c h w -> (b f) c h w")


def resblock(case) -> Tensor:
    config, batch, x = dict(case.meta["config"]), case.meta["scalars"]["batch_size"], case.inputs()
    block = vdmlib.ResBlock(
        config["channels"],
        config["emb_channels"],
        config.get("out_channels"),
        temporal_convolution=config.get("use_temporal_conv", False),
        scale_shift_norm=config.get("use_scale_shift_norm", False),
        resample="up" if config.get("up") else "down" if config.get("down") else None,
    )
    load(block, case.weights())
    return as_frames(block(as_video(x["x"], batch), rearrange(x["emb"], "(b f) e -> b f e", b=batch)))


def temporal_conv(case) -> Tensor:
    config = case.meta["config"]
    block = TemporalConvBlock(config["in_channels"], spatial=config.get("spatial_aware", False))
    load(block, case.weights(), lambda name: released_name(f"temporal.{name}").removeprefix("temopral_conv."))
    return video(block, case.inputs()["x"])


def video(module: nn.Module, x: Tensor, *rest) -> Tensor:
    x = channels_last(rearrange(x, "b c t h w -> b t c h w"))
    return rearrange(module(x, *rest), "b t c h w -> b c t h w")


def resample(case) -> Tensor:
    kind = {"Downsample": vdmlib.Downsample, "Upsample": vdmlib.Upsample}[case.meta["target"].split(".")[-1]]
    module = load(kind(case.meta["config"]["channels"], case.meta["config"]["use_conv"]), case.weights())
    return as_frames(module(as_video(case.inputs()["x"], 2)))


def cross_attention(case) -> Tensor:
    config, x = case.meta["config"], case.inputs()
    sizes = config["query_dim"], config.get("context_dim"), config["heads"], config["dim_head"]
    if config.get("img_cross_attention"):
        module = DualCrossAttention(*sizes, ImageTokens(scale=case.meta["scalars"].get("scale", 1.0)))
    elif config.get("relative_position"):
        module = RelativeAttention(*sizes, config["temporal_length"])
    else:
        module = Attention(*sizes)
    return load(module, case.weights())(x["x"], x.get("context"), causal="mask" in x)


def relative_position(case) -> Tensor:
    config, sizes = case.meta["config"], case.meta["scalars"]
    module = RelativePosition(config["num_units"], config["max_relative_position"])
    load(module, case.weights(), {"table": "rp.embeddings_table"}.__getitem__)
    return module(sizes["lq"], sizes["lk"])


def feed_forward(case) -> Tensor:
    config = case.meta["config"]
    module = FeedForward(config["dim"], config["mult"], gated=config["glu"])

    def rename(name: str) -> str:
        theirs = released_name(f"feed_forward.{name}").removeprefix("ff.")
        return theirs if config["glu"] else theirs.replace("0.proj", "0.0")

    return load(module, case.weights(), rename)(case.inputs()["x"])


def transformer_block(case) -> Tensor:
    config, x = case.meta["config"], case.inputs()
    module = TransformerBlock(config["dim"], config["n_heads"], config["d_head"], config.get("context_dim"))
    return load(module, case.weights())(x["x"], x.get("context"))


def spatial_transformer(case) -> Tensor:
    config, x = case.meta["config"], case.inputs()
    module = vdmlib.SpatialTransformer(
        config["in_channels"],
        config["n_heads"],
        config["d_head"],
        config["context_dim"],
        depth=config.get("depth", 1),
        image=ImageTokens() if config.get("img_cross_attention") else None,
    )
    # The file has a context for each frame, here and nowhere else; ours has one for each video. One frame a video.
    frames = rearrange(x["x"], "b c h w -> b 1 c h w")
    return as_frames(load(module, case.weights())(channels_last(frames), x["context"]))


def temporal_transformer(case) -> Tensor:
    config, x = case.meta["config"], case.inputs()
    cross = not config.get("only_self_att", True)
    module = vdmlib.TemporalTransformer(
        config["in_channels"],
        config["n_heads"],
        config["d_head"],
        config["context_dim"] if cross else None,
        depth=config.get("depth", 1),
        max_distance=config["temporal_length"] if config.get("relative_position") else None,
        # The released code ignores the flag where it asks the context.
        causal=config.get("causal_attention", False) and not cross,
    )
    context = None
    if cross:
        per_frame = rearrange(x["context"], "(b t) n c -> b t n c", b=len(x["x"]))
        context = per_frame[:, 0]
        assert torch.equal(per_frame, repeat(context, "b n c -> b t n c", t=per_frame.shape[1]))
    return video(load(module, case.weights()), x["x"], context)


def resampler(case) -> Tensor:
    config = case.meta["config"]
    module = vdmlib.Resampler(
        config["embedding_dim"],
        config["output_dim"],
        config["num_queries"],
        config["dim"],
        config["depth"],
        config["heads"],
        config["dim_head"],
        config["ff_mult"],
    )

    def rename(name: str) -> str:
        for ours, theirs in (("attentions.", "layers.{}.0."), ("feed_forwards.", "layers.{}.1.")):
            if name.startswith(ours):
                number, rest = name.removeprefix(ours).split(".", 1)
                return theirs.format(number) + rest.replace("norm_image", "norm1").replace("norm_queries", "norm2")
        return {"queries": "latents"}.get(name, name.replace("project_", "proj_"))

    return load(module, case.weights(), rename)(case.inputs()["x"])


def image_projection(case) -> Tensor:
    config = case.meta["config"]
    module = vdmlib.ImageProjection(
        config["clip_embeddings_dim"], config["cross_attention_dim"], config["clip_extra_context_tokens"]
    )
    return load(module, case.weights(), lambda name: name.replace("projection", "proj"))(case.inputs()["x"])


def unet(case) -> vdmlib.UNet3D:
    return unet_from_videocrafter(case.weights(), vdmlib.UNet3DConfig.from_videocrafter(case.meta["config"]))


def run_unet(net: vdmlib.UNet3D, case) -> Tensor:
    x = case.inputs()
    return video(net, x["x"], x["timesteps"], x.get("context"), x.get("fps", case.meta["scalars"].get("fps")))


BLOCKS = {
    "ResBlock": resblock,
    "TemporalConvBlock": temporal_conv,
    "Downsample": resample,
    "Upsample": resample,
    "CrossAttention": cross_attention,
    "RelativePosition": relative_position,
    "FeedForward": feed_forward,
    "BasicTransformerBlock": transformer_block,
    "SpatialTransformer": spatial_transformer,
    "TemporalTransformer": temporal_transformer,
    "Resampler": resampler,
    "ImageProjModel": image_projection,
}


def run_block(case) -> Tensor:
    with torch.no_grad():
        return BLOCKS[case.meta["target"].split(".")[-1]](case)
