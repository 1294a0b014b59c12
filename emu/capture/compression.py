"""Where a capture's bytes come from: a file or a pipe, plain or compressed, told apart by their first bytes.

A stream that is damaged or cut is no exception here: all that precedes the damage is read, then the source
ends and `damage` says why.  Only liblzma keeps back what it had made of the last bytes: see `unxz`.  Memory is
bounded whatever the stream claims: one chunk in, one piece out (of lz4 one block of at most 4 MiB), and the window
of zstd or xz of at most 128 MiB.
"""

import os
import select
import stat
import sys
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

from emu.errors import CaptureError, UsageError
from emu.wire.octets import le32

CHUNK = 1 << 16
PIECE = 1 << 18
GZIP_WBITS = 31  # zlib: a gzip member, with the largest window

ZSTD_MAGIC = 0xFD2FB528
ZSTD_SKIPPABLE = 0x184D2A50  # and the 15 after it
ZSTD_BLOCK_MAX = 1 << 17

XZ = b"\xfd7zXZ\x00"
XZ_BITE = 64  # bytes that liblzma is fed at a time
XZ_PIECE = 1 << 12
XZ_MEMORY = 136 << 20  # bytes; a window of 128 MiB and what comes with it

LZ4 = b"\x04\x22\x4d\x18"
LZ4_STORED = 1 << 31  # bit of a block's length: its bytes are not compressed

GZIP = b"\x1f\x8b"
ZSTD = ZSTD_MAGIC.to_bytes(4, "little")
UNSUPPORTED = {
    b"\x02\x21\x4c\x18": "lz4's legacy format",
    b"BZh": "bzip2",
}
LONGEST_MAGIC = 6


class Readable(Protocol):
    """What a file or a pipe must offer: an unbuffered `readinto`."""

    def readinto(self, into: memoryview, /) -> int | None:
        """Fill `into` as far as possible now; 0 at the end, None when a non-blocking pipe has nothing yet."""
        ...

    def fileno(self) -> int:
        """What `select` waits on after a None."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class StreamError(Exception):
    """The stream cannot be read any further; the text says why."""


class Stream:
    """The bytes as they lie in the file, with a look ahead at the first of them."""

    def __init__(self, readable: Readable) -> None:
        """Read as much as is needed to recognise a compression."""
        self.bytes_read = 0
        self._readable = readable
        self._ahead = b""
        self._passed = 0  # bytes of `_ahead` that have been handed out
        while len(self._ahead) < LONGEST_MAGIC and (more := self._read(LONGEST_MAGIC - len(self._ahead))):
            self._ahead += more
        self.head = self._ahead

    @property
    def taken(self) -> int:
        """How many bytes have been handed out."""
        return self.bytes_read - (len(self._ahead) - self._passed)

    def readinto(self, into: memoryview) -> int:
        """Fill `into` as far as possible now; 0 at the end."""
        if self._passed == len(self._ahead):
            return self._read_file(into)
        chunk = self.take(min(len(into), len(self._ahead) - self._passed))
        into[: len(chunk)] = chunk
        return len(chunk)

    def chunk(self) -> bytes:
        """The next bytes, at most `CHUNK`; none at the end."""
        return self.take(min(len(self._ahead) - self._passed, CHUNK)) or self._read(CHUNK)

    def take(self, count: int) -> bytes:
        """The next `count` bytes; fewer only when the stream ends."""
        if len(self._ahead) - self._passed < count:
            self._ahead = self._ahead[self._passed :]
            self._passed = 0
            while len(self._ahead) < count and (more := self._read(CHUNK)):
                self._ahead += more
        taken = self._ahead[self._passed : self._passed + count]
        self._passed += len(taken)
        return taken

    def peek(self, count: int) -> int:
        """Wait until `count` bytes lie ahead, or the end; how many do.  An error is left for the read that meets it."""
        ahead = [self._ahead[self._passed :]]
        length = len(ahead[0])
        try:
            while length < count and (more := self._read(CHUNK)):
                ahead.append(more)
                length += len(more)
        except StreamError:
            pass
        finally:
            self._ahead = b"".join(ahead)
            self._passed = 0
        return length

    def close(self) -> None:
        """Close the file."""
        self._readable.close()

    def _read(self, count: int) -> bytes:
        buffer = bytearray(count)
        return bytes(buffer[: self._read_file(memoryview(buffer))])

    def _read_file(self, into: memoryview) -> int:
        try:
            while (count := self._readable.readinto(into)) is None:
                select.select([self._readable], [], [])  # somebody made the pipe non-blocking
        except OSError as error:
            raise StreamError(error.strerror or str(error)) from None
        self.bytes_read += count
        return count


class Source:
    """A capture's uncompressed bytes."""

    def __init__(self, readable: Readable, name: str, size: int | None = None) -> None:
        """Recognise the compression; `size` is the file's, in bytes, None for a pipe."""
        self.size = size
        self.damage = ""  # why the stream ended before its time
        self._piece = memoryview(b"")
        self._pieces: Iterator[bytes] | None = None
        try:
            self._stream = Stream(readable)
        except StreamError as error:
            raise CaptureError(f"emu cannot read {name}: {error}") from None
        self.compression = _compression(self._stream.head, name)
        if self.compression:
            unpack = {"gzip": gunzip, "zstd": unzstd, "xz": unxz, "lz4": unlz4}[self.compression]
            self._pieces = unpack(self._stream)

    @property
    def bytes_read(self) -> int:
        """Bytes taken from the file so far, as they lie there."""
        return self._stream.bytes_read

    def readinto(self, into: memoryview) -> int:
        """Fill `into` with what is there, waiting only for the first byte; 0 when the stream has ended."""
        if self.damage:
            return 0
        try:
            if self._pieces is None:
                return self._stream.readinto(into)
            while not self._piece:
                piece = next(self._pieces, None)
                if piece is None:
                    return 0
                self._piece = memoryview(piece)
        except StreamError as error:
            self.damage = str(error)
            return 0
        count = min(len(into), len(self._piece))
        into[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def peek(self, count: int) -> int:
        """Wait until `count` bytes of the file lie ahead, or its end; how many do.  Nothing has been read yet."""
        return self._stream.peek(count)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def open_source(path: str) -> Source:
    """Open a file, or standard input for `-`; whatever forbids that is a CaptureError of one line."""
    name = "stdin" if path == "-" else path
    try:
        file = open(0 if path == "-" else path, "rb", buffering=0, closefd=path != "-")  # noqa: SIM115
        status = os.fstat(file.fileno())
    except (OSError, ValueError) as error:
        raise CaptureError(f"emu cannot read {name}: {getattr(error, 'strerror', None) or error}") from None
    try:
        if path == "-" and file.isatty():
            raise UsageError("emu cannot read stdin: it is a terminal; pipe a capture into it")
        return Source(file, name, status.st_size if stat.S_ISREG(status.st_mode) else None)
    except BaseException:
        file.close()
        raise


def gunzip(stream: Stream) -> Iterator[bytes]:
    """The content of a gzip file, member after member (RFC 1952, section 2.2), 256 KiB at a time."""
    data = stream.chunk()
    while data:
        member = zlib.decompressobj(GZIP_WBITS)
        while not member.eof:
            if not data and not (data := stream.chunk()):
                yield member.flush()
                raise StreamError(f"the gzip stream ends early, at byte {stream.taken}")
            saved = member.copy()
            try:
                piece = member.decompress(data, PIECE)
            except zlib.error as error:
                piece, good = _salvage(saved, data)
                yield piece
                at = stream.taken - len(data) + good
                raise StreamError(f"the gzip stream is damaged at byte {at} ({_reason(error)})") from None
            data = member.unconsumed_tail
            yield piece
        # Tapes pad with zeros, and gzip(1) reads over them.
        data = member.unused_data.lstrip(b"\0")
        while not data and (data := stream.chunk()):
            data = data.lstrip(b"\0")


def unzstd(stream: Stream) -> Iterator[bytes]:
    """The content of a zstd file, frame after frame (RFC 8878, section 3), in pieces of at most 128 KiB.

    libzstd gives nothing back from a call that fails, so it is fed block by block: what precedes a damaged
    block is out before the damage is met.
    """
    while head := stream.take(4):
        if len(head) == 4 and le32(head, 0) & ~15 == ZSTD_SKIPPABLE:
            _skip_frame(stream, "zstd")
        elif head == ZSTD:
            yield from _zstd_frame(stream)
        else:
            raise StreamError(f"the zstd stream is damaged at byte {stream.taken - len(head)} (not a frame)")


def _zstd_frame(stream: Stream) -> Iterator[bytes]:
    zstd = _zstd()
    decompressor = zstd.ZstdDecompressor()
    start = stream.taken
    try:
        descriptor = _take(stream, 1, "zstd")
        decompressor.decompress(ZSTD + descriptor + _take(stream, _frame_header_rest(descriptor[0]), "zstd"))
        last = 0
        while not last:
            start = stream.taken
            header = _take(stream, 3, "zstd")
            last, kind, size = (
                header[0] & 1,
                header[0] >> 1 & 3,
                (header[0] | header[1] << 8 | header[2] << 16) >> 3,
            )
            if size > ZSTD_BLOCK_MAX:
                raise zstd.ZstdError("a block of more than 128 KiB")
            wanted = 1 if kind == 1 else size  # kind 1 is a run: one byte, `size` times
            block = stream.take(wanted)
            yield decompressor.decompress(header + block)
            if len(block) < wanted:
                raise _cut(stream, "zstd")
        if descriptor[0] & 4:
            start = stream.taken
            decompressor.decompress(_take(stream, 4, "zstd"))
    except (zstd.ZstdError, EOFError) as error:
        raise StreamError(f"the zstd stream is damaged at byte {start} ({_reason(error)})") from None


def _frame_header_rest(descriptor: int) -> int:
    """How long a frame header is after its descriptor (RFC 8878, section 3.1.1.1), in bytes."""
    single = descriptor >> 5 & 1
    content_size = (single, 2, 4, 8)[descriptor >> 6]
    return 1 - single + (0, 1, 2, 4)[descriptor & 3] + content_size


def unxz(stream: Stream) -> Iterator[bytes]:
    """The content of an xz file, stream after stream (the .xz file format 1.2, section 2), 4 KiB at a time.

    What liblzma made of the bytes of a call that fails is lost, so it is fed 64 at a time: of a damaged stream up to
    4 KiB that precede the damage may be missing.
    """
    lzma = _lzma()
    data = memoryview(stream.chunk())  # a slice of it copies nothing
    while data:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY)
        while not decoder.eof:
            bite = data[:0]
            if decoder.needs_input:
                if not data and not (data := memoryview(stream.chunk())):
                    raise _cut(stream, "xz")
                bite, data = data[:XZ_BITE], data[XZ_BITE:]
            try:
                piece = decoder.decompress(bite, XZ_PIECE)
            except (lzma.LZMAError, MemoryError) as error:
                at = stream.taken - len(data) - len(bite)
                raise StreamError(f"the xz stream is damaged at byte {at} ({_reason(error)})") from None
            yield piece
        # Zeros between streams are padding (section 2.2).
        rest = (decoder.unused_data + bytes(data)).lstrip(b"\0")
        while not rest and (rest := stream.chunk()):
            rest = rest.lstrip(b"\0")
        data = memoryview(rest)


def unlz4(stream: Stream) -> Iterator[bytes]:
    """The content of an lz4 file, frame after frame (LZ4 Frame Format 1.6.3), a block of at most 4 MiB at a time.

    Fed block by block, as zstd is: what precedes a damaged block is out before the damage is met.
    """
    while head := stream.take(4):
        if len(head) == 4 and le32(head, 0) & ~15 == ZSTD_SKIPPABLE:
            _skip_frame(stream, "lz4")
        elif head == LZ4:
            yield from _lz4_frame(stream)
        else:
            raise StreamError(f"the lz4 stream is damaged at byte {stream.taken - len(head)} (not a frame)")


def _lz4_frame(stream: Stream) -> Iterator[bytes]:
    decoder = _lz4().LZ4FrameDecompressor()
    start = stream.taken
    try:
        flags, sizes = _take(stream, 2, "lz4")
        rest = (8 if flags & 8 else 0) + (4 if flags & 1 else 0) + 1
        decoder.decompress(LZ4 + bytes((flags, sizes)) + _take(stream, rest, "lz4"))
        longest = 1 << 8 + 2 * (sizes >> 4 & 7)
        while True:
            start = stream.taken
            header = _take(stream, 4, "lz4")
            size = le32(header, 0) & ~LZ4_STORED
            if size > longest:
                raise RuntimeError(f"a block of more than {longest} bytes")
            if size == 0:
                break
            block = _take(stream, size + (4 if flags & 16 else 0), "lz4")
            yield decoder.decompress(header + block, longest)  # without a bound it keeps some back
        decoder.decompress(header + (_take(stream, 4, "lz4") if flags & 4 else b""))
    except (RuntimeError, EOFError) as error:
        raise StreamError(f"the lz4 stream is damaged at byte {start} ({_reason(error)})") from None


def _skip_frame(stream: Stream, kind: str) -> None:
    """Pass over a skippable frame, which lz4 and zstd have in common."""
    size = le32(_take(stream, 4, kind), 0)
    for at in range(0, size, CHUNK):
        _take(stream, min(CHUNK, size - at), kind)


def _take(stream: Stream, count: int, kind: str) -> bytes:
    taken = stream.take(count)
    if len(taken) < count:
        raise _cut(stream, kind)
    return taken


def _cut(stream: Stream, kind: str) -> StreamError:
    return StreamError(f"the {kind} stream ends early, at byte {stream.taken}")


def _salvage(member: Any, data: bytes) -> tuple[bytes, int]:
    """What `data` gives before it fails, and how many of its bytes that took; zlib itself withholds it."""
    good = bytearray()
    for at in range(len(data)):
        try:
            good += member.decompress(data[at : at + 1])
        except zlib.error:
            return bytes(good), at
    return bytes(good), len(data)


def _reason(error: Exception) -> str:
    return str(error).rpartition(": ")[2]


def _zstd() -> Any:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        raise CaptureError("emu cannot read zstd: this Python lacks it; install backports.zstd") from None
    return zstd


def _lzma() -> Any:
    try:
        import lzma
    except ImportError:
        raise CaptureError("emu cannot read xz: this Python was built without lzma") from None
    return lzma


def _lz4() -> Any:
    try:
        import lz4.frame  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        raise CaptureError("emu cannot read lz4: the package lz4 is missing; pip install 'emu[lz4]'") from None
    return lz4.frame


def _compression(head: bytes, name: str) -> str:
    for magic, compression in UNSUPPORTED.items():
        if head.startswith(magic):
            why = f"it is compressed with {compression}, which is not supported; gzip, zstd, xz and lz4 are"
            raise CaptureError(f"emu cannot read {name}: {why}")
    if head.startswith(GZIP):
        return "gzip"
    if head.startswith(XZ):
        return "xz"
    if head.startswith(LZ4):
        return "lz4"
    skippable = len(head) >= 4 and le32(head, 0) & ~15 == ZSTD_SKIPPABLE
    return "zstd" if head.startswith(ZSTD) or skippable else ""
