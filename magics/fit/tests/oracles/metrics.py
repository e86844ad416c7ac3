"""What scikit-learn, torchmetrics and torchvision compute, for `metrics.rs` and `transforms.rs` to compare with.

    python -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python metrics.py

writes `metrics.json` and `transforms.safetensors` into this folder, or the one that LIGHTCELL_ORACLES names. Scores are rounded, so that there are ties; one class has
no sample. Where scikit-learn and torchmetrics both know a metric, they are checked against each other here.
"""

import json
import os
import warnings

import numpy as np
import torch
import torchmetrics.functional as tm
from safetensors.torch import save_file
from sklearn import metrics as sk
from sklearn.model_selection import KFold, StratifiedKFold
from torchvision.transforms import v2

os.chdir(os.environ.get("LIGHTCELL_ORACLES") or os.path.dirname(os.path.abspath(__file__)))
warnings.filterwarnings("ignore")
random = np.random.default_rng(7)
golden = {}


def same(a, b, tolerance=1e-6):
    assert abs(float(a) - float(b)) < tolerance, (a, b)
    return float(b)


# ---- one of five classes, of which the fourth has no sample ----------------------------------------------------------

n, classes = 60, 5
target = random.choice([0, 1, 2, 4], n, p=[0.4, 0.3, 0.2, 0.1])
logits = random.normal(size=(n, classes)).round(1) + 1.5 * np.eye(classes)[target] * (random.random((n, 1)) < 0.7)
logits[:, 3] -= 0.5
scores = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
p, t = torch.tensor(scores), torch.tensor(target)
multi = {"scores": scores.tolist(), "target": target.tolist()}
# Scores to the float32's last bit: JSON holds them as doubles.
averages = ["micro", "macro", "weighted"]
best = scores.argmax(1)
for average in averages:
    multi[f"accuracy_{average}"] = float(tm.accuracy(p, t, "multiclass", num_classes=classes, average=average))
    multi[f"accuracy_top2_{average}"] = float(
        tm.accuracy(p, t, "multiclass", num_classes=classes, average=average, top_k=2)
    )
    multi[f"precision_{average}"] = same(
        sk.precision_score(target, best, average=average, zero_division=0),
        tm.precision(p, t, "multiclass", num_classes=classes, average=average),
    )
    multi[f"recall_{average}"] = float(tm.recall(p, t, "multiclass", num_classes=classes, average=average))
    multi[f"f1_{average}"] = same(
        sk.f1_score(target, best, average=average, zero_division=0),
        tm.f1_score(p, t, "multiclass", num_classes=classes, average=average),
    )
same(sk.accuracy_score(target, best), multi["accuracy_micro"])
same(sk.top_k_accuracy_score(target, scores, k=2, labels=range(classes)), multi["accuracy_top2_micro"])
multi["precision_classes"] = sk.precision_score(target, best, average=None, labels=range(classes), zero_division=0).tolist()
multi["recall_ignore_0"] = float(
    tm.recall(p, t, "multiclass", num_classes=classes, average="macro", ignore_index=0)
)
multi["confusion"] = sk.confusion_matrix(target, best, labels=range(classes)).tolist()
multi["confusion_true"] = np.nan_to_num(
    sk.confusion_matrix(target, best, labels=range(classes), normalize="true")
).tolist()
for norm in ["l1", "l2", "max"]:
    multi[f"calibration_{norm}"] = float(tm.calibration_error(p, t, "multiclass", num_classes=classes, norm=norm))
there = [c for c in range(classes) if (target == c).any()]
for name, of in [("auroc", sk.roc_auc_score), ("average_precision", sk.average_precision_score)]:
    values = [float(of(target == c, scores[:, c])) for c in there]
    counts = [int((target == c).sum()) for c in there]
    multi[f"{name}_classes"] = [values[there.index(c)] if c in there else None for c in range(classes)]
    multi[f"{name}_macro"] = float(np.mean(values))
    multi[f"{name}_weighted"] = float(np.average(values, weights=counts))
golden["multiclass"] = multi

# ---- yes and no ------------------------------------------------------------------------------------------------------

target = (random.random(80) < 0.35).astype(int)
scores = np.clip(random.random(80) * 0.7 + 0.25 * target, 0, 1).round(1).astype(np.float32)
p, t = torch.tensor(scores), torch.tensor(target)
binary = {"scores": scores.tolist(), "target": target.tolist()}
yes = scores > 0.5
binary["accuracy"] = same(sk.accuracy_score(target, yes), tm.accuracy(p, t, "binary"))
binary["precision"] = same(sk.precision_score(target, yes), tm.precision(p, t, "binary"))
binary["recall"] = same(sk.recall_score(target, yes), tm.recall(p, t, "binary"))
binary["f1"] = same(sk.f1_score(target, yes), tm.f1_score(p, t, "binary"))
binary["f1_threshold"] = float(tm.f1_score(p, t, "binary", threshold=0.3))
binary["auroc"] = same(tm.auroc(p, t, "binary"), sk.roc_auc_score(target, scores))
binary["average_precision"] = same(tm.average_precision(p, t, "binary"), sk.average_precision_score(target, scores))
binary["confusion"] = sk.confusion_matrix(target, yes).tolist()
for norm in ["l1", "l2", "max"]:
    binary[f"calibration_{norm}"] = float(tm.calibration_error(p, t, "binary", norm=norm, n_bins=10))
golden["binary"] = binary

# ---- numbers and tokens ----------------------------------------------------------------------------------------------

target = random.normal(size=(50, 2)) * [1, 30] + [0, 2000]
preds = target + random.normal(size=(50, 2)) * [0.3, 20]
golden["regression"] = {
    "preds": preds.tolist(),
    "target": target.tolist(),
    "mse": float(sk.mean_squared_error(target.ravel(), preds.ravel())),
    "rmse": float(sk.root_mean_squared_error(target.ravel(), preds.ravel())),
    "mae": float(sk.mean_absolute_error(target.ravel(), preds.ravel())),
    "r2": float(sk.r2_score(target, preds)),
    "r2_first": float(sk.r2_score(target[:, 0], preds[:, 0])),
}
logits = torch.tensor(random.normal(size=(4, 6, 7)).round(3), dtype=torch.float32)
tokens = torch.tensor(random.integers(0, 7, (4, 6)))
golden["perplexity"] = {
    "logits": logits.double().numpy().round(3).tolist(),
    "tokens": tokens.tolist(),
    "all": float(tm.text.perplexity(logits, tokens)),
    "without_0": float(tm.text.perplexity(logits, tokens, ignore_index=0)),
}

# ---- folds -----------------------------------------------------------------------------------------------------------

labels = random.choice([5, 2, 9], 53, p=[0.5, 0.3, 0.2])
golden["folds"] = {
    "labels": labels.tolist(),
    "kfold": [test.tolist() for _, test in KFold(4).split(labels)],
    "stratified": [test.tolist() for _, test in StratifiedKFold(4).split(labels, labels)],
}

with open("metrics.json", "w") as file:
    json.dump(golden, file)
    file.write("\n")

# ---- images ----------------------------------------------------------------------------------------------------------

torch.manual_seed(7)
# Smooth, with an edge: what resizing does shows.
y, x = torch.meshgrid(torch.arange(37.0), torch.arange(50.0), indexing="ij")
image = torch.stack([x * 5, y * 6, ((x // 7 + y // 5) % 2) * 255]).to(torch.uint8)
floats = image / 255
images = {
    "image": image,
    "resize_24": v2.functional.resize(image, [24], antialias=True),
    "resize_60x20": v2.functional.resize(floats, [60, 20], antialias=True),
    "center_crop_20": v2.functional.center_crop(image, [20, 20]),
    "center_crop_44": v2.functional.center_crop(image, [44, 44]),
    "flip": v2.functional.horizontal_flip(image),
    "normalize": v2.functional.normalize(floats, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "brightness": v2.functional.adjust_brightness(floats, 1.3),
    "contrast": v2.functional.adjust_contrast(floats, 0.6),
    "saturation": v2.functional.adjust_saturation(floats, 1.7),
    "hue": v2.functional.adjust_hue(floats, -0.2),
    "brightness_u8": v2.functional.adjust_brightness(image, 1.3),
}
save_file({name: tensor.contiguous() for name, tensor in images.items()}, "transforms.safetensors")
