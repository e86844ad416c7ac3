"""One epoch in bare PyTorch loops and in Lightning, for `main.rs`, which starts this and names the sizes.

Prints `sample SECONDS NAME` lines. One bare loop takes its batches from tensors by index, as the one on tch does, the other
from a DataLoader; Lightning has its usual loader, log, validation, table of metrics, checkpoint and bar. Needs torch;
pytorch-lightning if it is there.
"""

import logging
import shutil
import sys
import tempfile
import time
import warnings

import torch
from torch import nn

kind = sys.argv[1]
threads, samples, validation, batch = map(int, sys.argv[2:6])
now = time.process_time if "--cpu" in sys.argv else time.perf_counter
torch.set_num_threads(threads)
torch.manual_seed(7)


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(1, 16, 3, padding=1)
        self.c2 = nn.Conv2d(16, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.l = nn.Linear(32 * 7 * 7, 10)

    def forward(self, x):
        x = self.pool(self.c1(x).relu())
        x = self.pool(self.c2(x).relu())
        return self.l(x.flatten(1))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(100, 64)
        self.t = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 2)
        self.l = nn.Linear(64, 10)

    def forward(self, x):
        return self.l(self.t(self.e(x)).mean(1))


def network():
    match kind:
        case "mnist":
            return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
        case "tiny":
            return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
        case "cnn":
            return Cnn()
        case "transformer":
            return Transformer()


def dataset(count):
    match kind:
        case "mnist":
            x = torch.randn(count, 784)
        case "tiny":
            x = torch.randn(count, 16)
        case "cnn":
            x = torch.randn(count, 1, 28, 28)
        case "transformer":
            x = torch.randint(100, (count, 32))
    return torch.utils.data.TensorDataset(x, torch.randint(2 if kind == "tiny" else 10, (count,)))


def slices(train, limit):
    x, y = train.tensors
    order = torch.randperm(len(x))[:limit]
    for at in range(0, len(order), batch):
        index = order[at : at + batch]
        yield x[index], y[index]


def loader(train, limit):
    if limit < len(train):
        train = torch.utils.data.Subset(train, range(limit))
    return torch.utils.data.DataLoader(train, batch_size=batch, shuffle=True)


def bare(feed, train, limit):
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    begun = now()
    total = 0.0
    for x, y in feed(train, limit):
        loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    assert total == total
    return now() - begun


train, val = dataset(samples), dataset(validation)
for name, feed in [("bare PyTorch, slices", slices), ("bare PyTorch, DataLoader", loader)]:
    bare(feed, train, 20 * batch)
    print("sample", bare(feed, train, samples), name, flush=True)

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
    begun = now()
    trainer.fit(model, *loaders)
    seconds = now() - begun
    shutil.rmtree(folder)
    return seconds


lightning(limit_train_batches=20, limit_val_batches=2)
print("sample", lightning(), "Lightning", flush=True)
