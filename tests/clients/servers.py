"""The ways to a kernel elsewhere that need nothing of Lightcell between the machines, as docs/remote.md names them.

    servers.py SSH_CONFIG FOLDER

At the other end of ssh runs JupyterLab; its port is brought here by ssh. Cells run in it directly, and through a server
here that has it as its gateway. What each way gave is printed as JSON.
"""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid

import websocket

LIMIT, TOKEN = 240, "lightcell-tests"


class Server:
    """A command that says on standard error where it serves."""

    def __init__(self, command, **more):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
        self.pid = None
        self.port = None
        self.seen = []
        ready = threading.Event()
        threading.Thread(target=self.read, args=(ready,), daemon=True).start()
        if not ready.wait(LIMIT) or self.port is None:
            raise RuntimeError("no server:\n" + "".join(self.seen))

    def read(self, ready):
        # To the end: a server whose log nobody reads would come to a stop.
        for line in self.process.stdout:
            self.seen.append(line)
            if found := re.match(r"PID (\d+)", line):
                self.pid = int(found[1])
            if found := re.search(r"http://(?:localhost|127\.0\.0\.1):(\d+)/", line):
                self.port = int(found[1])
                ready.set()
        ready.set()

    def end(self):
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)
        else:
            self.process.terminate()
        self.process.wait(LIMIT)


class Kernel:
    """As JupyterLab's page has it: by HTTP and a websocket."""

    def __init__(self, port):
        self.at = f"127.0.0.1:{port}/api"
        end = time.monotonic() + LIMIT
        while True:
            try:
                self.names = list(self.ask("GET", "kernelspecs")["kernelspecs"])
                break
            except OSError:
                # A server names its port a moment before it listens.
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        self.id = self.ask("POST", "kernels", {"name": "lightcell"})["id"]
        self.session = uuid.uuid4().hex
        self.open()

    def ask(self, method, path, body=None):
        request = urllib.request.Request(f"http://{self.at}/{path}", method=method)
        request.add_header("Authorization", f"token {TOKEN}")
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(request, data, timeout=LIMIT) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def open(self):
        address = f"ws://{self.at}/kernels/{self.id}/channels?session_id={self.session}"
        self.socket = websocket.create_connection(address, timeout=LIMIT, header=[f"Authorization: token {TOKEN}"])

    def run(self, code, stop_at=None):
        header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": self.session}
        header |= {"username": "", "version": "5.3", "date": "2026-01-01T00:00:00Z"}
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}}
        content |= {"allow_stdin": False, "stop_on_error": True}
        parts = {"parent_header": {}, "metadata": {}, "content": content, "buffers": [], "channel": "shell"}
        self.socket.send(json.dumps({"header": header, **parts}))
        cell, idle = {"text": "", "value": None, "reply": None}, False
        while not idle or cell["reply"] is None:
            message = json.loads(self.socket.recv())
            if message["parent_header"].get("msg_id") != header["msg_id"]:
                continue
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "stream":
                cell["text"] += content["text"]
                if stop_at and stop_at in cell["text"]:
                    stop_at = None
                    self.ask("POST", f"kernels/{self.id}/interrupt", {})
            elif kind == "execute_result":
                cell["value"] = content["data"]["text/plain"]
            elif kind == "execute_reply":
                cell["reply"] = content.get("ename", content["status"])
            elif kind == "status":
                idle = idle or content["execution_state"] == "idle"
        return cell


def look(port):
    kernel = Kernel(port)
    found = {"names": kernel.names, "cells": [kernel.run('let x = 41;\nprintln!("said");\nx + 1')]}
    endless = 'println!("on"); loop { std::thread::sleep(std::time::Duration::from_millis(50)); }'
    found["cells"].append(kernel.run(endless, stop_at="on"))
    found["cells"].append(kernel.run("x"))
    kernel.socket.close()
    kernel.ask("POST", f"kernels/{kernel.id}/restart", {})
    kernel.open()
    found["cells"].append(kernel.run("x"))
    kernel.socket.close()
    kernel.ask("DELETE", f"kernels/{kernel.id}")
    found["left"] = len(kernel.ask("GET", "kernels"))
    return found


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main():
    config, folder = sys.argv[1:]
    ssh = ["ssh", "-F", config, "-o", "ControlPath=none", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes"]
    own = {name: os.environ[name] for name in ("LIGHTCELL_HOME", "JUPYTER_PATH")} | {"JUPYTER_TOKEN": TOKEN}
    words = " ".join(f"{name}='{value}'" for name, value in own.items())
    lab = f"-m jupyterlab --no-browser --allow-root --ip=127.0.0.1 --port=0 --ServerApp.root_dir='{folder}'"
    there = Server([*ssh, "-T", "loop", f"echo PID $$; {words} exec '{sys.executable}' {lab}"])
    tunnel = here = None
    try:
        port = free_port()
        tunnel = subprocess.Popen([*ssh, "-N", "-L", f"127.0.0.1:{port}:127.0.0.1:{there.port}", "loop"])
        print(json.dumps(look(port)), flush=True)
        gateway = [f"--gateway-url=http://127.0.0.1:{port}", f"--GatewayClient.auth_token={TOKEN}"]
        env = {**os.environ, "JUPYTER_TOKEN": TOKEN, "JUPYTER_PATH": folder, "JUPYTER_CONFIG_DIR": folder}
        env |= {"JUPYTER_RUNTIME_DIR": os.path.join(folder, "runtime"), "JUPYTER_DATA_DIR": os.path.join(folder, "data")}
        lab = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
        here = Server([*lab, f"--ServerApp.root_dir={folder}", *gateway], env=env)
        try:
            print(json.dumps(look(here.port)), flush=True)
        except Exception:
            print("".join(here.seen), file=sys.stderr)
            raise
    finally:
        for server in (here, there):
            if server:
                server.end()
        if tunnel:
            tunnel.terminate()


main()
