"""Training: one run for autoencoder, judge, text to video and image to video (chapter 9).

A run that was killed goes on as if nothing had happened, and on another kind of machine, too. Several processes, each
taking its share of every batch, make the same steps as one for text to video and image to video; the autoencoder's
statistics and latent noise and the judge's dropout are each process's own.
"""

import contextlib
import copy
import io
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from ..checks import check_instance
from ..configuration import UNet3DConfig
from ..devices import choose_device
from ..files import opened
from .distributed import Processes
from .settings import TrainingConfig
from .stages import STAGES, Stage, generator_for
from .weights import has_piece, sha256, start_from, weights_path, write_whole


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


def half_precision(device: torch.device) -> torch.dtype | None:
    """What the forward pass runs in on a GPU: bfloat16, or float16 where there is none. Elsewhere ``None``: float32."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16


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
    command: str | None = None,
) -> Result:
    """Train a stage, or go on with the run in ``folder``.

    Under ``torchrun`` each process takes its share of every batch (DistributedDataParallel). A checkpoint is the same
    however many processes wrote it and on whatever device, and any number of them can go on with it on any other.

    Args:
        config: what to train.
        folder: where checkpoint, loss curve and sample sheets go, seen by all processes; ``None`` keeps nothing.
        device: ``None`` takes a GPU if there is one. There the forward pass runs in half precision
            (:func:`half_precision`). CPUs and NVIDIA's GPUs are tested.
        progress: show a progress bar.
        stage: a stage made elsewhere, instead of the one that ``config.stage`` names.
        stop_after: seconds after which to save and return.
        callback: called with the step and the averaged weights after each step.
        command: what was typed, for the record, since a run may go on with other settings.

    Raises:
        ValueError: if the batch cannot be shared evenly, the folder holds a run with other settings, or no weight is
            to be trained.
        OSError: if the folder cannot be written; the last checkpoint is kept.
    """
    run = Run(config, folder, device, stage, command)
    quiet = not progress or not run.processes.first
    with tqdm(total=config.steps, initial=run.made, desc=config.stage, disable=quiet) as bar:
        for step in run.remaining(stop_after):
            loss = run.step(step)
            run.record(step, loss)
            if run.rows and run.rows[-1]["step"] == step + 1:
                bar.set_postfix(loss=f"{run.rows[-1]['loss']:.4f}")
            bar.update()
            if callback is not None:
                callback(step, run.average)
    return Result(run.average, run.rows, run.made >= config.steps, run.commands)


class Run:
    """A training run: weights, their average, optimizer and scaler; it goes on where the folder has a checkpoint.

    :meth:`step` is what training is; the rest is what a long run needs around it. The arguments are those of
    :func:`train`.
    """

    def __init__(
        self,
        config: TrainingConfig,
        folder: str | Path | None = None,
        device: str | torch.device | None = None,
        stage: Stage | None = None,
        command: str | None = None,
    ):
        check_instance("config", config, TrainingConfig, 'CONFIGS["t2v"]')
        self.config, self.processes = config, Processes()
        if config.batch % self.processes.world or config.stills % self.processes.world:
            raise ValueError(
                f"{config.batch} clips and {config.stills} pictures cannot be shared by {self.processes.world} "
                f"processes: use multiples."
            )
        self.device = self.processes.meet(choose_device(device))
        self.path = None if folder is None else Path(folder) / "checkpoint.pt"
        saved = None if self.path is None else resume(self.path, config)
        torch.manual_seed(config.seed)
        self.stage = (STAGES[config.stage](config) if stage is None else stage).train()
        if config.init_from is not None and saved is None:
            start_from(self.stage.trained, config.init_from)
        self.stage.to(self.device)
        self.average = copy.deepcopy(self.stage.trained).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self._trained_parameters(),
            config.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=config.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )
        self.half = half_precision(self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.half == torch.float16)
        self.made, self.rows, self.losses, self.commands, self.seconds_before = 0, [], [], [], 0.0
        if saved is not None:
            self._restore(saved)
        if command is not None and self.made < config.steps and self.commands[-1:] != [command]:
            self.commands.append(command)
        self.parallel = self.processes.parallel(self.stage)
        self.began = self.saved_at = time.monotonic()

    def step(self, step: int) -> Float[Tensor, ""]:
        """One step of the optimizer, with batch number ``step``; returns this process's loss before it."""
        self._seed_layers(step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.config, step)
        with self._autocast():
            loss = self.parallel(step, self.processes.share)
        self.optimizer.zero_grad()
        # In float16 small gradients would vanish: the scaler makes them larger for a while. Elsewhere it does nothing.
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.stage.trained.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        update_average(self.average, self.stage.trained, step, self.config.ema)
        return loss.detach()

    def remaining(self, stop_after: float | None = None) -> Iterator[int]:
        """The steps still to make, with a checkpoint wherever one is due, until all are made or the time is over."""
        for step in range(self.made, self.config.steps):
            if self._reports_at(step):
                # A report takes its time, and a kill must not cost that on top.
                self.checkpoint(self.config.checkpoint_seconds / 2)
            yield step
            # Every process must stop at the same step, so the first one's clock decides.
            late = stop_after is not None and time.monotonic() - self.began > stop_after
            over = self.processes.agreed(late, self.device)
            last = over or self._reports_at(step)
            self.checkpoint(0.0 if last else self.config.checkpoint_seconds)
            if over:
                return

    def record(self, step: int, loss: Float[Tensor, ""]):
        """Note the loss: a row of the log every ``log_every`` steps, a report and a sheet every ``sample_every``."""
        self.losses.append(self.processes.mean(loss))
        self.made = step + 1
        if not self._logs_at(step):
            return
        mean = float(torch.stack([one.to(self.device) for one in self.losses]).mean())
        row = {"step": self.made, "loss": mean, "seconds": round(self.seconds, 1)}
        self.losses.clear()
        self.rows.append(row)
        if self._reports_at(step) and self.processes.first:
            row |= self.stage.report(self.average)
            self._draw()

    def checkpoint(self, older_than: float = 0.0):
        """Save, if the last checkpoint is so many seconds old."""
        if self.path is None or not self.processes.first or time.monotonic() - self.saved_at < older_than:
            return
        pieces = {
            "config": asdict(self.config),
            "step": self.made,
            "seconds": self.seconds,
            "log": self.rows,
            "losses": self.losses,
            "commands": self.commands,
            "model": self.stage.trained.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        torch.save(pieces, content := io.BytesIO())
        write_whole({self.path: content.getvalue()})
        self.saved_at = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the run has taken, over all its parts."""
        return self.seconds_before + time.monotonic() - self.began

    def _seed_layers(self, step: int):
        # What layers draw by themselves, such as dropout, differs in each process; all else comes from the stage.
        number = step * self.processes.world + self.processes.rank
        torch.manual_seed(generator_for(self.config.seed, number).initial_seed())

    def _trained_parameters(self) -> list[nn.Parameter]:
        for name, parameter in self.stage.trained.named_parameters():
            parameter.requires_grad_(has_piece(name, self.config.trained_parts))
        trained = [parameter for parameter in self.stage.trained.parameters() if parameter.requires_grad]
        if not trained:
            raise ValueError(
                f"trained_parts is {self.config.trained_parts}, but no weight has such a name: correct it."
            )
        return trained

    def _restore(self, saved: Mapping[str, Any]):
        self.stage.trained.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        # Only what was learned: how it is computed is this machine's affair.
        ours = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": saved["optimizer"]["state"], "param_groups": ours})
        # Empty where the run came from needs no scaling: then this machine begins with a scale of its own.
        if saved["scaler"]:
            self.scaler.load_state_dict(saved["scaler"])
        self.made, self.seconds_before = saved["step"], saved["seconds"]
        self.rows, self.losses, self.commands = saved["log"], saved["losses"], saved["commands"]

    def _autocast(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext() if self.half is None else torch.autocast(self.device.type, self.half)

    def _logs_at(self, step: int) -> bool:
        return (step + 1) % self.config.log_every == 0 or step + 1 == self.config.steps

    def _reports_at(self, step: int) -> bool:
        return self._logs_at(step) and ((step + 1) % self.config.sample_every == 0 or step + 1 == self.config.steps)

    def _draw(self):
        """``loss.png`` and ``samples.png``, where matplotlib and Pillow are installed."""
        if self.path is not None:
            with contextlib.suppress(ImportError):
                from ..viz.progress import draw_progress

                files = draw_progress(self.rows, self.stage.sheet(self.average))
                write_whole({self.path.with_name(name): content for name, content in files.items()})


# Settings that may differ when a run goes on: they do not change the steps already made.
MAY_CHANGE = (
    *("steps", "decay", "checkpoint_seconds", "log_every", "sample_every", "init_from"),
    *("shift", "word_dropout"),  # Later steps may be asked harder questions; a card records all commands.
)


def resume(path: Path, config: TrainingConfig) -> dict[str, Any] | None:
    """A checkpoint, or ``None`` if there is none yet.

    Raises:
        ValueError: if it was made with other settings, or cannot be read.
    """
    if not path.exists():
        return None
    try:
        with opened(path, verify=True) as file:
            saved = copy.deepcopy(file.content)  # Out of the file, which the run will replace.
        then, now = saved["config"], asdict(config)
        # Options that it did not know yet have their defaults.
        then = asdict(TrainingConfig(then["stage"])) | then | {"unet": asdict(UNet3DConfig(**then["unet"]))}
    except Exception as error:  # Whatever a damaged file makes of the reader.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path} is no checkpoint that can be read ({reason:.100}): use another folder, or delete it to begin anew."
        ) from None
    changed = [name for name in now if name not in MAY_CHANGE and then[name] != now[name]]
    if changed:
        raise ValueError(f"{path} was made with other settings ({', '.join(changed)}): use those, or another folder.")
    return saved


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
