"""Both directions with random weights: `check.py make FOLDER` writes PyTorch's, `check.py verify FOLDER` reads ours, and runs
the exported graphs with onnxruntime and a batch of another size. Needs torch, torchvision, safetensors, onnx, onnxruntime."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import torch
from reference import MODELS
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)
what, folder = sys.argv[1:]


def random_input(shape, tokens):
    return torch.randint(tokens, shape) if tokens else torch.randn(shape)


if what == "make":
    torch.manual_seed(5)
    for name, (make, shape, tokens) in MODELS.items():
        model = make().train()
        with torch.no_grad():
            # Not what a model begins with: a vision transformer's last layer is zero, and all running means are.
            for _ in range(2):
                model(random_input([4] + shape[1:], tokens))
            for parameter in model.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
            model.eval()
            x = random_input(shape, tokens)
            y = model(x)
        save_file(model.state_dict(), f"{folder}/{name}.safetensors")
        torch.save(model.state_dict(), f"{folder}/{name}.pt")
        save_file({"x": x, "y": y.contiguous()}, f"{folder}/{name}.xy.safetensors")
else:
    seen = {}
    for name, (make, shape, tokens) in MODELS.items():
        model = make().eval()
        apart = {}
        ours = load_file(f"{folder}/{name}.ours.xy.safetensors")
        for kind in ["safetensors", "pt"]:
            path = f"{folder}/{name}.ours.{kind}"
            weights = load_file(path) if kind == "safetensors" else torch.load(path, weights_only=True)
            model.load_state_dict(weights, strict=True)
            with torch.no_grad():
                apart[kind] = (model(ours["x"]) - ours["y"]).abs().max().item()
        graph = onnx.load(f"{folder}/{name}.ours.onnx")
        onnx.checker.check_model(graph, full_check=True)
        session = onnxruntime.InferenceSession(f"{folder}/{name}.ours.onnx", providers=["CPUExecutionProvider"])
        apart["onnx"] = float(np.abs(session.run(["y"], {"x": ours["x"].numpy()})[0] - ours["y"].numpy()).max())
        x = random_input([3] + shape[1:], tokens)
        with torch.no_grad():
            y = model(x).numpy()
        apart["onnx_batch_of_3"] = float(np.abs(session.run(["y"], {"x": x.numpy()})[0] - y).max())
        seen[name] = apart
    print(json.dumps(seen))
