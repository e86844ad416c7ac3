"""What PyTorch's and Lightning's TensorBoard writers write, for `boards.rs` beside this file to compare with.

    python -m venv venv && venv/bin/pip install torch==2.13.0 pytorch-lightning==2.6.1 tensorboard pillow
    venv/bin/python boards.py

writes `tensorboard.json` into this folder. With the path of a folder it prints what TensorBoard's own reader finds in it,
as JSON, to look at files of ours by hand.
"""

import io
import json
import os
import sys
import tempfile

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary

HERE = os.environ.get("LIGHTCELL_ORACLES") or os.path.dirname(os.path.abspath(__file__))


def read(folder):
    board = EventAccumulator(folder, size_guidance={"scalars": 0, "histograms": 0, "images": 0, "tensors": 0})
    board.Reload()
    found = {"scalars": {}, "histograms": {}, "images": {}, "texts": {}, "plugins": {}}
    for tag in board.Tags()["scalars"]:
        found["scalars"][tag] = [[event.step, event.value] for event in board.Scalars(tag)]
    for tag in board.Tags()["histograms"]:
        found["histograms"][tag] = [[event.step, vars(event.histogram_value)] for event in board.Histograms(tag)]
    for tag in board.Tags()["images"]:
        from PIL import Image

        images = [Image.open(io.BytesIO(event.encoded_image_string)) for event in board.Images(tag)]
        found["images"][tag] = [np.asarray(image).tolist() for image in images]
    for tag in board.Tags()["tensors"]:
        found["texts"][tag] = [event.tensor_proto.string_val[0].decode() for event in board.Tensors(tag)]
    for plugin in ["text", "hparams"]:
        try:
            found["plugins"][plugin] = {tag: data.hex() for tag, data in board.PluginTagToContent(plugin).items()}
        except KeyError:
            pass
    return found


if len(sys.argv) > 1:
    print(json.dumps(read(sys.argv[1]), indent=1, sort_keys=True))
    sys.exit()

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lightning import Scripted, loaders, trainer


class Kept(Scripted):
    def __init__(self, values, step_metric):
        super().__init__(values, step_metric)
        self.save_hyperparameters()


def event(step, *summaries):
    """The bytes of events without their time."""
    return [Event(step=step, summary=one).SerializeToString(deterministic=True).hex() for one in summaries]


values = torch.tensor([[-2.5, -0.5, 0.0, 0.25], [1e-13, 1.0, 1.0, 1000.0]])

edges, v = [], 1e-12
while v < 1e20:
    edges.append(v)
    v *= 1.1
bins = [-v for v in reversed(edges)] + [0] + edges
colours = torch.arange(24, dtype=torch.uint8).reshape(3, 2, 4) * 10
grey = torch.tensor([[0.0, 0.5], [1.0, 2.0], [-1.0, 0.25]])
hparams = {"batch": 32, "lr": 0.1, "name": "sgd", "optim/momentum": 0.9}

buffer = io.BytesIO()
RecordWriter(buffer).write(b"one two three")
golden = {
    "record": buffer.getvalue().hex(),
    "scalar": event(7, summary.scalar("loss/train", 0.1)),
    "scalar_at_0": event(0, summary.scalar("zero", 0.0)),
    "histogram": event(3, summary.histogram("weights", values.numpy(), bins)),
    "histogram_of_one": event(3, summary.histogram("one", np.array([0.5]), bins)),
    "text": event(2, summary.text("note", "the **first** run, naïve")),
    # A map has no order: the values are compared one by one.
    "hparams": [
        {"hparams": one, "bytes": event(0, summary.scalar("acc", 0.5), *summary.hparams(one, {"acc": 0.5}))}
        for one in [{"lr": 0.1}, {"name": "sgd"}, {"batch": 32}, {}]
    ],
    "experiment": event(0, summary.hparams(hparams, {"acc": 0.5})[0]),
    "purge": Event(step=5, session_log=SessionLog(status=SessionLog.START)).SerializeToString().hex(),
    "image": [
        {
            "bytes": event(1, summary.image("colours", colours, dataformats="CHW")),
            "pixels": colours.permute(1, 2, 0).tolist(),
        },
        {
            "bytes": event(1, summary.image("grey", grey[None], dataformats="CHW")),
            "pixels": (grey[..., None].repeat(1, 1, 3) * 255).clip(0, 255).to(torch.uint8).tolist(),
        },
    ],
    "runs": [],
}

for batches, epochs, every, accumulate in [(16, 2, 5, 1), (7, 3, 2, 3), (4, 2, 50, 1)]:
    with tempfile.TemporaryDirectory() as root:
        logger = TensorBoardLogger(root)
        run = trainer(root, epochs, logger=logger, log_every_n_steps=every, accumulate_grad_batches=accumulate)
        run.fit(Kept([0.5, 0.25, 0.125][:epochs], True), *loaders(batches))
        logger.experiment.flush()
        golden["runs"].append(
            {
                "batches": batches,
                "epochs": epochs,
                "log_every_n_steps": every,
                "accumulate_grad_batches": accumulate,
                "folder": os.path.relpath(logger.log_dir, root),
                "scalars": read(logger.log_dir)["scalars"],
            }
        )

with open(os.path.join(HERE, "tensorboard.json"), "w") as file:
    json.dump(golden, file, indent=1)
    file.write("\n")
