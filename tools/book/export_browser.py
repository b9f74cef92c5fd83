"""Write the graphs with which the page "In your browser" runs the small model: ONNX files that hold no weights.

Each weight is a reference to its place in a shipped .safetensors file, so a model that is trained again in the same
shape needs no new graph. Needs packages that the book does without, best in an environment of their own:

    python -m venv /tmp/onnx
    /tmp/onnx/bin/pip install torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 --editable .
    /tmp/onnx/bin/python tools/book/export_browser.py
"""

import argparse
import json
import struct
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from vdmlib.autoencoder import Autoencoder
from vdmlib.small import data, load_pretrained
from vdmlib.small.judge import DigitClassifier, aligned_glyphs, load_classifier, mean_colour, velocity
from vdmlib.small.model import VideoModel
from vdmlib.small.weights import WEIGHTS

GRAPHS = Path(__file__).resolve().parents[2] / "book/_static/demo/graphs"
OPSET = 20


class Denoiser(nn.Module):
    """One call for one clip and one sentence, with the text encoder inside; guidance takes two."""

    def __init__(self, model: VideoModel):
        super().__init__()
        self.model = model

    def forward(self, x, timestep, tokens, fps, first_frame=None):
        return self.model(x, timestep, tokens.long(), fps, first_frame)


class Decoder(nn.Module):
    """Latents of half a clip to its frames."""

    def __init__(self, autoencoder: Autoencoder):
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latents):
        return self.autoencoder.decode(latents).clamp(-1, 1)


class Encoder(nn.Module):
    """One picture to its latents."""

    def __init__(self, autoencoder: Autoencoder):
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, picture):
        return self.autoencoder.encode(picture[:, None])[:, 0]


class Judge(nn.Module):
    """What the judge measures in a clip: log-probability of each digit in each frame, mean colour, pixels per frame."""

    def __init__(self, classifier: DigitClassifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, video):
        return self.classifier(aligned_glyphs(video)).log_softmax(dim=-1), mean_colour(video), velocity(video)


def networks() -> dict[str, tuple[nn.Module, str, dict[str, Tensor], tuple[str, ...]]]:
    """Name of a graph → network, prefix of its weights' names, examples of inputs, files with weights, best first."""
    t2v, i2v = load_pretrained("t2v"), load_pretrained("i2v")
    latents = torch.randn(1, data.FRAMES, 8, 8, 8)
    half = latents[:, : data.FRAMES // 2]
    video = torch.rand(1, data.FRAMES, 3, data.SIZE, data.SIZE)
    inputs = dict(
        x=latents,
        timestep=torch.tensor([481.0]),
        tokens=torch.tensor([[1, 3, 4, 5, 6, 7]], dtype=torch.int32),
        fps=torch.tensor([10.0]),
    )
    return {
        "t2v": (Denoiser(t2v.video_model), "model.", inputs, ("t2v",)),
        "i2v": (Denoiser(i2v.video_model), "model.", inputs | {"first_frame": latents[:, 0]}, ("i2v", "t2v")),
        "decoder": (Decoder(t2v.autoencoder), "autoencoder.", {"latents": half}, ("autoencoder",)),
        "encoder": (Encoder(t2v.autoencoder), "autoencoder.", {"picture": video[:, 0]}, ("autoencoder",)),
        "judge": (Judge(load_classifier()), "classifier.", {"video": video}, ("judge",)),
    }


def places(path: Path) -> dict[str, tuple[tuple[int, ...], int, int]]:
    """Name → shape, first byte and length of every float16 tensor in a .safetensors file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    return {
        name: (tuple(entry["shape"]), 8 + length + entry["data_offsets"][0],
               entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] == "F16"
    }  # fmt: skip


def export(network: nn.Module, inputs: dict[str, Tensor]):
    """The network as ONNX.

    With random weights, all different: the exporter merges constants that are equal, and in trained weights a few are,
    which would be wrong after another training. Without its optimiser, which would mix weights into each other.
    """
    generator = torch.Generator().manual_seed(0)
    for value in [*network.parameters(), *network.buffers()]:
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.eval(), kwargs=inputs, dynamo=True, opset_version=OPSET, optimize=False, verbose=False
        )
    return program.model_proto


def refer(model, prefix: str, files: tuple[str, ...]) -> None:
    """Replace each weight by a reference into a file and a cast to float32; the runtime does the cast when it loads."""
    from onnx import TensorProto, helper

    tables = {file: places(WEIGHTS / f"{file}.safetensors") for file in files}
    casts, references = [], []
    for tensor in model.graph.initializer:
        if tensor.name.startswith("lifted_tensor"):  # a number of the code, such as the colour of the background
            references.append(tensor)
            continue
        name = tensor.name.removeprefix(prefix)
        file = next((file for file in files if name in tables[file]), None)
        if file is None or tables[file][name][0] != tuple(tensor.dims):
            raise SystemExit(f"{tensor.name}, {tuple(tensor.dims)}, is no weight of {' or '.join(files)}")
        shape, offset, length = tables[file][name]
        stored = TensorProto(name=f"{name}.half", dims=shape, data_type=TensorProto.FLOAT16)
        stored.data_location = TensorProto.EXTERNAL
        for key, value in (("location", f"{file}.safetensors"), ("offset", offset), ("length", length)):
            stored.external_data.add(key=key, value=str(value))
        references.append(stored)
        casts.append(helper.make_node("Cast", [stored.name], [tensor.name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    for field in ("initializer", "node", "value_info"):
        del getattr(model.graph, field)[:]
    model.graph.initializer.extend(references)
    model.graph.node.extend(nodes)


def strip(model) -> None:
    """Take out what is there for people: where in the code a node comes from, and its name."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for entry in [*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        entry.doc_string = ""
        del entry.metadata_props[:]
    for node in model.graph.node:
        node.name = ""
    model.producer_version = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a graph differs from a fresh one")
    arguments = parser.parse_args()
    different = []
    with torch.no_grad():
        for name, (network, prefix, inputs, files) in networks().items():
            model = export(network, inputs)
            refer(model, prefix, files)
            strip(model)
            content = model.SerializeToString(deterministic=True)
            path = GRAPHS / f"{name}.onnx"
            print(f"{name}: {len(model.graph.node)} nodes, {len(content):,} bytes")
            if arguments.check:
                different += [name] if not path.exists() or path.read_bytes() != content else []
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    if different:
        raise SystemExit("not as exported: " + ", ".join(different))


if __name__ == "__main__":
    main()
