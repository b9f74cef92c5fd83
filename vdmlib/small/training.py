"""Training: one loop for autoencoder, judge, text to video and image to video (chapter 9).

A run that was killed goes on as if nothing had happened, and several processes, each taking its share of every batch,
make the same steps as one, since everything random in a step follows from the seed and the step's number alone.
"""

import contextlib
import copy
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from tqdm import tqdm

from ..unet3d import UNetBlock
from .stages import STAGES, Stage, TrainingConfig
from .weights import has_part, sha256, start_from, weights_path


def learning_rate_at(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, constant, linear fall to zero over the last ``decay`` of the steps."""
    rise = (step + 1) / max(config.warmup, 1)
    fall = (config.steps - step) / max(config.decay * config.steps, 1)
    return config.learning_rate * max(min(1.0, rise, fall), 0.0)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int, keep: float):
    """Exponential moving average of the weights; early on it forgets faster. Buffers are copied."""
    keep = min(keep, (1 + step) / (10 + step))
    for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
        ours.lerp_(theirs, 1 - keep)
    for ours, theirs in zip(average.buffers(), model.buffers(), strict=True):
        ours.copy_(theirs)


@dataclass
class Result:
    """What :func:`train` returns: averaged weights, the log, whether all steps were made, and by which commands."""

    model: nn.Module
    log: list[dict[str, int | float]]
    finished: bool
    commands: list[str]


def train(
    config: TrainingConfig,
    folder: str | Path | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
    stage: Stage | None = None,
    stop_after: float | None = None,
    callback: Callable[[int, nn.Module], None] | None = None,
    shard: bool = False,
    command: str | None = None,
) -> Result:
    """Train a stage, or go on with the run in ``folder``.

    Under ``torchrun`` each process takes its part of every batch (DistributedDataParallel; with ``shard`` fully sharded
    data parallelism, Zhao et al. 2023). On a GPU the forward pass runs in bfloat16, or float16 where the GPU has no
    bfloat16. A checkpoint is the same however many processes wrote it, and any number of them can go on with it.

    Args:
        config: what to train.
        folder: where checkpoint, log and sample sheets go, seen by all processes; ``None`` keeps nothing.
        device: ``None`` takes a GPU if there is one.
        stage: a stage made elsewhere, instead of the one that ``config.stage`` names.
        stop_after: seconds after which to save and return.
        callback: called with the step and the averaged weights after each step.
        shard: let each process keep only its part of weights, gradients and optimizer state, and gather a layer's
            weights when it is their turn: for networks that are too large for one GPU.
        command: what was typed, for the record, since a run may go on with other settings.

    Raises:
        ValueError: if the batch cannot be shared evenly, the folder holds a run with another configuration, or there
            is but one process to shard over.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if config.batch % world or config.stills % world:
        raise ValueError(
            f"{config.batch} clips and {config.stills} pictures cannot be shared by {world} processes: use multiples."
        )
    if shard and world == 1:
        raise ValueError("There is one process, but shard needs several: start them with torchrun, or leave shard out.")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if world > 1:
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(device)
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    torch.manual_seed(config.seed)
    stage = (STAGES[config.stage](config) if stage is None else stage).train()
    if config.init_from is not None:
        start_from(stage.trained, config.init_from)
    for name, parameter in stage.trained.named_parameters():
        parameter.requires_grad_(has_part(name, config.trained_parts))
    average = copy.deepcopy(stage.trained).eval().requires_grad_(False)
    outline = copy.deepcopy(average).to("meta")  # names and shapes only
    path = None if folder is None else Path(folder) / "checkpoint.pt"
    saved = None
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        saved = read_checkpoint(path, config)
    if saved is not None:
        stage.trained.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
    if shard:
        split(stage.trained, device, world)
        split(average, device, world)
    stage.to(device)
    average.to(device)
    optimizer = torch.optim.AdamW(
        [parameter for parameter in stage.trained.parameters() if parameter.requires_grad],
        config.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=config.weight_decay,
        fused=True,
    )
    half = torch.float16
    if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8:
        half = torch.bfloat16
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda" and half == torch.float16)
    state = {"step": 0, "seconds": 0.0, "log": [], "losses": [], "commands": []}
    if saved is not None:
        optimizer.load_state_dict(scattered(saved["optimizer"], optimizer))
        scaler.load_state_dict(saved["scaler"])
        state.update({k: saved.get(k, state[k]) for k in state})
        del saved
    if command is not None and state["step"] < config.steps and state["commands"][-1:] != [command]:
        state["commands"].append(command)
    parallel = nn.parallel.DistributedDataParallel(stage) if world > 1 and not shard else stage

    def averaged() -> nn.Module:
        """The averaged weights in one piece; where they are sharded, all processes must ask together."""
        if not shard:
            return average
        model = copy.deepcopy(outline)
        model.load_state_dict(gathered(average.state_dict()), assign=True)
        return model.to(device)

    def checkpoint(older_than: float = 0.0):
        """Save if the last checkpoint is so many seconds old; the first process's clock decides."""
        nonlocal last_saved
        old = time.monotonic() - last_saved >= older_than
        if path is None or not agreed(old, device, world if shard else 1):
            return
        kept = {"model": stage.trained, "average": average, "optimizer": optimizer, "scaler": scaler}
        pieces = {name: gathered(thing.state_dict(), keep=rank == 0) for name, thing in kept.items()}
        if rank == 0:
            save(path, {"config": asdict(config), **state, **pieces})
        last_saved = time.monotonic()

    began = last_saved = time.monotonic()
    spent = state["seconds"]
    bar = tqdm(total=config.steps, initial=state["step"], desc=config.stage, disable=not progress or rank > 0)
    for step in range(state["step"], config.steps):
        last = step + 1 == config.steps
        logs = (step + 1) % config.log_every == 0 or last
        reports = logs and ((step + 1) % config.sample_every == 0 or last)
        if reports:
            # A report takes its time, and a kill must not cost that on top.
            checkpoint(config.checkpoint_seconds / 2)
        torch.manual_seed(config.seed * 1_000_003 + step * world + rank)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(config, step)
        autocast = torch.autocast(device.type, half, enabled=device.type == "cuda")
        with autocast:
            loss = parallel(step, slice(rank, None, world))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(stage.trained.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        update_average(average, stage.trained, step, config.ema)

        loss = loss.detach()
        if world > 1:
            torch.distributed.all_reduce(loss)
            loss /= world
        state["losses"].append(loss)
        state["step"], state["seconds"] = step + 1, spent + time.monotonic() - began
        bar.update()
        if logs:
            mean = float(torch.stack([one.to(device) for one in state["losses"]]).mean())
            row = {"step": step + 1, "loss": mean, "seconds": round(state["seconds"], 1)}
            state["losses"].clear()
            bar.set_postfix(loss=f"{mean:.4f}")
            if reports:
                model = averaged()
                if rank == 0:
                    row |= stage.report(model)
                    if path is not None:
                        draw_progress(path.parent, [*state["log"], row], stage.sheet(model))
            state["log"].append(row)
        if callback is not None:
            callback(step, averaged())
        # Every process must stop at the same step, so the first one's clock decides.
        over = stop_after is not None and agreed(time.monotonic() - began > stop_after, device, world)
        checkpoint(0.0 if last or over or reports else config.checkpoint_seconds)
        if over:
            break
    bar.close()
    return Result(averaged(), state["log"], state["step"] >= config.steps, state["commands"])


def agreed(answer: bool, device: torch.device, world: int) -> bool:
    """The first process's answer, in all processes."""
    if world == 1:
        return answer
    flag = torch.tensor(float(answer), device=device)
    torch.distributed.broadcast(flag, 0)
    return bool(flag)


# Fully sharded data parallelism


def split(model: nn.Module, device: torch.device, world: int):
    """Shard a model's weights over all processes: each layer of the U-Net's blocks by itself, the rest together."""
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise ValueError(f"shard needs torch 2.6 or newer, but this is {torch.__version__}.") from error
    # Torch warns of writing in place into what a layer returns; the U-Net writes only into what it has made itself.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    mesh = torch.distributed.init_device_mesh(device.type, (world,))
    for block in list(model.modules()):
        if isinstance(block, UNetBlock):
            for layer in block.values():
                fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def gathered(state: Any, keep: bool = True) -> Any:
    """A state dict with every sharded tensor in one piece on the CPU; ``keep=False`` helps the others to gather it."""
    if isinstance(state, Mapping):
        return {key: gathered(value, keep) for key, value in state.items()}
    if not hasattr(state, "full_tensor"):
        return state
    whole = state.full_tensor()
    return whole.cpu() if keep else None


def scattered(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's state dict with every tensor sharded like the parameter that it belongs to."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def like(parameter: nn.Parameter, value: Tensor) -> Tensor:
        if not hasattr(parameter, "full_tensor") or value.shape != parameter.shape:
            return value
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value, parameter.device_mesh, parameter.placements)

    parts = {
        number: {name: like(parameters[number], value) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "state": parts}


# Settings that may differ when a run goes on: they do not change the steps already made.
MAY_CHANGE = ("steps", "decay", "checkpoint_seconds", "log_every", "sample_every", "init_from")


def save(path: Path, pieces: Mapping[str, Any]):
    """Write a checkpoint, whole or not at all."""
    partial = path.with_suffix(".partial")
    torch.save(dict(pieces), partial)
    partial.replace(path)


def read_checkpoint(path: Path, config: TrainingConfig) -> dict[str, Any] | None:
    """A checkpoint, or ``None`` if there is none yet.

    Raises:
        ValueError: if it was made with other settings.
    """
    if not path.exists():
        return None
    saved = torch.load(path, map_location="cpu", weights_only=True)
    now = asdict(config)
    changed = [k for k in now if k not in MAY_CHANGE and saved["config"].get(k) != now[k]]
    if changed:
        raise ValueError(f"{path} was made with other settings ({', '.join(changed)}): use those, or another folder.")
    return saved


def draw_progress(folder: Path, log: Sequence[Mapping[str, int | float]], sheet: Tensor | None):
    """``loss.png`` and ``samples.png``, where matplotlib and Pillow are installed."""
    with contextlib.suppress(ImportError):
        import matplotlib

        matplotlib.use("Agg", force=False)
        from matplotlib import pyplot as plt
        from PIL import Image

        figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
        axes.plot([row["step"] for row in log], [row["loss"] for row in log])
        axes.set(xlabel="step", ylabel="loss", yscale="log")
        figure.savefig(folder / "loss.png", dpi=120)
        plt.close(figure)
        if sheet is not None:
            pixels = rearrange((sheet + 1) * 127.5, "b f c h w -> (b h) (f w) c")
            Image.fromarray(pixels.round().byte().cpu().numpy()).save(folder / "samples.png")


FOR_DENOISERS = ("unet", "text_layers", "stills", "caption_dropout", "shift", "snr_cap")


def card_of(config: TrainingConfig, result: Result) -> dict[str, Any]:
    """What is worth knowing about trained weights, apart from the judge's numbers."""
    settings = asdict(config)
    if config.stage in ("autoencoder", "judge"):
        settings = {k: v for k, v in settings.items() if k not in FOR_DENOISERS}
    base = {} if config.init_from is None else {"init_from_sha256": sha256(weights_path(config.init_from).read_bytes())}
    return {
        "command": " && ".join(result.commands),
        **base,
        "config": settings,
        "torch": torch.__version__,
        "steps": result.log[-1]["step"] if result.log else 0,
        "parameters": sum(p.numel() for p in result.model.parameters()),
        "log": result.log,
    }
