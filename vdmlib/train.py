"""Train the small models from the command line: ``python -m vdmlib.train t2v --folder runs/t2v``.

On several GPUs or machines: ``torchrun --nproc-per-node 4 -m vdmlib.train t2v --folder runs/t2v``. A run that was
stopped goes on where it was when the same command is given again. A network that is too large for one GPU is split over
them with ``--shard``.
"""

import argparse
import ast
import sys
from dataclasses import replace
from pathlib import Path

import torch

from .small import stages, training
from .small.weights import save_weights


def read_config(name: str, changes: list[str]) -> stages.TrainingConfig:
    """A named configuration, or one from a YAML file, with ``key=value`` changes (``unet.key=value`` too)."""
    if name in stages.CONFIGS:
        given: dict = {"stage": name}
    elif Path(name).suffix in (".yaml", ".yml") and Path(name).exists():
        import yaml

        given = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
    else:
        raise ValueError(f"{name!r} is no configuration: use {', '.join(stages.CONFIGS)} or the path of a YAML file.")
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise ValueError(f"{change!r} changes nothing: write key=value, such as steps=1000.")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        target = given
        *outer, key = key.split(".")
        for part in outer:
            target = target.setdefault(part, {})
        target[key] = value
    return stages.TrainingConfig.from_mapping(given)


def command_of(options: argparse.Namespace) -> str:
    """The command without what does not change the weights: folders, device, time."""
    parts = ["python -m vdmlib.train", options.config]
    if options.set:
        parts += ["--set", *options.set]
    if options.init_from:
        parts += ["--init-from", options.init_from]
    return " ".join(parts)


def main(arguments: list[str] | None = None):
    """Entry point; ``--help`` tells the options."""
    parser = argparse.ArgumentParser(
        prog="python -m vdmlib.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", help=f"{', '.join(stages.CONFIGS)}, or a YAML file")
    parser.add_argument("--folder", help="checkpoint, log, loss curve and samples go here (default: runs/<stage>)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="change settings: steps=1000")
    parser.add_argument("--init-from", metavar="FILE", help="weights (.safetensors) to start from")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    parser.add_argument("--stop-after", type=float, metavar="SECONDS", help="save and stop; run again to go on")
    parser.add_argument(
        "--shard", action="store_true", help="under torchrun: split the weights over the processes (FSDP)"
    )
    parser.add_argument("--weights", metavar="FOLDER", help="write the finished weights and their card here")
    options = parser.parse_args(arguments)
    try:
        config = read_config(options.config, options.set)
        if options.init_from:
            config = replace(config, init_from=options.init_from)
        result = training.train(
            config,
            options.folder or f"runs/{config.stage}",
            options.device,
            stop_after=options.stop_after,
            shard=options.shard,
            command=command_of(options),
        )
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    first = (
        not torch.distributed.is_available()
        or not torch.distributed.is_initialized()
        or (torch.distributed.get_rank() == 0)
    )
    if result.log and first:
        print(", ".join(f"{key} {value:.4g}" for key, value in result.log[-1].items()))
    if options.weights and first:
        path = Path(options.weights) / f"{config.stage}.safetensors"
        save_weights(path, result.model, training.card_of(config, result), config.trained_parts)
        print(f"wrote {path}")
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
