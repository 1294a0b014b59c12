"""Both ends of what `live.py` measures: senders and receivers of TCP and UDP, one process each.

`python live_ends.py udp-send --to 10.78.0.2 --port 4000 --seconds 2`: "ready" on a line when it may begin (a receiver)
or begins (a sender), and one line of JSON at the end.  Many datagrams go through one system call (sendmmsg, recvmmsg),
which the interpreter would otherwise be slower than.
"""

import argparse
import contextlib
import ctypes
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

BATCH = 64  # datagrams of one sendmmsg; at a pace, those of a millisecond
READ_BATCH = 1024
PATIENCE_NS = 500_000_000  # a round trip that takes longer is lost
WARM_TURNS, TURN = 2, 100  # round trips to one address before the next has its turn; the first turns do not count
CHUNK_BYTES = 1 << 17  # of a TCP stream, at once
BUFFER_BYTES = 64 << 20  # of a UDP receiver: what is lost before it is lost on the way
PAUSE_S = 0.001  # of a receiver that has read all: others need the core
SO_RCVBUFFORCE, SO_MEMINFO = 33, 55
SK_MEMINFO_DROPS = 8  # linux/sock_diag.h
LIBC = ctypes.CDLL(None, use_errno=True)


class IoVector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(IoVector)),
        ("vectors_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class ManyHeader(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("header", Header), ("moved", ctypes.c_uint))


def many(count: int, size: int) -> tuple[Any, Any]:
    """So many headers of one datagram each, all with the same buffer, and what keeps that alive."""
    buffer = ctypes.create_string_buffer(size)
    vector = IoVector(ctypes.cast(buffer, ctypes.c_void_p), size)
    headers = (ManyHeader * count)()
    for each in headers:
        each.header.vectors, each.header.vectors_length = ctypes.pointer(vector), 1
    return headers, (buffer, vector)


def ready() -> None:
    """Tell whoever started us."""
    print("ready", flush=True)


@contextlib.contextmanager
def bound(kind: socket.SocketKind, port: int) -> Iterator[socket.socket]:
    """A socket of the port."""
    with socket.socket(socket.AF_INET, kind) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("", port))
        yield made


def tcp_send(options: argparse.Namespace) -> dict[str, Any]:
    """As much as goes."""
    chunk, sent = bytes(CHUNK_BYTES), 0
    with socket.create_connection((options.to[0], options.port), timeout=5) as stream:
        ready()
        until = time.monotonic() + options.seconds
        while time.monotonic() < until:
            stream.sendall(chunk)
            sent += CHUNK_BYTES
    return {"sent": sent}


def tcp_receive(options: argparse.Namespace) -> dict[str, Any]:
    """Until the sender ends: bytes, and seconds from the first to the last of them."""
    buffer, received, first = bytearray(CHUNK_BYTES), 0, 0.0
    with bound(socket.SOCK_STREAM, options.port) as listener:
        listener.listen(1)
        listener.settimeout(options.seconds)
        ready()
        stream, _ = listener.accept()
        with stream:
            stream.settimeout(5)
            while got := stream.recv_into(buffer):
                first = first or time.monotonic()
                received += got
    return {"received": received, "seconds": time.monotonic() - first}


def udp_send(options: argparse.Namespace) -> dict[str, Any]:
    """The smallest frames (a payload of 18 bytes), as fast as they go or at a pace."""
    sent = refused = 0
    headers, kept = many(BATCH, options.bytes)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((options.to[0], options.port))
        fd = sender.fileno()
        ready()
        began = time.monotonic()
        while (passed := time.monotonic() - began) < options.seconds:
            due = BATCH
            if options.per_second:
                due = min(BATCH, int(passed * options.per_second) - sent - refused)
                if due < BATCH // 2:
                    time.sleep(BATCH / options.per_second / 2)
                    continue
            done = LIBC.sendmmsg(fd, headers, due, 0)
            if done > 0:
                sent += done
            else:  # ECONNREFUSED is what an earlier one was answered
                refused += ctypes.get_errno() != 111
    del kept
    return {"sent": sent, "refused": refused, "seconds": time.monotonic() - began}


def udp_receive(options: argparse.Namespace) -> dict[str, Any]:
    """Until SIGTERM: datagrams read, and those that the socket's own buffer had no room for."""
    received, ending = 0, []
    signal.signal(signal.SIGTERM, lambda *_: ending.append(1))
    headers, kept = many(READ_BATCH, 2048)
    until = time.monotonic() + options.seconds
    with bound(socket.SOCK_DGRAM, options.port) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        ready()
        while time.monotonic() < until:
            done = LIBC.recvmmsg(receiver.fileno(), headers, READ_BATCH, socket.MSG_DONTWAIT, None)
            received += max(0, done)
            if done < READ_BATCH:
                if ending:
                    break
                time.sleep(PAUSE_S)
        dropped = struct.unpack("9I", receiver.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))[SK_MEMINFO_DROPS]
    del kept
    return {"received": received, "dropped": dropped}


def echo(options: argparse.Namespace) -> dict[str, Any]:
    """Send every datagram back; until one is empty, or none comes any more."""
    answered = 0
    with bound(socket.SOCK_DGRAM, options.port) as answerer:
        answerer.settimeout(options.seconds)
        ready()
        while True:
            payload, peer = answerer.recvfrom(2048)
            if not payload:
                return {"answered": answered}
            answerer.sendto(payload, peer)
            answered += 1


def ping(options: argparse.Namespace) -> dict[str, Any]:
    """Round trips back to back, by turns to each address: all times of each in ns, and how many were lost.

    An `echo` answers datagrams; ICMP echoes are answered by the kernel.
    """
    times: list[list[int]] = [[] for _ in options.to]
    lost = 0
    kind = (socket.SOCK_RAW, socket.IPPROTO_ICMP) if options.icmp else (socket.SOCK_DGRAM, 0)
    payload = icmp_echo(options.bytes) if options.icmp else bytes(options.bytes)
    with contextlib.ExitStack() as open_sockets:
        askers = [open_sockets.enter_context(socket.socket(socket.AF_INET, *kind)) for _ in options.to]
        for asker, to in zip(askers, options.to, strict=True):
            asker.connect((to, 0 if options.icmp else options.port))
        ready()
        for turn in range(WARM_TURNS + -(-options.rounds // TURN)):
            for asker, found in zip(askers, times, strict=True):
                asked = [trip_ns(asker, payload) for _ in range(TURN)]
                lost += asked.count(0)
                found += filter(None, asked if turn >= WARM_TURNS else [])
        if not options.icmp:
            askers[0].send(b"")
    return {"times_ns": times, "lost": lost}


def icmp_echo(size: int) -> bytes:
    """An echo request (RFC 792) of this process, with so many bytes of zeros."""
    words = (0x0800, os.getpid() & 0xFFFF, 1)
    checksum = 0xFFFF - sum(words) % 0xFFFF
    return struct.pack(">4H", words[0], checksum, *words[1:]) + bytes(size)


def trip_ns(asker: socket.socket, payload: bytes) -> int:
    """One round trip; 0 when it is lost.  The asker does not sleep (ping -A does not, either): the wire is measured."""
    before = time.perf_counter_ns()
    asker.send(payload)
    while time.perf_counter_ns() - before < PATIENCE_NS:
        with contextlib.suppress(BlockingIOError):
            asker.recv(2048, socket.MSG_DONTWAIT)
            return time.perf_counter_ns() - before
    return 0


ENDS = {
    "tcp-send": tcp_send,
    "tcp-receive": tcp_receive,
    "udp-send": udp_send,
    "udp-receive": udp_receive,
    "echo": echo,
    "ping": ping,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("end", choices=ENDS)
    parser.add_argument("--to", action="append", default=[], help="an IPv4 address; ping takes several")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=30.0, help="a sender's time; how long others are patient")
    parser.add_argument("--per-second", type=int, default=0, help="datagrams; 0: as fast as they go")
    parser.add_argument("--bytes", type=int, default=18, help="payload of a datagram [18: a frame of 60 bytes]")
    parser.add_argument("--rounds", type=int, default=5000)
    parser.add_argument("--icmp", action="store_true", help="ping: ICMP echoes, which the kernel answers")
    options = parser.parse_args()
    print(json.dumps(ENDS[options.end](options)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
