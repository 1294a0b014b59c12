"""The real sockets of a namespace, and what lies unread in them: the kernel's socket diagnostics (sock_diag(7)).

Source: Linux v6.18 include/uapi/linux/inet_diag.h, net/ipv4/inet_diag.c, udp_diag.c, tcp_diag.c.
A dump walks all of the kernel's hash tables, whose size has nothing to do with how many sockets there are, so `look` is
for now and then; `look_at` asks for single sockets, each found by its hash.
Differs from `ss`: TCP is asked twice.  The kernel reads `rqueue` without the socket's lock and `bytes_received` after
it has waited for that lock, when what came meanwhile is taken in; so a single answer may show more received than its
`rqueue` knows of, and the difference would be more than the reader has had.  Here `bytes_received` is the first
answer's and all else the second's: bytes_received - rqueue is never more than what was read.
"""

import errno
import os
import socket
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from emu.errors import UsageError
from emu.kernel.sock import IPPROTO_TCP, IPPROTO_UDP
from emu.live.lab.namespaces import open_in_namespace

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST, NLM_F_DUMP = 0x001, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
INET_DIAG_INFO, INET_DIAG_SKMEMINFO, INET_DIAG_SKV6ONLY = 2, 7, 11
WANT_INFO = 1 << (INET_DIAG_INFO - 1)
WANT_MEMORY = 1 << (INET_DIAG_SKMEMINFO - 1)
ALL_STATES = 0xFFFF
NO_COOKIE = (1 << 64) - 1
SO_RCVBUFFORCE = 33

TCP_ESTABLISHED, TCP_SYN_SENT, TCP_SYN_RECV, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_TIME_WAIT, TCP_CLOSE = range(1, 8)
TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_LISTEN, TCP_CLOSING = range(8, 12)

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_WISH = struct.Struct("=BBBBI")  # the front of struct inet_diag_req_v2
_ID = struct.Struct(">HH16s16s")  # struct inet_diag_sockid: ports, source, destination ...
_DEVICE_COOKIE = struct.Struct("=IQ")  # ... device and cookie
_ANSWER = struct.Struct("=BBxx")  # struct inet_diag_msg
_COUNT = struct.Struct("=Q")
_COUNTS = struct.Struct("=4xIIII")  # of it: rqueue, wqueue, uid, inode
_ATTRIBUTE = struct.Struct("=HH")
_MEMINFO = struct.Struct("=II24xI")  # SK_MEMINFO_RMEM_ALLOC, _RCVBUF, _DROPS
_HALVES = struct.Struct(">qq")
_IPV4 = struct.Struct(">I")
_V4_MAPPED = bytes(10) + b"\xff\xff"
_HEADER_BYTES = 16
_ID_AT = _HEADER_BYTES + 4
_COUNTS_AT = _ID_AT + 48
_ATTRIBUTES_AT = _HEADER_BYTES + 72
_REQUEST_BYTES = 72
_BYTES_RECEIVED_AT = 128  # tcpi_bytes_received in struct tcp_info, since Linux 4.1
_BUFFER_BYTES = 1 << 18
_REMEMBERED = 8192
_PLACES: dict[tuple[int, int], int] = {}  # of attributes, in answers by their length
_AT_ONCE = 64  # questions in one message, so that their answers fit the socket's buffer
_KINDS = ((socket.AF_INET, IPPROTO_UDP), (socket.AF_INET6, IPPROTO_UDP))
_TCP_KINDS = ((socket.AF_INET, IPPROTO_TCP), (socket.AF_INET6, IPPROTO_TCP))


class Asked(NamedTuple):
    """A socket to ask for; addresses are halves as in kernel.machine.Packet."""

    protocol: int
    family: int  # 4 or 6
    local_hi: int
    local: int
    local_port: int
    remote_hi: int = 0
    remote: int = 0
    remote_port: int = 0
    device: int = 0  # index of the interface that it is bound to
    cookie: int = NO_COOKIE


class RealSocket(NamedTuple):
    """A socket of the host; addresses are halves as in kernel.machine.Packet, bytes are bytes."""

    protocol: int
    family: int  # 4 or 6: of its addresses; IPv4 in IPv6 is 4
    local_hi: int
    local: int
    local_port: int
    remote_hi: int
    remote: int
    remote_port: int
    state: int  # TCP_*
    rqueue: int  # TCP: bytes received and unread, a FIN counts one; UDP: truesize of what is unread
    rmem_alloc: int  # truesize charged; UDP gives some of it back late (udp_rmem_release)
    rcvbuf: int
    drops: int  # 32 bits
    bytes_received: int  # TCP: since the connection began, without its SYN; -1 when not known
    inode: int  # 0: nobody has accepted it yet, or nobody has it any more
    cookie: int  # tells it from every other
    device: int  # index of the interface that it is bound to
    both_families: bool  # an IPv6 socket that receives IPv4, too

    @property
    def families(self) -> tuple[int, ...]:
        """Of the datagrams that it receives."""
        return (4, 6) if self.both_families else (self.family,)

    @property
    def asked(self) -> Asked:
        """What finds exactly this socket again."""
        family = 6 if self.both_families else self.family
        ends = self.local_hi, self.local, self.local_port, self.remote_hi, self.remote, self.remote_port
        return Asked(self.protocol, family, *ends, self.device, self.cookie)


class SocketDiag:
    """Looks at the sockets of a namespace."""

    def __init__(self, namespace: str = "") -> None:
        """Open it inside the namespace; it is used from outside.

        Raises UsageError where the kernel has no socket diagnostics.
        """
        self._socket = open_in_namespace(namespace, _netlink)
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._sequence = 0

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def look(self) -> list[RealSocket]:
        """Every TCP and UDP socket, listeners too."""
        found = [answer for kind in _KINDS for answer in self._dump(*kind)]
        received = {s.cookie: s.bytes_received for kind in _TCP_KINDS for s in self._dump(*kind)}
        for kind in _TCP_KINDS:
            found.extend(s._replace(bytes_received=received.get(s.cookie, -1)) for s in self._dump(*kind))
        return found

    def look_at(self, asked: Sequence[Asked]) -> list[RealSocket | None]:
        """Each of these sockets; None: it is not there."""
        found: list[RealSocket | None] = []
        for first in range(0, len(asked), _AT_ONCE // 2):
            found.extend(self._look_at_some(tuple(asked[first : first + _AT_ONCE // 2])))
        return found

    def _look_at_some(self, asked: tuple[Asked, ...]) -> list[RealSocket | None]:
        """As `look_at`.  Each answer is in a message of its own, and all are there when `send` returns."""
        if not asked:
            return []
        tcp, message = _questions(asked)
        self._socket.send(message)
        received: dict[int, tuple[bytes, int]] = {}
        found: list[RealSocket | None] = [None] * len(asked)
        buffer, receive, header = self._buffer, self._socket.recv_into, _HEADER.unpack_from
        for _ in range(len(tcp) + len(asked)):
            receive(self._view, 0, socket.MSG_DONTWAIT)
            length, kind, _, number, _ = header(buffer)
            if kind != SOCK_DIAG_BY_FAMILY:
                _refused(buffer, 0)
            elif number < len(tcp):
                info = _attribute(buffer, 0, length, INET_DIAG_INFO)
                received[tcp[number]] = bytes(buffer[_ID_AT:_COUNTS_AT]), _bytes_received(buffer, info)
            else:
                i = number - len(tcp)
                ends, count = received.get(i, (b"", -1))
                same = ends == buffer[_ID_AT:_COUNTS_AT]  # with the cookie
                found[i] = _parsed(buffer, 0, asked[i].protocol, count if same else -1)
        return found

    def _dump(self, family: int, protocol: int) -> list[RealSocket]:
        """All sockets of a family and a protocol; the kernel walks them while we receive."""
        self._sequence += 1
        wanted = WANT_MEMORY if protocol == IPPROTO_UDP else WANT_MEMORY | WANT_INFO
        head = _REQUEST_BYTES, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, self._sequence, 0
        self._socket.send(_HEADER.pack(*head) + _WISH.pack(family, protocol, wanted, 0, ALL_STATES) + bytes(48))
        answers: list[RealSocket] = []
        while not self._chunk(answers, protocol):
            pass
        return answers

    def _chunk(self, answers: list[RealSocket], protocol: int) -> bool:
        """Receive some answers of a dump; whether they are the last."""
        end = self._socket.recv_into(self._view)
        at = 0
        while at < end:
            length, kind, _, sequence, _ = _HEADER.unpack_from(self._buffer, at)
            if sequence == self._sequence:
                if kind == NLMSG_DONE:
                    return True
                if kind == NLMSG_ERROR:
                    _refused(self._buffer, at)
                    return True
                answers.append(_parsed(self._buffer, at, protocol, -1))
            at += (length + 3) & ~3
        return False


def _netlink() -> socket.socket:
    try:
        made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
        made.bind((0, 0))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UsageError(f"this kernel gives no socket diagnostics ({reason}): CONFIG_INET_DIAG is needed") from None
    try:
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 * _BUFFER_BYTES)
    except PermissionError:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * _BUFFER_BYTES)
    return made


def _refused(buffer: bytearray, at: int) -> None:
    """An error instead of an answer: the socket is not there, or (an IPv6 question) there is no such family."""
    number = -struct.unpack_from("=i", buffer, at + _HEADER_BYTES)[0]
    if number not in (0, errno.ENOENT, errno.ESTALE, errno.EAFNOSUPPORT):
        raise UsageError(
            f"socket diagnostics failed: {os.strerror(number)} (CONFIG_INET_TCP_DIAG, CONFIG_INET_UDP_DIAG)"
        )


@lru_cache(maxsize=16)
def _questions(asked: tuple[Asked, ...]) -> tuple[list[int], bytes]:
    """Which of the asked are TCP, and messages: about what these have received, then about all; numbered from 0."""
    tcp = [i for i, one in enumerate(asked) if one.protocol == IPPROTO_TCP]
    wishes = [_wish(asked[i], WANT_INFO) for i in tcp] + [_wish(one, WANT_MEMORY) for one in asked]
    head = _REQUEST_BYTES, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST
    return tcp, b"".join(_HEADER.pack(*head, number, 0) + wish for number, wish in enumerate(wishes))


@lru_cache(maxsize=_REMEMBERED)
def _wish(asked: Asked, wanted: int) -> bytes:
    """A struct inet_diag_req_v2.

    "src and dst are swapped for historical reasons" (udp_dump_one): UDP's lookup takes the source for the peer.
    """
    ends = [
        (asked.local_port, _address_bytes(asked.family, asked.local_hi, asked.local)),
        (asked.remote_port, _address_bytes(asked.family, asked.remote_hi, asked.remote)),
    ]
    if asked.protocol == IPPROTO_UDP:
        ends.reverse()
    family = socket.AF_INET if asked.family == 4 else socket.AF_INET6
    front = _WISH.pack(family, asked.protocol, wanted, 0, ALL_STATES)
    ports_and_addresses = _ID.pack(ends[0][0], ends[1][0], ends[0][1], ends[1][1])
    return front + ports_and_addresses + _DEVICE_COOKIE.pack(asked.device, asked.cookie)


def _address_bytes(family: int, high: int, low: int) -> bytes:
    if family == 4:
        return _IPV4.pack(low)
    return _HALVES.pack(high, low)


def _address(family: int, octets: bytes) -> tuple[int, int, int]:
    """Family, high half and low half."""
    if family == socket.AF_INET:
        return 4, 0, _IPV4.unpack_from(octets)[0]
    if octets[:12] == _V4_MAPPED:
        return 4, 0, _IPV4.unpack_from(octets, 12)[0]
    return 6, *_HALVES.unpack(octets)


@lru_cache(maxsize=_REMEMBERED)
def _ends(raw_family: int, octets: bytes) -> tuple[int, int, int, int, int, int, int, int, int]:
    """Of a struct inet_diag_sockid: family, both ends as in RealSocket, cookie, device."""
    local_port, remote_port, source, destination = _ID.unpack_from(octets)
    device, cookie = _DEVICE_COOKIE.unpack_from(octets, _ID.size)
    family, local_hi, local = _address(raw_family, source)
    _, remote_hi, remote = _address(raw_family, destination)
    return family, local_hi, local, local_port, remote_hi, remote, remote_port, cookie, device


def _attribute(buffer: bytearray, start: int, end: int, wanted: int) -> int:
    """Where an attribute's value begins in the answer from `start` to `end`; 0 when it is not there.

    Answers of a length mostly have it at the same place, which is looked at first.
    """
    place = _PLACES.get((end - start, wanted), 0)
    if place and _ATTRIBUTE.unpack_from(buffer, start + place - 4)[1] == wanted:
        return start + place
    at = start + _ATTRIBUTES_AT
    while at < end:
        length, kind = _ATTRIBUTE.unpack_from(buffer, at)
        if kind == wanted:
            _PLACES[end - start, wanted] = at + 4 - start
            return at + 4
        at += (length + 3) & ~3
    return 0


def _bytes_received(buffer: bytearray, info: int) -> int:
    """What struct tcp_info at `info` says; -1 when there is none."""
    return int(_COUNT.unpack_from(buffer, info + _BYTES_RECEIVED_AT)[0]) if info else -1


def _parsed(buffer: bytearray, at: int, protocol: int, received: int) -> RealSocket:
    """One struct inet_diag_msg with its attributes; -1 for `received`: as it says itself."""
    end = at + _HEADER.unpack_from(buffer, at)[0]
    raw_family, state = _ANSWER.unpack_from(buffer, at + _HEADER_BYTES)
    ends = _ends(raw_family, bytes(buffer[at + _ID_AT : at + _COUNTS_AT]))
    rqueue, _, _, inode = _COUNTS.unpack_from(buffer, at + _COUNTS_AT)
    memory = _attribute(buffer, at, end, INET_DIAG_SKMEMINFO)
    rmem_alloc, rcvbuf, drops = _MEMINFO.unpack_from(buffer, memory) if memory else (0, 0, 0)
    both = False
    if raw_family == socket.AF_INET6 and not any(ends[1:3]):
        only = _attribute(buffer, at, end, INET_DIAG_SKV6ONLY)
        both = only > 0 and buffer[only] == 0
    if protocol == IPPROTO_TCP and received < 0:
        received = _bytes_received(buffer, _attribute(buffer, at, end, INET_DIAG_INFO))
    return RealSocket(protocol, *ends[:7], state, rqueue, rmem_alloc, rcvbuf, drops, received, inode, *ends[7:], both)
