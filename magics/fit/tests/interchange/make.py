"""Writes the files and numbers that `main.rs` beside this file reads, with PyTorch 2.13.0 and PyTorch Lightning 2.6.1.

    python -m venv venv && venv/bin/pip install torch==2.13.0 pytorch-lightning==2.6.1 safetensors
    venv/bin/python make.py

Never install a newer Lightning without looking: 2.6.2 and 2.6.3 on the package index were malicious.
"""

import json
import logging
import shutil
import sys
import warnings

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")
torch.set_num_threads(1)

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
}


class LitNet(pl.LightningModule):
    def __init__(self, hidden=32, optimizer="adam"):
        super().__init__()
        self.save_hyperparameters()
        self.l1 = nn.Linear(20, hidden)
        self.bn = nn.BatchNorm1d(hidden)
        self.l2 = nn.Linear(hidden, 4)
        self.losses = []

    def forward(self, x):
        return self.l2(torch.relu(self.bn(self.l1(x))))

    def training_step(self, batch, _):
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch, _):
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return OPTIMIZERS[self.hparams.optimizer](self.parameters())


def samples():
    torch.manual_seed(7)
    x = torch.randn(256, 20)
    return x, (x @ torch.randn(20, 4)).argmax(1)


def loader():
    return DataLoader(TensorDataset(*samples()), batch_size=16)


def trainer(epochs, callbacks=(), folder=None):
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        default_root_dir=folder,
    )


def logits(model):
    model.eval()
    with torch.no_grad():
        y = model(samples()[0][:3]).flatten().tolist()
    model.train()
    return y


def make():
    golden = {}
    for name in OPTIMIZERS:
        torch.manual_seed(42)
        model = LitNet(hidden=8, optimizer=name)
        run = trainer(2)
        run.fit(model, loader())
        run.save_checkpoint(f"{name}.ckpt")
        golden[name] = {"logits": logits(model)}
        model = LitNet(hidden=8, optimizer=name)
        trainer(3).fit(model, loader(), ckpt_path=f"{name}.ckpt")
        golden[name]["next"] = model.losses
    # Written by a callback, in the validation at the end of the second epoch, and with callbacks' states.
    torch.manual_seed(42)
    model = LitNet(hidden=8)
    # Its folder stands in the file.
    keep = ModelCheckpoint(dirpath="/tmp/lit", filename="callback", monitor="val_loss", save_top_k=-1, every_n_epochs=2)
    stop = EarlyStopping("val_loss", patience=9)
    trainer(2, [keep, stop]).fit(model, loader(), loader())
    shutil.move("/tmp/lit/callback.ckpt", "callback.ckpt")
    torch.save(model.state_dict(), "weights.pt")
    with open("golden.json", "w") as file:
        json.dump(golden, file, separators=(",", ":"))
        file.write("\n")


def check(path, epochs):
    """What Lightning makes of a checkpoint: hyperparameters, logits, and the losses when it goes on."""
    model = LitNet.load_from_checkpoint(path)
    seen = {"hparams": dict(model.hparams), "logits": logits(model)}
    run = trainer(epochs)
    run.fit(model, loader(), ckpt_path=path)
    print(json.dumps(seen | {"next": model.losses, "global_step": run.global_step, "epoch": run.current_epoch}))


def script(path, numbers):
    """A scripted network in training mode, an input with what it gives in eval mode, and a module that gives two tensors."""
    from safetensors.torch import save_file

    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU(), torch.nn.Dropout(0.5))
    x = torch.randn(5, 4)
    net(x)
    torch.jit.save(torch.jit.script(net), path)
    with torch.no_grad():
        save_file({"x": x, "y": net.eval()(x)}, numbers)

    class Pair(torch.nn.Module):
        def forward(self, x):
            return x, x

    torch.jit.save(torch.jit.script(Pair()), path.rsplit(".", 1)[0] + ".pair")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["check", path, epochs]:
            check(path, int(epochs))
        case ["script", path, numbers]:
            script(path, numbers)
        case _:
            make()
