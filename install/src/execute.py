"""Executes a notebook: python execute.py IN OUT. Says each cell; a cell that fails ends it with status 1."""
import os
import re
import sys

# jsonschema's check of internationalised addresses, which no notebook needs, compiles its grammar when it is imported: 2.5
# of the 3 seconds that the imports below took. It is optional there: what cannot be imported is left out.
sys.modules.setdefault("rfc3987_syntax", None)

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

source, target = map(os.path.abspath, sys.argv[1:3])
notebook = nbformat.read(source, as_version=4)
total = sum(cell.cell_type == "code" for cell in notebook.cells)
count = 0


def begun(cell, cell_index, **_):
    global count
    if cell.cell_type == "code" and cell.source.strip():
        count += 1
        first = cell.source.strip().splitlines()[0]
        print(f"  [{count}/{total}] {first[:70]}", flush=True)


def readable(text):
    return text if sys.stderr.isatty() else re.sub(r"\x1b\[[0-9;]*m", "", text)


def failure():
    """The error of the cell that failed, as the kernel told it."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                first = f"{output.ename}: {output.evalue}"
                rest = "\n".join(output.traceback)
                return readable(rest if output.evalue and output.evalue in rest else f"{first}\n{rest}")
    return None


client = NotebookClient(
    notebook,
    kernel_name=notebook.metadata.get("kernelspec", {}).get("name", "lightcell"),
    timeout=900,
    startup_timeout=120,
    on_cell_start=begun,
    resources={"metadata": {"path": os.path.dirname(source)}},
)
status = 0
try:
    client.execute()
except CellExecutionError as error:
    print(failure() or readable(str(error)), file=sys.stderr)
    status = 1
except DeadKernelError:
    print("the kernel ended while it ran the notebook", file=sys.stderr)
    status = 1
except Exception as error:  # no kernel of that name, no answer in time: whatever it is, one line
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    status = 1
nbformat.write(notebook, target)
sys.exit(status)
