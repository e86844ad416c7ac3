"""Makes all files with the numbers of PyTorch, Lightning, TensorBoard and scikit-learn anew, and says how far they are
from those here.

    python all.py FOLDER

writes them into FOLDER; the environment variable LIGHTCELL_ORACLES lets the tests read them there. `cargo selftest --full`
does so with the versions named in `requirements.txt`. Ends with 1 when they differ by more than another processor's
rounding: in a name, a text or a length, or a number by more than a hundredth (bfloat16: a twentieth).
"""

import json
import math
import os
import subprocess
import sys
import time

from safetensors import safe_open

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPTS = ["make.py", "lightning.py", "callbacks.py", "boards.py", "tuner.py", "metrics.py"]


def apart(ours, theirs, at=""):
    """Yields the differences of two trees: a number, or what is not alike."""
    number = lambda value: isinstance(value, (int, float)) and not isinstance(value, bool)
    if number(ours) and number(theirs):
        if ours == theirs or math.isnan(ours) and math.isnan(theirs):
            yield 0.0, at
        else:
            yield abs(ours - theirs) / max(abs(theirs), 1.0), at
    elif type(ours) is not type(theirs):
        yield math.inf, at
    elif isinstance(ours, dict):
        if ours.keys() != theirs.keys():
            yield math.inf, at
        for key in ours.keys() & theirs.keys():
            yield from apart(ours[key], theirs[key], f"{at}/{key}")
    elif isinstance(ours, list):
        if len(ours) != len(theirs):
            yield math.inf, at
        for index, (one, other) in enumerate(zip(ours, theirs)):
            yield from apart(one, other, f"{at}/{index}")
    else:
        yield (0.0 if ours == theirs else math.inf), at


def read(path):
    if path.endswith(".json"):
        with open(path) as file:
            return json.load(file)
    with safe_open(path, "pt") as tensors:
        return {name: tensors.get_tensor(name).double().tolist() for name in tensors.keys()}


def main():
    folder = os.path.abspath(sys.argv[1])
    os.makedirs(folder, exist_ok=True)
    environment = dict(os.environ, LIGHTCELL_ORACLES=folder, OMP_NUM_THREADS="1")
    for script in SCRIPTS:
        begun = time.monotonic()
        command = [sys.executable, os.path.join(HERE, script)]
        done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"{script} failed:\n{done.stderr}")
        print(f"{script}: {time.monotonic() - begun:.1f} s", flush=True)
    failed = False
    for name in sorted(os.listdir(HERE)):
        if not name.endswith((".json", ".safetensors")):
            continue
        differences = list(apart(read(os.path.join(folder, name)), read(os.path.join(HERE, name))))
        worst, at = max(differences)
        wrong = worst > (0.05 if "bf16" in at or "precision" in name else 0.01)
        failed |= wrong
        word = "differs at" if wrong else "largest difference at" if worst else ""
        equal = sum(difference == 0.0 for difference, _ in differences)
        print(f"{name:<24} {equal} of {len(differences)} values equal, {worst:.1e} {word} {at if worst else ''}".rstrip())
    sys.exit(failed)


if __name__ == "__main__":
    main()
