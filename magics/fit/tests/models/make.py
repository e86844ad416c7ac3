"""Writes what `main.rs` beside this file compares with: names, shapes and logits of PyTorch 2.13.0 and torchvision 0.28.

    python -m venv venv && venv/bin/pip install torch==2.13.0 torchvision
    venv/bin/python make.py

Weights and inputs are made from their names by a formula, the same on both sides, so that none is kept here.
"""

import json

import numpy as np
import torch
from reference import MODELS

torch.set_num_threads(1)


def scrambled(name, count):
    """A whole number of 32 bits for each place, from the name's FNV-1a."""
    seed = 2166136261
    for byte in name.encode():
        seed = (seed ^ byte) * 16777619 & 0xFFFFFFFF
    x = np.arange(count, dtype=np.uint32) + np.uint32(seed)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def numbers(name, shape):
    """Between -1 and 1."""
    count = int(np.prod(shape))
    return torch.from_numpy(scrambled(name, count) / 2.0**31 - 1.0).reshape(shape)


def value(name, tensor):
    shape = list(tensor.shape)
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    u = numbers(name, shape)
    if name.endswith("running_var"):
        u = 1 + 0.4 * u
    elif name.endswith("running_mean"):
        u = 0.2 * u
    elif len(shape) == 1 and name.endswith("weight"):
        u = 1 + 0.3 * u
    elif len(shape) < 2:
        u = 0.1 * u
    else:
        u = u * (3 / (tensor.numel() / shape[0])) ** 0.5
    return u.float()


def filled(name):
    make, shape, tokens = MODELS[name]
    model = make().eval()
    model.load_state_dict({key: value(key, tensor) for key, tensor in model.state_dict().items()})
    x = numbers("x", shape).float()
    if tokens:
        x = torch.from_numpy((scrambled("x", int(np.prod(shape))) % tokens).astype(np.int64)).reshape(shape)
    return model, x


def drawn(model):
    """Of the first parameters that PyTorch draws with seed 3, a sum that tells whether all of them are the same."""
    return sum(p.double().abs().sum().item() for p in model.parameters())


if __name__ == "__main__":
    golden = {}
    for name, (make, shape, tokens) in MODELS.items():
        model, x = filled(name)
        with torch.no_grad():
            y = model(x)
        names = [[key, list(tensor.shape)] for key, tensor in sorted(model.state_dict().items())]
        torch.manual_seed(3)
        golden[name] = {"names": names, "shape": list(y.shape), "y": y.flatten()[:200].tolist(), "drawn": drawn(make())}
    with open("models.json", "w") as file:
        json.dump(golden, file, separators=(",", ":"))
        file.write("\n")
