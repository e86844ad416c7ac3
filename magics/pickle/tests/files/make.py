"""Writes the files that are read by the tests, with PyTorch 2.13.0 and PyTorch Lightning 2.6.1: python make.py, here."""

import argparse
import collections
import io
import json
import pathlib
import struct

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.parsing import AttributeDict

DTYPES = (
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128 float8_e4m3fn float8_e5m2"
).split()

base = torch.arange(24.0)
tensors = collections.OrderedDict()
for name in DTYPES:
    tensors[name] = torch.tensor([0.0, 1.0, 2.0]).to(getattr(torch, name))
tensors["scalar"] = torch.tensor(7)
tensors["empty"] = torch.zeros(0, 3)
tensors["row"] = base.view(4, 6)[1]
tensors["turned"] = base.view(4, 6).t()
tensors["every_second"] = base[1::2]
tensors["wide"] = torch.tensor([5.0]).expand(3, 4)
tensors["parameter"] = torch.nn.Parameter(torch.ones(2))
tensors._metadata = {"": {"version": 1}}
torch.save(tensors, "tensors.pt")
torch.save(tensors, "legacy.pt", _use_new_zipfile_serialization=False)

plain = {
    "none": None,
    "yes": True,
    "no": False,
    "small": 7,
    "byte": 200,
    "negative": -3,
    "wide": 1 << 40,
    "long": 1 << 80,
    "float": 0.1,
    "inf": float("-inf"),
    "text": "zeile\nä",
    "bytes": b"\x00\xff",
    "list": [1, [2.5, "x"]],
    "tuple": (1, (2, 3, 4, 5)),
    "one": (1,),
    "nothing": (),
    "set": {1},
    "size": torch.Size([2, 3]),
    "dtype": torch.bfloat16,
    "device": torch.device("cuda:1"),
    "path": pathlib.PurePosixPath("/a/b"),
    "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
    "counter": collections.Counter("aab"),
    "namespace": argparse.Namespace(lr=0.1),
    "hparams": AttributeDict(lr=0.2, nested=AttributeDict(size=3)),
    3: "a number for a name",
}
torch.save(plain, "plain.pt")
torch.save(plain, "plain4.pt", pickle_protocol=4)


class Lit(pl.LightningModule):
    def __init__(self, hidden=3, lr=1e-2, name="tiny"):
        super().__init__()
        self.save_hyperparameters()
        self.l1 = torch.nn.Linear(2, hidden)

    def training_step(self, batch, _):
        return self.l1(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


torch.manual_seed(1)
trainer = pl.Trainer(
    max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
    enable_checkpointing=False,
)  # fmt: skip
trainer.fit(Lit(), torch.utils.data.DataLoader(torch.randn(8, 2), batch_size=4))
trainer.save_checkpoint("lightning.ckpt")


class Other:
    pass


torch.save({"object": Other()}, "other.pt")
