"""Drives a kernel with jupyter_client for the Rust tests: one operation a line of JSON in, one answer a line out.

Every wait has a generous limit that only a hang reaches; nothing waits for a time to pass.
"""
import json
import os
import queue
import sys
import time

from jupyter_client.manager import KernelManager

LIMIT = 240


def say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


class Driver:
    def __init__(self):
        # jupyter_client draws ports and frees them for the kernel to bind; a connection of another test, drawn by the
        # system in between, may have one. JupyterLab starts such a kernel once more with other ports; so is it here.
        for last in (False, False, True):
            begun = time.monotonic()
            self.manager = KernelManager(kernel_name=os.environ.get("LIGHTCELL_TEST_KERNEL", "lightcell"))
            self.manager.start_kernel()
            self.client = self.manager.client()
            self.client.start_channels()
            try:
                self.client.wait_for_ready(timeout=LIMIT)
                self.seconds = time.monotonic() - begun
                return
            except RuntimeError as error:
                log = self.log()
                if last or "cannot bind" not in log:
                    raise RuntimeError(f"{error}; its log: {log}") from error
                self.client.stop_channels()
                self.manager.cleanup_resources()

    def log(self):
        """The end of what the kernel wrote into its log."""
        home = os.environ.get("LIGHTCELL_HOME", "")
        path = os.path.join(home, "logs", f"kernel-{self.manager.provisioner.pid}.log")
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read()[-3000:]
        except OSError as error:
            return f"none: {error}"

    def reply(self, msg_id, channel="shell"):
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            get = self.client.get_shell_msg if channel == "shell" else self.client.get_control_msg
            message = get(timeout=LIMIT)
            if message["parent_header"].get("msg_id") == msg_id:
                return message["content"]
        raise TimeoutError("no reply")

    def collect(self, msg_id, when=None, inputs=(), touch=None):
        """Messages of a request until its idle. With `when`, presses stop at that text; with `touch`, texts and paths in
        turn, makes each file once its text, and those before it, have appeared."""
        messages, seen, stopped, inputs, touch = [], "", None, list(inputs), list(touch or ())
        # A cell that says how far it is does not hang, however long it takes.
        end, silent = time.monotonic() + 5 * LIMIT, time.monotonic() + LIMIT
        while time.monotonic() < min(end, silent):
            if when == "" and stopped is None:
                # Stop comes on another channel: the kernel has the cell once it answers what was sent behind it.
                self.reply(self.client.kernel_info())
                stopped = self.stop()
            try:
                message = self.client.get_iopub_msg(timeout=0.05)
            except queue.Empty:
                if inputs:
                    try:
                        self.client.get_stdin_msg(timeout=0.05)
                        self.client.input(inputs.pop(0))
                    except queue.Empty:
                        pass
                continue
            if message["parent_header"].get("msg_id") != msg_id:
                continue
            silent = time.monotonic() + LIMIT
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                return messages, None if stopped is None else time.monotonic() - stopped
            if len(messages) < 20000:
                messages.append([kind, content])
            seen = (seen + json.dumps(content))[-100000:]
            while touch and touch[0] in seen:
                open(touch[1], "w").close()
                del touch[:2]
            if when and stopped is None and when in seen:
                stopped = self.stop()
        raise TimeoutError(f"no idle; so far: {messages[-3:]}")

    def stop(self):
        now = time.monotonic()
        self.manager.interrupt_kernel()
        return now

    def execute(self, op):
        msg_id = self.client.execute(
            op["code"],
            silent=op.get("silent", False),
            store_history=op.get("store_history", True),
            allow_stdin=bool(op.get("inputs")),
            stop_on_error=op.get("stop_on_error", True),
        )
        messages, stopped = self.collect(
            msg_id, op.get("interrupt_when"), op.get("inputs", ()), op.get("touch")
        )
        return {"reply": self.reply(msg_id), "messages": messages, "stopped_after": stopped}

    def queue(self, op):
        """Sends several cells at once; gives the status of each reply."""
        ids = [self.client.execute(code) for code in op["cells"]]
        return {"replies": [self.reply(msg_id) for msg_id in ids]}

    def beside(self, op):
        """Runs `long`, and once a text of it has appeared `quick` beside it: the order in which messages came. With
        `stop_after`, presses stop once so many updates of quick's displays have come."""
        first = self.client.execute(op["long"])
        order, second, sent, updates = [], None, None, 0
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            message = self.client.get_iopub_msg(timeout=LIMIT)
            parent, kind, content = message["parent_header"].get("msg_id"), message["msg_type"], message["content"]
            who = "long" if parent == first else "quick" if second and parent == second else None
            if who:
                state = content.get("execution_state", "")
                order.append([who, kind, state, content])
                if who == "quick" and state == "idle":
                    took = time.monotonic() - sent
                if who == "quick" and kind == "update_display_data":
                    updates += 1
                    if updates == op.get("stop_after"):
                        self.stop()
                if who == "long" and state == "idle":
                    break
            if second is None and op["when"] in json.dumps(content):
                sent, second = time.monotonic(), self.client.execute(op["quick"])
        replies = {}
        for _ in range(2):
            message = self.client.get_shell_msg(timeout=LIMIT)
            replies["long" if message["parent_header"]["msg_id"] == first else "quick"] = message["content"]
        return {"order": order, "took": took, "replies": replies}

    def meanwhile(self, op):
        """Runs `long`; once a text of it has appeared, asks `request` until `until` is in the reply, and then presses stop.

        Gives that reply, how long each took, and how the cell ended.
        """
        msg_id = self.client.execute(op["long"])
        while op["when"] not in json.dumps(self.client.get_iopub_msg(timeout=LIMIT)["content"]):
            pass
        took, end = [], time.monotonic() + LIMIT
        while time.monotonic() < end:
            begun = time.monotonic()
            found = self.request(op["request"])
            took.append(time.monotonic() - begun)
            if op["until"] in json.dumps(found):
                break
            # Not a wait for it, only less work for those who are asked.
            time.sleep(0.2)
        stopped = self.stop()
        self.collect(msg_id)
        return {
            "found": found,
            "took": max(took),
            "stopped_after": time.monotonic() - stopped,
            "reply": self.reply(msg_id),
        }

    def request(self, op):
        """complete, inspect, is_complete, history, kernel_info, comm_info: the content of the reply."""
        send = getattr(self.client, op["name"])
        return self.reply(send(*op.get("args", ()), **op.get("kwargs", {})))

    def welcome(self, op):
        """The content of the first message that a new subscriber gets."""
        client = self.manager.client()
        client.start_channels(shell=False, iopub=True, stdin=False, hb=False, control=False)
        try:
            message = client.get_iopub_msg(timeout=LIMIT)
            return {"kind": message["msg_type"], "content": message["content"]}
        finally:
            client.stop_channels()

    def pid(self, op):
        return {"pid": self.manager.provisioner.pid}

    def restart(self, op):
        self.manager.restart_kernel(now=op.get("now", False))
        self.client.wait_for_ready(timeout=LIMIT)
        return {}

    def key(self, op):
        return {"key": self.manager.session.key.decode()}

    def alive(self, op):
        return {"alive": self.manager.is_alive()}

    def shutdown(self, op):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=False)
        return {"gone": not self.manager.is_alive()}


def main():
    try:
        driver = Driver()
    except Exception as error:  # the Rust side shows it
        say({"driver_error": repr(error)})
        return
    say({"ready": True, "seconds": driver.seconds})
    for line in sys.stdin:
        op = json.loads(line)
        try:
            answer = getattr(driver, op["op"])(op)
        except Exception as error:
            answer = {"driver_error": f"{op['op']}: {error!r}"}
        say(answer)
        if op["op"] == "shutdown":
            return
    driver.shutdown({})


main()
