"""What PyTorch Lightning 2.6.1's callbacks do with a run, for `watching.rs` beside this file to compare with.

    python -m venv venv && venv/bin/pip install torch==2.13.0 pytorch-lightning==2.6.1
    venv/bin/python callbacks.py

writes `callbacks.json` into this folder: learning rates that are logged, weights that are averaged, steps of accumulation,
checkpoints amid epochs, the summary of a model.
"""

import csv
import json
import os
import tempfile

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    Callback,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities.model_summary import ModelSummary
from torch import nn
from torch.optim import lr_scheduler as schedulers
from torch.utils.data import DataLoader

from lightning import samples, trainer

HERE = os.environ.get("LIGHTCELL_ORACLES") or os.path.dirname(os.path.abspath(__file__))
torch.set_num_threads(1)


SCHEDULES = {
    "none": None,
    "step": lambda o: {"scheduler": schedulers.StepLR(o, 3, gamma=0.5), "interval": "step"},
    "epoch": lambda o: {"scheduler": schedulers.ExponentialLR(o, 0.5), "interval": "epoch"},
}


class Net(pl.LightningModule):
    def __init__(self, optimizer="sgd", schedule="none", norm=False):
        super().__init__()
        self.l1 = nn.Linear(20, 32)
        self.norm = nn.BatchNorm1d(32) if norm else nn.Identity()
        self.l2 = nn.Linear(32, 4)
        self.optimizer, self.schedule = optimizer, schedule
        self.losses = []

    def forward(self, x):
        return self.l2(self.norm(self.l1(x)).relu())

    def training_step(self, batch, index):
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        if self.trainer.fit_loop._skip_backward is False:
            self.losses.append(loss.item())
        return loss

    def validation_step(self, batch, index):
        x, y = batch
        self.log("val_loss", nn.functional.cross_entropy(self(x), y))

    def configure_optimizers(self):
        if self.optimizer == "groups":
            groups = [{"params": self.l1.parameters()}, {"params": self.l2.parameters(), "lr": 0.01}]
            optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.02)
        elif self.optimizer == "adam":
            optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        else:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        schedule = SCHEDULES[self.schedule]
        return optimizer if schedule is None else {"optimizer": optimizer, "lr_scheduler": schedule(optimizer)}


class Validations(Callback):
    def __init__(self):
        self.losses = []

    def on_validation_end(self, trainer, module):
        self.losses.append(trainer.callback_metrics["val_loss"].item())


class Rates(Callback):
    def __init__(self):
        self.lrs = []

    def on_train_batch_start(self, trainer, module, batch, index):
        self.lrs.append(trainer.optimizers[0].param_groups[0]["lr"])


def fit(model, epochs, *callbacks, **settings):
    with tempfile.TemporaryDirectory() as root:
        torch.manual_seed(42)
        data = samples(128, 20, 4)
        model = model()
        logger = CSVLogger(root) if settings.pop("table", False) else False
        validations = Validations()
        run = trainer(root, epochs, logger=logger, callbacks=[validations, *callbacks], **settings)
        run.fit(model, DataLoader(data, batch_size=16), DataLoader(data, batch_size=64))
        rows = None
        if logger:
            with open(os.path.join(logger.log_dir, "metrics.csv"), newline="") as file:
                rows = list(csv.DictReader(file))
    return model, run, validations.losses, rows


def state(model):
    return {
        name: tensor.flatten().tolist() for name, tensor in model.state_dict().items() if not name.startswith("losses")
    }


def monitor(optimizer, schedule, accumulate=1, **settings):
    callback = LearningRateMonitor(**settings)
    _, _, _, rows = fit(
        lambda: Net(optimizer, schedule), 2, callback, table=True, log_every_n_steps=3, accumulate_grad_batches=accumulate
    )
    rates = []
    for row in rows:
        for name, value in row.items():
            if name.startswith("lr-") and value:
                rates.append([int(row["step"]), name, float(value)])
    return {
        "optimizer": optimizer,
        "schedule": schedule,
        "accumulate": accumulate,
        "settings": settings,
        "rates": sorted(rates),
    }


def swa(epochs, norm, schedule="none", **settings):
    rates = Rates()
    model, _, _, _ = fit(lambda: Net("sgd", schedule, norm), epochs, StochasticWeightAveraging(**settings), rates)
    return {
        "epochs": epochs,
        "norm": norm,
        "schedule": schedule,
        "settings": settings,
        "lrs": rates.lrs[: 8 * epochs],
        "losses": model.losses,
        "state": state(model),
    }


def ema(epochs, norm, **settings):
    callback = EMAWeightAveraging(**settings)
    model, _, validations, _ = fit(lambda: Net("adam", "none", norm), epochs, callback)
    return {
        "epochs": epochs,
        "norm": norm,
        "settings": settings,
        "validations": validations,
        "losses": model.losses,
        "state": state(model),
    }


def accumulation(scheduling, epochs):
    callback = GradientAccumulationScheduler(scheduling)
    steps = []

    class Steps(Callback):
        def on_train_batch_end(self, trainer, *_):
            steps.append(trainer.global_step)

    model, _, _, _ = fit(lambda: Net(), epochs, callback, Steps())
    return {
        "scheduling": [[int(epoch), size] for epoch, size in scheduling.items()],
        "epochs": epochs,
        "steps": steps,
        "losses": model.losses,
    }


def checkpoints(accumulate=1, **settings):
    with tempfile.TemporaryDirectory() as folder:
        folder = os.path.realpath(folder)
        lists = []

        class Files(Callback):
            def on_train_batch_start(self, *_):
                lists.append(sorted(os.listdir(folder)))

            def on_fit_end(self, *_):
                lists.append(sorted(os.listdir(folder)))

        keep = ModelCheckpoint(dirpath=folder, **settings)
        fit(lambda: Net(), 2, Files(), keep, enable_checkpointing=True, accumulate_grad_batches=accumulate)
        return {
            "accumulate": accumulate,
            "settings": settings,
            "files": [[file.replace(".ckpt", ".safetensors") for file in files] for files in lists],
            "best_model_path": os.path.basename(keep.best_model_path).replace(".ckpt", ".safetensors"),
        }


class Plain(pl.LightningModule):
    def __init__(self, hidden):
        super().__init__()
        self.l1 = nn.Linear(64, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.out = nn.Linear(hidden, 10)


class Deep(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.net = nn.Sequential(nn.Linear(64, 1200), nn.ReLU(), nn.Linear(1200, 2000), nn.Dropout(0.1), nn.Linear(2000, 10))
        self.embed = nn.Embedding(100, 16)
        self.gru = nn.GRU(16, 32)
        self.attention = nn.TransformerEncoderLayer(16, 2, 32)
        self.norm = nn.LayerNorm(16)
        self.scale = nn.Parameter(torch.zeros(7))
        for parameter in self.embed.parameters():
            parameter.requires_grad = False


golden = {
    "monitor": [
        monitor("adam", "none"),
        monitor("sgd", "step"),
        monitor("sgd", "epoch"),
        monitor("groups", "step", log_momentum=True, log_weight_decay=True),
        monitor("sgd", "step", logging_interval="epoch", log_momentum=True),
        monitor("sgd", "epoch", logging_interval="step"),
        monitor("sgd", "step", accumulate=2),
    ],
    "swa": [
        swa(6, False, swa_lrs=0.02, swa_epoch_start=0.5, annealing_epochs=2),
        swa(6, True, swa_lrs=0.02, swa_epoch_start=3),
        swa(5, True, "epoch", swa_lrs=0.05, annealing_epochs=0),
        swa(5, False, "step", swa_lrs=0.05, annealing_epochs=3, annealing_strategy="linear", swa_epoch_start=2),
    ],
    "ema": [
        ema(3, False),
        ema(3, True, decay=0.9),
        ema(3, True, decay=0.5, update_every_n_steps=3),
        ema(3, False, decay=0.8, update_every_n_steps=0, update_starting_at_epoch=0),
        ema(2, False, decay=0.8, update_every_n_steps=2, update_starting_at_step=5),
    ],
    "accumulation": [accumulation({1: 4, 3: 2}, 5), accumulation({0: 3}, 2)],
    "checkpoints": [
        checkpoints(every_n_train_steps=3, save_top_k=-1),
        checkpoints(every_n_train_steps=3),
        checkpoints(every_n_train_steps=5, save_last=True),
        checkpoints(accumulate=3, every_n_train_steps=2, save_top_k=-1),
    ],
    "summary": {
        name: [str(ModelSummary(model, max_depth=depth)) for depth in (0, 1, 2, -1)]
        for name, model in [("plain", Plain(300)), ("wide", Plain(100_000)), ("deep", Deep())]
    },
}

with open(os.path.join(HERE, "callbacks.json"), "w") as file:
    json.dump(golden, file, indent=None, separators=(",", ":"))
    file.write("\n")
