"""The writer against an NBD server of this test: what is asked, what is counted, and how it ends."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.live.demo.programs.nbd import NbdError, Replies
from emu.live.state import SharedWords

SIZE = 64 * 4096


class Server(threading.Thread):
    """Speaks NBD over one connection; `answer` is asked for the error of each request, None for no answer."""

    def __init__(self, path: Path, answer: Callable[[int], int | None], *, zeroes: bool = False) -> None:
        super().__init__(daemon=True)
        self.disk = bytearray(SIZE)
        self.depths: list[int] = []
        self.handles: list[int] = []
        self._answer = answer
        self._zeroes = zeroes
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(10)

    def run(self) -> None:
        connection, _ = self._listener.accept()
        self._listener.close()
        with connection, connection.makefile("rwb") as stream:
            self._greet(stream)
            while (head := stream.read(28)) and len(head) == 28:
                magic, _, kind, handle, offset, length = struct.unpack(">IHHQQI", head)
                assert magic == 0x25609513
                if kind == 2:
                    return
                data = stream.read(length) if kind == 1 else b""
                self.handles.append(handle)
                if (error := self._answer(len(self.handles))) is None:
                    continue
                if error < 0:
                    return
                if kind == 1 and not error:
                    self.disk[offset : offset + length] = data
                stream.write(struct.pack(">IIQ", 0x67446698, error, handle))
                stream.write(self.disk[offset : offset + length] if kind == 0 else b"")
                stream.flush()

    def _greet(self, stream: Any) -> None:
        stream.write(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 1 if self._zeroes else 3))
        stream.flush()
        flags, magic, option, length = struct.unpack(">I8sII", stream.read(20))
        assert (flags, magic, option, length) == (1 if self._zeroes else 3, b"IHAVEOPT", 1, 0)
        stream.write(struct.pack(">QH", SIZE, 1) + (bytes(124) if self._zeroes else b""))
        stream.flush()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    def make(answer: Callable[[int], int | None], **more: Any) -> Server:
        server = Server(tmp_path / "nbd", answer, **more)
        server.start()
        return server

    yield make


def command(tmp_path: Path, *options: object) -> list[str]:
    told = ["--words", tmp_path / "words", "--socket", tmp_path / "nbd", *options]
    return [sys.executable, "-m", "emu.live.demo.programs.writer", *(str(option) for option in told)]


def write(tmp_path: Path, *options: object) -> dict[str, Any]:
    done = subprocess.run(command(tmp_path, *options), capture_output=True, text=True, check=True, timeout=30)
    assert done.stderr == ""
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_all_writes_are_answered_counted_and_read_back(tmp_path: Path, serve: Callable[..., Server]) -> None:
    server = serve(lambda _: 0)
    result = write(tmp_path, "--writes", 200, "--depth", 8, "--verify", 16, "--seconds", 10)
    assert (result["completed"], result["errors"], result["ended"]) == (200, 0, "done")
    assert (result["blocks_verified"], result["blocks_wrong"], result["blocks_not_read"]) == (16, 0, 0)
    assert SharedWords(tmp_path / "words").get("writes_completed") == 200
    assert sorted(server.handles[:200]) == list(range(200))
    # The disk has 64 blocks: write 199 is the last at place 199 - 3 * 64.
    assert struct.unpack_from(">QQ", server.disk, (199 - 192) * 4096)[1] == 199
    assert result["timeline"][-1][1] == 200
    assert len(result["timeline"]) <= 100
    assert result["p50_ms"] <= result["p99_ms"] <= result["max_ms"]


def test_a_server_of_the_old_flags_sends_zeroes_first(tmp_path: Path, serve: Callable[..., Server]) -> None:
    serve(lambda _: 0, zeroes=True)
    assert write(tmp_path, "--writes", 3, "--seconds", 10)["completed"] == 3


def test_blocks_that_are_not_as_they_were_written_are_told(tmp_path: Path, serve: Callable[..., Server]) -> None:
    def answer(number: int) -> int:
        if number == 11:  # the first read
            server.disk[:] = bytes(SIZE)
        return 0

    server = serve(answer)
    result = write(tmp_path, "--writes", 10, "--verify", 5, "--seconds", 10)
    assert (result["completed"], result["blocks_verified"], result["blocks_wrong"]) == (10, 0, 5)


def test_an_answer_with_an_error_is_no_completed_write(tmp_path: Path, serve: Callable[..., Server]) -> None:
    serve(lambda number: 5 if number % 4 == 0 else 0)
    result = write(tmp_path, "--writes", 40, "--seconds", 10, "--verify", 5)
    assert (result["completed"], result["errors"], result["ended"]) == (30, 10, "done")
    assert result["blocks_verified"] == 0
    assert SharedWords(tmp_path / "words").get("writes_completed") == 30


def test_no_answer_is_a_gap_up_to_the_limit_and_no_more_than_the_depth_is_asked(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    server = serve(lambda number: 0 if number <= 5 else None)
    result = write(tmp_path, "--writes", 50, "--depth", 4, "--seconds", 0.6)
    assert (result["completed"], result["ended"]) == (5, "limit")
    assert 0.3 < result["longest_gap_seconds"] <= result["seconds"]
    assert len(server.handles) <= 5 + 4


def test_a_server_that_dies_ends_it_with_what_was_done(tmp_path: Path, serve: Callable[..., Server]) -> None:
    serve(lambda number: 0 if number <= 7 else -1)
    result = write(tmp_path, "--writes", 50, "--depth", 1, "--seconds", 10)
    assert (result["completed"], result["ended"]) == (7, "connection lost")
    assert "closed" in result["why"] or "Broken pipe" in result["why"] or "reset" in result["why"]


def test_no_server_is_told_in_the_result(tmp_path: Path) -> None:
    result = write(tmp_path, "--writes", 5, "--seconds", 5)
    assert (result["completed"], result["ended"]) == (0, "connection lost")
    assert "No such file" in result["why"]


@pytest.mark.parametrize("how", ["signal", "word"])
def test_it_ends_when_it_is_told_to(tmp_path: Path, serve: Callable[..., Server], how: str) -> None:
    serve(lambda number: 0 if number <= 5 else None)
    writer = subprocess.Popen(command(tmp_path, "--writes", 50, "--seconds", 30), stdout=subprocess.PIPE, text=True)
    words = SharedWords(tmp_path / "words")
    try:
        for _ in range(1000):
            if words.get("writes_completed") == 5:
                break
            time.sleep(0.01)
        if how == "signal":
            os.kill(writer.pid, signal.SIGTERM)
        else:
            words.put("stop", 1)
        out, _ = writer.communicate(timeout=10)
    finally:
        writer.kill()
        writer.wait()
    result = json.loads(out.splitlines()[-1])
    assert (result["completed"], result["ended"]) == (5, "stopped")


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from((0, 0, 5)), st.binary(min_size=1, max_size=40)), max_size=20),
    st.randoms(use_true_random=False),
)
def test_replies_are_found_however_the_stream_is_cut(replies: list[tuple[bool, int, bytes]], chance: Any) -> None:
    cut = Replies()
    stream, expected = b"", []
    for handle, (reads, error, data) in enumerate(replies):
        carried = data if reads and not error else b""
        if reads:
            cut.expect_read(handle, len(data))
        stream += struct.pack(">IIQ", 0x67446698, error, handle) + carried
        expected.append((handle, error, carried))
    got: list[tuple[int, int, bytes]] = []
    while stream:
        size = chance.randint(1, 50)
        got += cut.take(stream[:size])
        stream = stream[size:]
    assert got == expected


def test_what_is_no_reply_is_told() -> None:
    with pytest.raises(NbdError, match="0x00000000"):
        Replies().take(bytes(16))
