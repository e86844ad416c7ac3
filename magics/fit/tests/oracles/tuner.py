"""What PyTorch Lightning 2.6.1 finds when it searches for a learning rate, for `tuning.rs` beside this file to compare with.

    python -m venv venv && venv/bin/pip install torch==2.13.0 pytorch-lightning==2.6.1
    venv/bin/python tuner.py

writes `tuner.json` into this folder.
"""

import json
import os
import tempfile

import pytorch_lightning as pl
import torch
from pytorch_lightning.tuner import Tuner
from torch import nn
from torch.utils.data import DataLoader

from lightning import samples, trainer

HERE = os.environ.get("LIGHTCELL_ORACLES") or os.path.dirname(os.path.abspath(__file__))
torch.set_num_threads(1)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
}


class Net(pl.LightningModule):
    def __init__(self, optimizer):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 4))
        self.optimizer = optimizer

    def training_step(self, batch, index):
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        return OPTIMIZERS[self.optimizer](self.parameters())


def find(optimizer, **settings):
    with tempfile.TemporaryDirectory() as root:
        torch.manual_seed(42)
        model = Net(optimizer)
        loader = DataLoader(samples(256, 20, 4), batch_size=16)
        run = trainer(root, 1000)
        found = Tuner(run).lr_find(model, loader, update_attr=False, **settings)
        suggestion = found.suggestion()
        return {
            "optimizer": optimizer,
            "settings": settings,
            "lrs": found.results["lr"],
            "losses": found.results["loss"],
            "suggestion": suggestion,
            "index": found._optimal_idx,
        }


golden = [
    find("sgd"),
    find("adam"),
    find("sgd", num_training=50, min_lr=1e-5, max_lr=10.0),
    find("adam", mode="linear", min_lr=1e-4, max_lr=0.5),
    find("adam", early_stop_threshold=None, max_lr=10.0, num_training=60),
]
with open(os.path.join(HERE, "tuner.json"), "w") as file:
    json.dump(golden, file, indent=1)
    file.write("\n")
