"""Runs a small notebook many times with nbclient, each time in a new kernel, and counts what is missing in its outputs.

By hand, with the environment of the tests (see main.rs): python tests/bench/nbclient_runs.py [RUNS] [SIDE BY SIDE]
"""
import collections
import concurrent.futures
import sys
import time

import nbformat
from nbclient import NotebookClient

LINES = 300
CELLS = [
    f'for i in 0..{LINES} {{ println!("out {{i}}"); eprintln!("err {{i}}"); }}',
    "for i in 0..20 { display(&i); }",
    'std::thread::scope(|s| { for t in 0..4 { s.spawn(move || for i in 0..50 { println!("{t} {i}"); }); } });',
    f'for i in 0..{LINES} {{ print!("{{i}} "); }}\n6 * 7',
]


def run(_):
    """What is missing or wrong in one run; empty when nothing is."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in CELLS])
    NotebookClient(notebook, kernel_name="lightcell", timeout=300).execute()
    text = [collections.Counter() for _ in CELLS]
    shown, results = 0, []
    for number, cell in enumerate(notebook.cells):
        for output in cell.outputs:
            if output.output_type == "stream":
                text[number][output.name] = text[number][output.name] or ""
                text[number][output.name] += output.text
            elif output.output_type == "display_data":
                shown += 1
            else:
                results.append(output.data["text/plain"])
    wrong = []
    for name, word in [("stdout", "out"), ("stderr", "err")]:
        if text[0][name] != "".join(f"{word} {i}\n" for i in range(LINES)):
            wrong.append(f"{name} of the first cell: {len(text[0][name].splitlines())} lines")
    if shown != 20:
        wrong.append(f"{shown} displays")
    threads = sorted(text[2]["stdout"].splitlines())
    if threads != sorted(f"{t} {i}" for t in range(4) for i in range(50)):
        wrong.append(f"{len(threads)} lines of threads")
    if text[3]["stdout"] != "".join(f"{i} " for i in range(LINES)) or results != ["42"]:
        wrong.append(f"the last cell: {results}")
    return wrong


def main():
    runs, beside = [int(arg) for arg in (sys.argv[1:] + ["200", "2"][len(sys.argv) - 1 :])]
    begun, failed = time.monotonic(), []
    with concurrent.futures.ThreadPoolExecutor(beside) as pool:
        for number, wrong in enumerate(pool.map(run, range(runs)), 1):
            if wrong:
                failed.append(wrong)
                print(f"run {number}: {wrong}", flush=True)
            elif number % 20 == 0:
                print(f"{number} runs, {len(failed)} with something missing", flush=True)
    print(f"{runs} runs in {time.monotonic() - begun:.0f} s, {len(failed)} with something missing")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
