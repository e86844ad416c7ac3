"""Executes a notebook: python execute.py IN OUT. Says each cell; a cell that fails ends it with status 1."""
import os
import sys

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

source, target = sys.argv[1:3]
notebook = nbformat.read(source, as_version=4)
total = sum(cell.cell_type == "code" for cell in notebook.cells)
count = 0


def begun(cell, cell_index, **_):
    global count
    if cell.cell_type == "code" and cell.source.strip():
        count += 1
        first = cell.source.strip().splitlines()[0]
        print(f"  [{count}/{total}] {first[:70]}", flush=True)


client = NotebookClient(
    notebook,
    kernel_name=notebook.metadata.get("kernelspec", {}).get("name", "lightcell"),
    timeout=900,
    startup_timeout=120,
    on_cell_start=begun,
    resources={"metadata": {"path": os.path.dirname(os.path.abspath(source))}},
)
status = 0
try:
    client.execute()
except CellExecutionError as error:
    print(str(error), file=sys.stderr)
    status = 1
except (DeadKernelError, RuntimeError, TimeoutError) as error:
    print(f"the kernel failed: {error}", file=sys.stderr)
    status = 1
nbformat.write(notebook, target)
sys.exit(status)
