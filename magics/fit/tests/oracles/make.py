"""What PyTorch 2.13.0 computes, for the tests beside this file to compare with.

    python -m venv venv && venv/bin/pip install torch==2.13.0 numpy safetensors
    venv/bin/python make.py

writes `golden.json` and the safetensors files into this folder. Loops are written by hand, in the order of PyTorch
Lightning's, to which they are equal; Lightning itself is not needed. One thread, CPU, float32. Data are drawn, not
stored: a generator with the same seed draws the same numbers on both sides. Sums in matrix products may be ordered
otherwise on another machine, which is what the tests' tolerances are for.
"""

import json
import math
import os

import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim import lr_scheduler as schedulers
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)
os.chdir(os.environ.get("LIGHTCELL_ORACLES") or os.path.dirname(os.path.abspath(__file__)))
golden = {}


# ---- data and loops ------------------------------------------------------------------------------------------------


def samples(count, inputs, classes):
    """Points, and the largest of random linear functions of them as their class."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(count, inputs, generator=generator)
    teacher = torch.randn(inputs, classes, generator=generator)
    return x, (x @ teacher).argmax(1)


def network(inputs, hidden, classes, dropout=0.0):
    layers = [nn.Linear(inputs, hidden), nn.ReLU()]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(hidden, classes))


def train(model, optimizer, loader, epochs, accumulate=1, true_size=True, clip=None, each_step=None, each_epoch=None):
    """Losses of all batches."""
    losses = []
    batches = len(loader)
    for _ in range(epochs):
        model.train()
        for index, (x, y) in enumerate(loader):
            at = index % accumulate
            size = min(accumulate, batches - (index - at))
            if at == 0:
                optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            losses.append(loss.item())
            (loss / (size if true_size else accumulate)).backward()
            if at + 1 == size:
                if clip:
                    clip(model.parameters())
                optimizer.step()
                if each_step:
                    each_step()
        if each_epoch:
            each_epoch()
    return losses


def named(prefix, model):
    names = {"0.weight": "l1.weight", "0.bias": "l1.bias"}
    return {
        f"{prefix}.{names.get(name, 'l2.' + name.split('.')[1])}": tensor.detach().clone()
        for name, tensor in model.state_dict().items()
    }


# ---- rows 1 and 2: curves of optimizers; row 5: a larger run ---------------------------------------------------------

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "sgd_dampened": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.1, weight_decay=0.01),
    "sgd_nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "adam_decay": lambda p: torch.optim.Adam(p, lr=1e-2, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.05),
    "adamw_amsgrad": lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
    "rmsprop_centered": lambda p: torch.optim.RMSprop(
        p, lr=1e-3, alpha=0.9, momentum=0.9, centered=True, weight_decay=0.01
    ),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05, lr_decay=0.01, initial_accumulator_value=0.1),
    # One pass through each parameter, rounded otherwise.
    "sgd_fused": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, fused=True),
    "sgd_nesterov_fused": lambda p: torch.optim.SGD(
        p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01, fused=True
    ),
    "adam_fused": lambda p: torch.optim.Adam(p, lr=1e-3, fused=True),
    "adam_decay_fused": lambda p: torch.optim.Adam(
        p, lr=1e-2, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.05, fused=True
    ),
    "adamw_amsgrad_fused": lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True, fused=True),
}


def groups(model):
    return torch.optim.AdamW(
        [
            {"params": [model[2].weight]},
            {"params": [model[0].bias, model[2].bias], "weight_decay": 0.0},
            {"params": [model[0].weight], "lr": 1e-3},
        ],
        lr=1e-2,
        weight_decay=0.1,
    )


# The momentum is cycled as well, in Adam the first beta.
ONE_CYCLES = {"one_cycle": ("sgd", 0.2), "adam_one_cycle": ("adam", 0.01)}


x, y = samples(256, 20, 4)
loader = DataLoader(TensorDataset(x, y), batch_size=16)
weights = {}
curves = {}
for name, make in OPTIMIZERS.items():
    torch.manual_seed(42)
    model = network(20, 32, 4)
    curves[name] = train(model, make(model.parameters()), loader, 3)
    weights |= named(name, model)
torch.manual_seed(42)
model = network(20, 32, 4)
curves["groups"] = train(model, groups(model), loader, 3)
weights |= named("groups", model)
for name, (kind, max_lr) in ONE_CYCLES.items():
    torch.manual_seed(42)
    model = network(20, 32, 4)
    optimizer = OPTIMIZERS[kind](model.parameters())
    schedule = schedulers.OneCycleLR(optimizer, max_lr=max_lr, total_steps=48)
    curves[name] = train(model, optimizer, loader, 3, each_step=schedule.step)
    weights |= named(name, model)
golden["curves"] = curves

torch.manual_seed(42)
model = network(20, 32, 4)
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5, history_size=4)
golden["lbfgs"] = []
for _ in range(3):
    for a, b in DataLoader(TensorDataset(x, y), batch_size=64):

        def closure():
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(a), b)
            loss.backward()
            return loss

        golden["lbfgs"].append(optimizer.step(closure).item())
weights |= named("lbfgs", model)

x, y = samples(1024, 784, 10)
large = DataLoader(TensorDataset(x, y), batch_size=64)
golden["large"] = {}
for name in ["sgd", "adam"]:
    torch.manual_seed(42)
    model = network(784, 64, 10)
    golden["large"][name] = train(model, OPTIMIZERS[name](model.parameters()), large, 3)


# ---- row 12: clipping and accumulation ---------------------------------------------------------------------------------

CASES = {
    "clip_norm": dict(clip=lambda p: nn.utils.clip_grad_norm_(p, 0.05)),
    "clip_value": dict(clip=lambda p: nn.utils.clip_grad_value_(p, 0.01)),
    "accumulate_4": dict(accumulate=4),
    "accumulate_5": dict(accumulate=5),
    "accumulate_5_lightning": dict(accumulate=5, true_size=False),
    "accumulate_5_clip": dict(accumulate=5, clip=lambda p: nn.utils.clip_grad_norm_(p, 0.05)),
}
# Of the gradients of the last step, as they were left by the clipping.
golden["norms"] = {}
for name, settings in CASES.items():
    torch.manual_seed(42)
    model = network(20, 32, 4)
    train(model, OPTIMIZERS["sgd"](model.parameters()), loader, 2, **settings)
    weights |= named(name, model)
    golden["norms"][name] = nn.utils.get_total_norm([p.grad for p in model.parameters()]).item()
save_file(weights, "weights.safetensors")


# ---- row 4: means over validation data; row 6: the order of the samples ------------------------------------------------

x, y = samples(456, 20, 4)
shuffled = DataLoader(TensorDataset(x[:256], y[:256]), batch_size=16, shuffle=True)
validation = DataLoader(TensorDataset(x[256:], y[256:]), batch_size=64)
torch.manual_seed(42)
model = network(20, 32, 4, dropout=0.25)
epochs = []


def validate():
    model.eval()
    loss, hits, count = 0.0, 0.0, 0
    with torch.no_grad():
        for a, b in validation:
            out = model(a)
            loss += nn.functional.cross_entropy(out, b).item() * len(a)
            hits += (out.argmax(1) == b).float().mean().item() * len(a)
            count += len(a)
    epochs.append({"val_loss": loss / count, "val_acc": hits / count})


losses = train(model, torch.optim.Adam(model.parameters(), lr=1e-3), shuffled, 3, each_epoch=validate)
golden["validation"] = {"epochs": epochs, "losses": losses}


class Numbers(nn.Module):
    """Notes which samples it sees."""

    def __init__(self):
        super().__init__()
        self.l1 = nn.Linear(1, 2)
        self.drop = nn.Dropout(0.5)
        self.seen = []

    def forward(self, x):
        if self.training:
            self.seen += x.flatten().long().tolist()
        return self.drop(self.l1(x / 100))


golden["order"] = {}
numbers = torch.arange(100.0)[:, None]
for name, with_validation in [("alone", False), ("with_validation", True)]:
    torch.manual_seed(3)
    model = Numbers()
    held = DataLoader(TensorDataset(numbers, torch.zeros(100, dtype=torch.long)), batch_size=8)
    data = DataLoader(TensorDataset(numbers, torch.zeros(100, dtype=torch.long)), batch_size=8, shuffle=True)

    def look():
        model.eval()
        for a, _ in held:
            model(a)

    train(model, torch.optim.SGD(model.parameters(), lr=0.0), data, 3, each_epoch=look if with_validation else None)
    golden["order"][name] = model.seen


# ---- row 8: schedules --------------------------------------------------------------------------------------------------

SCHEDULES = {
    "step": lambda o: schedulers.StepLR(o, 7, gamma=0.3),
    "multi_step": lambda o: schedulers.MultiStepLR(o, [5, 20, 20, 41], gamma=0.5),
    "exponential": lambda o: schedulers.ExponentialLR(o, 0.93),
    "linear": lambda o: schedulers.LinearLR(o, total_iters=12),
    "linear_down": lambda o: schedulers.LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=40),
    "polynomial": lambda o: schedulers.PolynomialLR(o, total_iters=50, power=2.0),
    "cosine": lambda o: schedulers.CosineAnnealingLR(o, 25, eta_min=0.001),
    "cosine_whole": lambda o: schedulers.CosineAnnealingLR(o, 60),
    "warm_restarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 10, eta_min=0.01),
    "warm_restarts_longer": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 5, T_mult=2),
    "one_cycle": lambda o: schedulers.OneCycleLR(o, 0.7, total_steps=60),
    "one_cycle_three": lambda o: schedulers.OneCycleLR(
        o, 0.7, total_steps=60, three_phase=True, anneal_strategy="linear", pct_start=0.4, div_factor=10
    ),
    "lambda": lambda o: schedulers.LambdaLR(o, lambda t: 1 / (t + 1)),
    "sequential": lambda o: schedulers.SequentialLR(
        o,
        [
            schedulers.LinearLR(o, start_factor=0.1, total_iters=10),
            schedulers.CosineAnnealingLR(o, 30),
            schedulers.ExponentialLR(o, 0.8),
        ],
        [10, 40],
    ),
}


def fresh():
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3, momentum=0.9)


def rates(make, momentum=False):
    optimizer = fresh()
    schedule = make(optimizer)
    rates = []
    for _ in range(60):
        group = optimizer.param_groups[0]
        rates.append(group["momentum" if momentum else "lr"])
        optimizer.step()
        if len(rates) < 60:
            schedule.step()
    return rates


golden["schedules"] = {name: rates(make) for name, make in SCHEDULES.items()}
golden["momentum"] = {name: rates(SCHEDULES[name], True) for name in ["one_cycle", "one_cycle_three"]}

PLATEAUS = {
    "min": dict(patience=2),
    "max": dict(mode="max", factor=0.5, patience=1, threshold=0.05, threshold_mode="abs", cooldown=2, min_lr=0.05),
}
values = [round(1 / (1 + min(t, 6)) + 0.02 * math.sin(1.7 * t), 6) for t in range(40)]
golden["plateau"] = {"values": values}
for name, settings in PLATEAUS.items():
    optimizer = fresh()
    schedule = schedulers.ReduceLROnPlateau(optimizer, **settings)
    rates = []
    for value in values:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step(value)
    golden["plateau"][name] = rates


# ---- row 3: layers -----------------------------------------------------------------------------------------------------

LAYERS = {
    "linear": (lambda: nn.Linear(4, 3), (2, 4)),
    "linear_no_bias": (lambda: nn.Linear(4, 3, bias=False), (2, 4)),
    "conv1d": (lambda: nn.Conv1d(2, 3, 3, padding=1, stride=2), (2, 2, 8)),
    "conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), groups=2, dilation=(1, 2)), (2, 4, 6, 6)),
    "conv3d": (lambda: nn.Conv3d(1, 2, 2, bias=False), (1, 1, 3, 4, 5)),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(3, 2, 4, stride=2, padding=1), (2, 3, 5)),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1, groups=2), (1, 4, 3, 3)),
    "batch_norm1d": (lambda: nn.BatchNorm1d(3), (6, 3)),
    "batch_norm2d": (lambda: nn.BatchNorm2d(3, momentum=0.3), (2, 3, 4, 4)),
    "layer_norm": (lambda: nn.LayerNorm([3, 4]), (2, 3, 4)),
    "group_norm": (lambda: nn.GroupNorm(2, 4), (2, 4, 3)),
    "embedding": (lambda: nn.Embedding(5, 3, padding_idx=1), None),
    "dropout": (lambda: nn.Dropout(0.3), (4, 5)),
    "rnn": (lambda: nn.RNN(3, 4, bidirectional=True), (5, 2, 3)),
    "lstm": (lambda: nn.LSTM(3, 4, num_layers=2, batch_first=True, dropout=0.2), (2, 5, 3)),
    "gru": (lambda: nn.GRU(3, 4, bias=False), (5, 2, 3)),
    "attention": (lambda: nn.MultiheadAttention(8, 2), (5, 2, 8)),
    "encoder_layer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 12, activation="gelu", batch_first=True, norm_first=True),
        (2, 5, 8),
    ),
    "encoder": (
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 12), 2, norm=nn.LayerNorm(8), enable_nested_tensor=False
        ),
        (5, 2, 8),
    ),
    "max_pool2d": (lambda: nn.MaxPool2d(3, stride=2, padding=1), (1, 2, 7, 6)),
    "avg_pool2d": (lambda: nn.AvgPool2d(2), (1, 2, 6, 6)),
    "adaptive_avg_pool2d": (lambda: nn.AdaptiveAvgPool2d(3), (1, 2, 7, 5)),
    "sequential": (lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)), (3, 4)),
}
tensors = {}
golden["layers"] = {}
for name, (make, shape) in LAYERS.items():
    torch.manual_seed(11)
    layer = make()
    golden["layers"][name] = {
        "parameters": [name for name, _ in layer.named_parameters()],
        "state_dict": sorted(layer.state_dict()),
    }
    for key, tensor in layer.state_dict().items():
        tensors[f"{name}/{key}"] = tensor.clone()
    torch.manual_seed(7)
    x = torch.tensor([[0, 1], [4, 2]]) if shape is None else torch.randn(shape)
    for mode in [True, False]:
        # Training draws on from here: masks of dropout are compared too.
        layer.train(mode)
        out = layer(x, x, x, need_weights=False) if name == "attention" else layer(x)
        out = out[0] if isinstance(out, tuple) else out
        tensors[f"{name}>{'train' if mode else 'eval'}"] = out.detach().contiguous().clone()
    for key, tensor in layer.named_buffers():
        tensors[f"{name}>{key}"] = tensor.clone()
save_file(tensors, "layers.safetensors")

# ---- row 15: mixed and other precisions; row 16: the scaler ------------------------------------------------------------

# Every use of a weight casts it anew, as in Lightning.
PRECISIONS = {
    "bf16_mixed": (torch.float32, dict(dtype=torch.bfloat16, cache_enabled=False)),
    "bf16_true": (torch.bfloat16, dict(enabled=False)),
    "f16_true": (torch.float16, dict(enabled=False)),
    "f64_true": (torch.float64, dict(enabled=False)),
}


def train_in(dtype, autocast, optimizer):
    """As `train`, with the model and its inputs of one type, and forward passes under autocast."""
    torch.manual_seed(42)
    model = network(20, 32, 4).to(dtype)
    optimizer = OPTIMIZERS[optimizer](model.parameters())
    # As on CUDA by default. On the CPU PyTorch steps one tensor at a time, which rounds otherwise in shorter types.
    optimizer.param_groups[0]["foreach"] = True
    losses = []
    for _ in range(3):
        for a, b in loader:
            optimizer.zero_grad()
            with torch.autocast("cpu", **autocast):
                loss = nn.functional.cross_entropy(model(a.to(dtype)), b)
            losses.append(loss.item())
            loss.backward()
            optimizer.step()
    return model, losses


x, y = samples(256, 20, 4)
loader = DataLoader(TensorDataset(x, y), batch_size=16)
golden["precision"] = {}
weights = {}
for name, (dtype, autocast) in PRECISIONS.items():
    for optimizer in ["sgd", "adam"]:
        if (name, optimizer) == ("f16_true", "adam"):
            continue  # eps is 0 in float16: not a number after a few steps
        model, losses = train_in(dtype, autocast, optimizer)
        golden["precision"][f"{name}_{optimizer}"] = losses
        weights |= named(f"{name}_{optimizer}", model)

SCALERS = {
    "defaults": (dict(), None),
    "growing": (dict(init_scale=1024.0, growth_interval=4, growth_factor=4.0, backoff_factor=0.25), 0.05),
}
golden["scaler"] = {}
for name, (settings, clip) in SCALERS.items():
    torch.manual_seed(42)
    model = network(20, 32, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = schedulers.StepLR(optimizer, 3, gamma=0.5)
    scaler = torch.amp.GradScaler("cpu", **settings)
    trace = []
    for step, (a, b) in enumerate(loader):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16, cache_enabled=False):
            loss = nn.functional.cross_entropy(model(a), b)
            if step == 5:
                # Scaled, it is infinite.
                loss = loss * 1e35
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        before = scaler.get_scale()
        rate = optimizer.param_groups[0]["lr"]
        scaler.step(optimizer)
        scaler.update()
        skipped = scaler.get_scale() < before
        if not skipped:
            schedule.step()
        trace.append({"loss": loss.item(), "lr": rate, "scale": scaler.get_scale(), "skipped": skipped})
    golden["scaler"][name] = trace
    weights |= named(f"scaler_{name}", model)
save_file(weights, "precision.safetensors")

with open("golden.json", "w") as file:
    json.dump(golden, file, indent=0, sort_keys=True)
    file.write("\n")
