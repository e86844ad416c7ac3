"""Executes a notebook with its progress on the terminal: python run.py NOTEBOOK OUT FOLDER.

Exit status: 0, 1 when a cell failed, 3 when the notebook could not be run, 130 after Ctrl-C. OUT is written after each cell.
"""
import os
import re
import shutil
import sys
import time

# jsonschema checks internationalised addresses by a grammar that it compiles when it is imported, 2.5 s; see execute.py.
sys.modules.setdefault("rfc3987_syntax", None)

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

source, target, folder = map(os.path.abspath, sys.argv[1:4])
notebook = nbformat.read(source, as_version=4)
total = sum(cell.cell_type == "code" for cell in notebook.cells)
count = 0
terminal = sys.stdout.isatty()


def write():
    """Beside its place, then in it: a run that is killed leaves a whole file."""
    beside = f"{target}.partial-{os.getpid()}"
    nbformat.write(notebook, beside)
    os.replace(beside, target)


class Screen:
    """What cells print, indented, and one line that changes in place for what is live."""

    def __init__(self):
        self.live = ""
        self.column = 0
        self.said = 0.0

    def text(self, text):
        self.settle()
        for part in text.splitlines(keepends=True):
            sys.stdout.write(part if self.column else "    " + part)
            self.column = 0 if part.endswith("\n") else self.column + len(part)
        sys.stdout.flush()

    def block(self, text):
        self.end_line()
        self.text(text.rstrip("\n") + "\n")

    def end_line(self):
        if self.column:
            sys.stdout.write("\n")
            self.column = 0

    def run(self, line, done):
        """The line of a run: in place on a terminal, else now and then."""
        self.end_line()
        if terminal:
            width = shutil.get_terminal_size().columns - 5
            sys.stdout.write("\r\x1b[K    " + line[:width])
            self.live = line
        elif done or time.monotonic() - self.said > 10:
            self.said = time.monotonic()
            sys.stdout.write(f"    {line}\n")
        sys.stdout.flush()

    def settle(self):
        if self.live:
            sys.stdout.write("\n")
            self.live = ""


screen = Screen()
BAR = re.compile(r"^\[[█·]+\] .*$", re.M)


class Client(NotebookClient):
    def process_message(self, msg, cell, cell_index):
        kind, content = msg["msg_type"], msg["content"]
        if kind == "stream":
            screen.text(content["text"])
        elif kind in ("display_data", "update_display_data", "execute_result"):
            text = content["data"].get("text/plain", "")
            bar = BAR.search(text)
            if bar:
                over = re.search(r"\] (done|stopped|failed)", bar[0]) is not None
                screen.run(bar[0], over)
                if over:
                    screen.settle()
            elif kind != "update_display_data":
                screen.block(text)
        return super().process_message(msg, cell, cell_index)


def begun(cell, cell_index, **_):
    global count
    if cell.cell_type == "code" and cell.source.strip():
        count += 1
        first = cell.source.strip().splitlines()[0]
        screen.settle()
        screen.end_line()
        print(f"[{count}/{total}] {first[:70]}", flush=True)


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


client = Client(
    notebook,
    kernel_name=notebook.metadata.get("kernelspec", {}).get("name", "lightcell"),
    timeout=None,
    startup_timeout=120,
    on_cell_start=begun,
    on_cell_complete=lambda **_: write(),
    resources={"metadata": {"path": folder}},
)
status = 0
try:
    client.execute()
except KeyboardInterrupt:
    status = 130
except CellExecutionError as error:
    screen.settle()
    screen.end_line()
    print(failure() or readable(str(error)), file=sys.stderr)
    status = 1
except DeadKernelError:
    print("the kernel ended while it ran the notebook", file=sys.stderr)
    status = 1
except Exception as error:  # no kernel of that name, no answer in time: whatever it is, one line
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    status = 3
screen.settle()
screen.end_line()
write()
if status:
    print(f"(cell {count} of {total})", file=sys.stderr)
sys.exit(status)
