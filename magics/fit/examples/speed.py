"""One epoch in a bare PyTorch loop and in Lightning, for `speed.rs`, which starts this and names the sizes.

Prints `sample SECONDS NAME` lines. The bare loop takes its batches by index, as the one on tch does; Lightning has its usual
loader, log, validation, table of metrics, checkpoint and bar. Needs torch; pytorch-lightning if it is there.
"""

import logging
import shutil
import sys
import tempfile
import time
import warnings

import torch
from torch import nn

threads, inputs, hidden, outputs, samples, validation, batch = map(int, sys.argv[1:])
torch.set_num_threads(threads)
torch.manual_seed(7)


def network():
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def dataset(count):
    return torch.utils.data.TensorDataset(torch.randn(count, inputs), torch.randint(outputs, (count,)))


def bare(train, limit):
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    x, y = train.tensors
    begun = time.perf_counter()
    order = torch.randperm(len(x))[:limit]
    total = 0.0
    for at in range(0, len(order), batch):
        index = order[at : at + batch]
        loss = nn.functional.cross_entropy(net(x[index]), y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    assert total == total
    return time.perf_counter() - begun


train, val = dataset(samples), dataset(validation)
bare(train, 50 * batch)
print("sample", bare(train, samples), "bare PyTorch", flush=True)

try:
    import pytorch_lightning as pl
except ImportError:
    sys.exit(0)

warnings.filterwarnings("ignore")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = network()

    def training_step(self, xy):
        loss = nn.functional.cross_entropy(self.net(xy[0]), xy[1])
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, xy):
        out = self.net(xy[0])
        self.log("val_loss", nn.functional.cross_entropy(out, xy[1]), prog_bar=True)
        self.log("val_acc", (out.argmax(1) == xy[1]).float().mean(), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


def lightning(**limits):
    folder = tempfile.mkdtemp(prefix="lightcell-speed-")
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=pl.loggers.CSVLogger(folder),
        callbacks=[pl.callbacks.ModelCheckpoint(monitor="val_loss")],
        enable_model_summary=False,
        **limits,
    )
    loaders = (
        torch.utils.data.DataLoader(train, batch_size=batch, shuffle=True),
        torch.utils.data.DataLoader(val, batch_size=batch),
    )
    model = Model()
    begun = time.perf_counter()
    trainer.fit(model, *loaders)
    seconds = time.perf_counter() - begun
    shutil.rmtree(folder)
    return seconds


lightning(limit_train_batches=20, limit_val_batches=2)
print("sample", lightning(), "Lightning", flush=True)
