"""A network between this machine and a namespace of its own: two TUN devices, and this process between them, which hands
each packet on late, or loses it. (The kernel's netem would do it, where it is built in.)

    wire.py NAMESPACE HERE THERE

Commands come as lines of JSON on standard input, and each is answered by `ok`: {"delay": seconds, "loss": part}, one way;
a loss of 1 is a cut that nobody is told of. At the end of input all is taken away, also what runs in the namespace.
"""
import fcntl
import heapq
import itertools
import json
import os
import random
import select
import signal
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def device(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH14x", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


def carry(ends):
    delay, loss = 0.0, 0.0
    draw, order, under_way = random.Random(1), itertools.count(), []
    while True:
        now = time.monotonic()
        while under_way and under_way[0][0] <= now:
            _, _, end, packet = heapq.heappop(under_way)
            try:
                os.write(end, packet)
            except OSError:
                pass  # a full queue loses packets, as networks do
        pause = under_way[0][0] - now if under_way else None
        for ready in select.select([0, *ends], [], [], pause)[0]:
            if ready == 0:
                line = sys.stdin.readline()
                if not line:
                    return
                now_is = json.loads(line)
                delay, loss = now_is["delay"], now_is["loss"]
                print("ok", flush=True)
                continue
            packet = os.read(ready, 65536)
            if draw.random() >= loss:
                other = ends[1 - ends.index(ready)]
                heapq.heappush(under_way, (time.monotonic() + delay, next(order), other, packet))


def main():
    namespace, here, there = sys.argv[1:]
    near, far = f"{namespace}a", f"{namespace}b"
    ip("netns", "add", namespace)
    try:
        ends = [device(near), device(far)]
        ip("link", "set", far, "netns", namespace)
        ip("addr", "add", here, "peer", there, "dev", near)
        ip("link", "set", near, "up")
        ip("-n", namespace, "addr", "add", there, "peer", here, "dev", far)
        for name in (far, "lo"):
            ip("-n", namespace, "link", "set", name, "up")
        print("ok", flush=True)
        carry(ends)
    finally:
        for pid in subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True).stdout.split():
            os.kill(int(pid), signal.SIGKILL)
        ip("netns", "del", namespace)


main()
