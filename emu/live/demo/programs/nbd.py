"""The few messages of the NBD protocol that a client needs which writes and reads blocks.

Source: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, the fixed newstyle handshake with
NBD_OPT_EXPORT_NAME, and simple replies.
"""

import socket
import struct
from typing import NamedTuple

BLOCK_BYTES = 4096

_GREETING = struct.Struct(">8s8sH")
_CLIENT_FLAGS = struct.Struct(">I")
_OPTION = struct.Struct(">8sII")
_EXPORT = struct.Struct(">QH")
_REQUEST = struct.Struct(">IHHQQI")
_REPLY = struct.Struct(">IIQ")

_MAGIC = b"NBDMAGIC"
_OPTION_MAGIC = b"IHAVEOPT"
_REQUEST_MAGIC = 0x25609513
_REPLY_MAGIC = 0x67446698
_OPTION_EXPORT_NAME = 1
_FIXED_NEWSTYLE = 1
_NO_ZEROES = 2
_ZEROES_BYTES = 124

_READ, _WRITE, _DISCONNECT = 0, 1, 2


class NbdError(Exception):
    """The server does not speak as the protocol says, or is gone."""


class Reply(NamedTuple):
    """One answered request; `error` is an errno, 0 when it was done."""

    handle: int
    error: int
    data: bytes


def shake_hands(connection: socket.socket) -> int:
    """Enter the transmission phase of the default export; its size in bytes.

    Errors: NbdError, and the socket's own.
    """
    magic, option_magic, flags = _GREETING.unpack(_exactly(connection, _GREETING.size))
    if (magic, option_magic) != (_MAGIC, _OPTION_MAGIC):
        raise NbdError("the server does not greet with the newstyle handshake of NBD")
    agreed = flags & (_FIXED_NEWSTYLE | _NO_ZEROES)
    connection.sendall(_CLIENT_FLAGS.pack(agreed) + _OPTION.pack(_OPTION_MAGIC, _OPTION_EXPORT_NAME, 0))
    size_bytes, _ = _EXPORT.unpack(_exactly(connection, _EXPORT.size))
    if not agreed & _NO_ZEROES:
        _exactly(connection, _ZEROES_BYTES)
    return int(size_bytes)


def _exactly(connection: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        piece = connection.recv(size - len(got))
        if not piece:
            raise NbdError("the server has closed the connection during the handshake")
        got += piece
    return got


def write_request(handle: int, offset_bytes: int, data: bytes) -> bytes:
    """A write, with its data."""
    return _REQUEST.pack(_REQUEST_MAGIC, 0, _WRITE, handle, offset_bytes, len(data)) + data


def read_request(handle: int, offset_bytes: int, length_bytes: int) -> bytes:
    """A read."""
    return _REQUEST.pack(_REQUEST_MAGIC, 0, _READ, handle, offset_bytes, length_bytes)


def disconnect_request() -> bytes:
    """The client goes; there is no answer."""
    return _REQUEST.pack(_REQUEST_MAGIC, 0, _DISCONNECT, 0, 0, 0)


class Replies:
    """Cuts what comes from the server into replies; a read's reply carries as many bytes as were asked for."""

    def __init__(self) -> None:
        """Nothing has come."""
        self._bytes = bytearray()
        self._reads: dict[int, int] = {}

    def expect_read(self, handle: int, length_bytes: int) -> None:
        """A read of this handle is on its way."""
        self._reads[handle] = length_bytes

    def take(self, more: bytes) -> list[Reply]:
        """The replies that are whole now.

        Errors: NbdError when something else stands where a reply has to.
        """
        self._bytes += more
        whole = []
        while (reply := self._next()) is not None:
            whole.append(reply)
        return whole

    def _next(self) -> Reply | None:
        if len(self._bytes) < _REPLY.size:
            return None
        magic, error, handle = _REPLY.unpack_from(self._bytes)
        if magic != _REPLY_MAGIC:
            raise NbdError(f"0x{magic:08x} stands where a simple reply has to begin with 0x{_REPLY_MAGIC:08x}")
        length = 0 if error else self._reads.get(handle, 0)
        end = _REPLY.size + length
        if len(self._bytes) < end:
            return None
        data = bytes(self._bytes[_REPLY.size : end])
        del self._bytes[:end]
        self._reads.pop(handle, None)
        return Reply(handle, error, data)
