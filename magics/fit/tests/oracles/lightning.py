"""What PyTorch Lightning 2.6.1 does with lists of metrics, for `keeping.rs` beside this file to compare with.

    python -m venv venv && venv/bin/pip install torch==2.13.0 pytorch-lightning==2.6.1
    venv/bin/python lightning.py

writes `lightning.json` into this folder. A model of one number logs the next value of a list at each validation. Never
install a newer Lightning without looking: 2.6.2 and 2.6.3 on the package index were malicious.
"""

import csv
import json
import logging
import math
import os
import tempfile
import warnings

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")


class Scripted(pl.LightningModule):
    """Logs `values[epoch]` as `val_loss`."""

    def __init__(self, values, step_metric=False):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.values = values
        self.step_metric = step_metric

    def training_step(self, batch, index):
        if self.step_metric:
            self.log("train_loss", float(self.global_step) / 8)
        return (self.weight * batch[0]).sum()

    def validation_step(self, batch, index):
        self.log("val_loss", self.values[self.current_epoch])
        if self.step_metric and self.current_epoch > 0:
            self.log("late", 1.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def loaders(batches):
    data = TensorDataset(torch.ones(batches, 1))
    return DataLoader(data), DataLoader(TensorDataset(torch.ones(1, 1)))


def samples(count, inputs, classes):
    """Points, and the largest of random linear functions of them as their class."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(count, inputs, generator=generator)
    teacher = torch.randn(inputs, classes, generator=generator)
    return TensorDataset(x, (x @ teacher).argmax(1))


def trainer(root, epochs, **settings):
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=root,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"logger": False, "enable_checkpointing": False, **settings},
    )


def number(value):
    """JSON has no word for what is no finite number."""
    value = float(value)
    return value if math.isfinite(value) else str(value)


class Files(Callback):
    """The files after each epoch's checkpoint."""

    def __init__(self, folder):
        self.folder = folder
        self.lists = []

    def look(self):
        self.lists.append(sorted(os.listdir(self.folder)) if os.path.isdir(self.folder) else [])

    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch > 0:
            self.look()

    def on_fit_end(self, trainer, module):
        self.look()


def checkpoints(values, **settings):
    with tempfile.TemporaryDirectory() as root:
        folder = os.path.realpath(os.path.join(root, "kept"))
        keep = ModelCheckpoint(dirpath=folder, **settings)
        files = Files(folder)
        run = trainer(root, len(values), enable_checkpointing=True, callbacks=[files, keep])
        run.fit(Scripted(values), *loaders(4))
        name = os.path.basename
        return {
            "values": [number(value) for value in values],
            "settings": settings,
            "files": [[file.replace(".ckpt", ".safetensors") for file in files] for files in files.lists],
            "best_k_models": [
                [name(path).replace(".ckpt", ".safetensors"), number(score)] for path, score in keep.best_k_models.items()
            ],
            "best_model_path": name(keep.best_model_path).replace(".ckpt", ".safetensors"),
            "best_model_score": None if keep.best_model_score is None else number(keep.best_model_score),
            "kth_value": number(keep.kth_value),
        }


def stopping(values, **settings):
    with tempfile.TemporaryDirectory() as root:
        stop = EarlyStopping("val_loss", **settings)
        run = trainer(root, len(values), callbacks=[stop])
        run.fit(Scripted(values), *loaders(2))
        return {
            "values": [number(value) for value in values],
            "settings": settings,
            "epochs": run.current_epoch,
            "stopped_epoch": stop.stopped_epoch,
            "reason": stop.stopping_reason.name.lower(),
            "wait_count": stop.wait_count,
            "best_score": number(stop.best_score),
        }


def table(batches, epochs, every, accumulate):
    with tempfile.TemporaryDirectory() as root:
        values = [0.5, 0.25, 0.125][:epochs]
        logger = CSVLogger(root)
        run = trainer(root, epochs, logger=logger, log_every_n_steps=every, accumulate_grad_batches=accumulate)
        run.fit(Scripted(values, True), *loaders(batches))
        with open(os.path.join(logger.log_dir, "metrics.csv"), newline="") as file:
            rows = list(csv.reader(file))
        return {
            "batches": batches,
            "epochs": epochs,
            "log_every_n_steps": every,
            "accumulate_grad_batches": accumulate,
            "folder": os.path.relpath(logger.log_dir, root),
            "rows": rows,
        }


def main():
    nan, inf = math.nan, math.inf
    script = [3.0, 1.0, 2.0, nan, 0.5]
    golden = {
        "checkpoints": [
            checkpoints(script, monitor="val_loss"),
            checkpoints(script, monitor="val_loss", save_top_k=2),
            checkpoints(script, monitor="val_loss", save_top_k=3, mode="max"),
            checkpoints(script, monitor="val_loss", save_top_k=-1, filename="{epoch:02d}-{val_loss:.2f}"),
            checkpoints(script, monitor="val_loss", save_top_k=0),
            checkpoints(script),
            checkpoints(script, save_top_k=-1, every_n_epochs=2),
            checkpoints(script, save_last=True),
            checkpoints([nan, nan, 2.0, 1.0, 1.0, inf], monitor="val_loss", save_top_k=2),
            checkpoints([1.0, 1.0, 1.0, 2.0], monitor="val_loss", save_top_k=2, filename="best-{val_loss:.1f}"),
            checkpoints([1.0, 2.0, 2.0, 3.0, -inf], monitor="val_loss", save_top_k=2, mode="max", filename="same"),
        ],
        "stopping": [
            stopping(script),
            stopping(script, check_finite=False),
            stopping([3.0, 2.0, 2.0, 2.0, 2.0, 1.0], patience=3),
            stopping([3.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0], patience=2),
            stopping([3.0, 2.75, 2.5, 2.0, 1.0], min_delta=0.25, patience=1),
            stopping([3.0, 2.75, 2.5, 2.25, 2.0], min_delta=0.375, patience=2),
            stopping([0.25, 0.5, 0.5, 0.75, 0.75, 0.5], mode="max", patience=2),
            stopping([0.25, 0.375, 0.5, 0.625], mode="max", min_delta=0.25, patience=2),
            stopping([3.0, 2.0, 1.0, 0.5], stopping_threshold=1.0),
            stopping([0.5, 0.75, 0.875, 1.0], mode="max", stopping_threshold=0.75),
            stopping([3.0, 4.0, 9.0, 1.0], divergence_threshold=8.0),
            stopping([3.0, 4.0, -9.0, 1.0], mode="max", divergence_threshold=-8.0),
            stopping([3.0, inf, 1.0]),
            stopping([3.0, inf, -inf, 1.0, 1.0], check_finite=False, patience=2),
            stopping([nan, nan, 1.0, 1.0], check_finite=False, patience=2),
            stopping([5.0, 4.0, 3.0]),
            stopping([5.0, 5.0, 3.0], patience=0),
        ],
        "tables": [table(16, 2, 5, 1), table(7, 3, 2, 3), table(4, 2, 50, 1)],
    }

    here = os.environ.get("LIGHTCELL_ORACLES") or os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "lightning.json"), "w") as file:
        json.dump(golden, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
