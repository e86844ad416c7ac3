"""Measures kernels side by side for the program `bench`: one JSON object of settings in, progress and tables out.

All kernels of a comparison are measured in turns within one run, so that what the machine does besides hits all alike.
"""
import json
import os
import queue
import statistics
import sys
import time

from jupyter_client.manager import KernelManager

LIMIT = 900
SPEC = json.load(sys.stdin)


class Kernel:
    """A started kernel: `info` and `first` are the seconds from start to its kernel_info reply and to its first result."""

    def __init__(self, name, first=None):
        self.name = name
        self.manager = KernelManager(kernel_name=name)
        begin = time.perf_counter()
        self.manager.start_kernel(env={**os.environ, **SPEC["env"].get(name, {})})
        self.client = self.manager.client()
        self.client.start_channels()
        # A request that is sent before the kernel has bound its ports waits in the socket: no polling, no lost time.
        wanted = self.client.kernel_info()
        while self.client.get_shell_msg(timeout=LIMIT)["parent_header"].get("msg_id") != wanted:
            pass
        self.info = time.perf_counter() - begin
        self.client.wait_for_ready(timeout=LIMIT)
        if first is not None:
            for code in first:
                self.run(code)
            self.first = time.perf_counter() - begin

    def run(self, code):
        """Seconds from the request to its idle; fails when the cell does."""
        begin = time.perf_counter()
        request = self.client.execute(code)
        error = None
        while True:
            message = self.client.get_iopub_msg(timeout=LIMIT)
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "error":
                error = content["evalue"]
            if kind == "status" and content["execution_state"] == "idle":
                took = time.perf_counter() - begin
                break
        while self.client.get_shell_msg(timeout=LIMIT)["parent_header"].get("msg_id") != request:
            pass
        if error:
            raise SystemExit(f"{self.name}: {code[:60]!r}: {error[:300]}")
        return took

    def memory(self):
        """MB of memory of the kernel and all below it that no other process shares."""
        pids, total = [self.manager.provisioner.pid], 0
        for pid in pids:
            try:
                with open(f"/proc/{pid}/smaps_rollup") as file:
                    total += sum(int(l.split()[1]) for l in file if l.startswith(("Pss:",)))
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/children") as file:
                        pids.extend(int(child) for child in file.read().split())
            except OSError:
                pass
        return total / 1024

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=False)


def show(title, unit, samples):
    """A table: each kernel's median, our median against it, and its samples."""
    samples = {name: values for name, values in samples.items() if values}
    middle = {name: statistics.median(values) for name, values in samples.items()}
    print(f"\n{title} [{unit}]")
    for name, values in samples.items():
        ratio = f"{middle[SPEC['ours']] / middle[name]:.2f}" if name != SPEC["ours"] else ""
        raw = " ".join(f"{value:.3g}" for value in values)
        print(f"  {name:22} median {middle[name]:9.3f}   ours/it {ratio:5}   raw {raw}")
    sys.stdout.flush()


def starts(names):
    info, first = {name: [] for name in names}, {name: [] for name in names}
    for _ in range(SPEC["rounds"]):
        for name in names:
            kernel = Kernel(name, ["1+1"])
            info[name].append(kernel.info)
            first[name].append(kernel.first)
            kernel.close()
    show("start to the kernel_info reply", "s", info)
    show("start to the first result, 1+1", "s", first)


def tch(names):
    took = {}
    for name in names:
        if name in SPEC["tch"]:
            kernel = Kernel(name, SPEC["tch"][name])
            took[name] = [kernel.first]
            kernel.close()
    show("start to the first result of a tensor", "s", took)


def lines(names):
    took = {name: [] for name in names}
    kernels = {name: Kernel(name, ["1+1"]) for name in names}
    for _ in range(SPEC["rounds"]):
        for name, kernel in kernels.items():
            took[name].append(kernel.run(SPEC["lines"]["python" if name == "ipykernel" else "rust"]))
    for kernel in kernels.values():
        kernel.close()
    show("200,000 printed lines", "s", took)


def cells(names):
    """Warm cells in turns; each text differs from the last one, so that nothing is answered from a cache."""
    kernels = {name: Kernel(name, SPEC["warm"].get(name, ["1+1"])) for name in names}
    fresh = {name: kernel.memory() for name, kernel in kernels.items()}
    for title, code in SPEC["cells"]:
        took = {name: [] for name in names}
        for turn in range(SPEC["repeat"] + 1):
            for name, kernel in kernels.items():
                seconds = kernel.run(code.replace("@", str(turn)))
                if turn > 0:
                    took[name].append(seconds * 1000)
        show(f"cell: {title}", "ms", took)
    for count in range(SPEC["many"]):
        for kernel in kernels.values():
            kernel.run(f"let many = {count}; many + 1")
        if count in (199, 499):
            took = {name: [kernel.run(f"let more{turn} = {turn};") * 1000 for turn in range(5)] for name, kernel in kernels.items()}
            show(f"cell: a `let` after {count + 1} cells", "ms", took)
    show("memory of kernel and worker, first result", "MB", {k: [v] for k, v in fresh.items()})
    show("memory after all these cells", "MB", {name: [kernel.memory()] for name, kernel in kernels.items()})
    for kernel in kernels.values():
        kernel.close()


for step in SPEC["steps"]:
    {"starts": starts, "tch": tch, "lines": lines, "cells": cells}[step](SPEC["kernels"][step])
