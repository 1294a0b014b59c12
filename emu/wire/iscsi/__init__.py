"""Scapy layers for iSCSI (RFC 7143): all PDUs of both directions, over TCP port 3260.

    request = SCSICommand(W=1, ITT=1, CmdSN=7, ExpectedDataTransferLength=512, CDB=b"...", Data=bytes(512))
    login = LoginRequest(T=1, CSG=1, NSG=3, KeyValues={"InitiatorName": "iqn.2005-08.org.example:host"})
    packets = sniff(offline="session.pcap", session=TCPSession)  # PDUs as they are, whatever the segments
    for pdu in pdus(stream): ...                                 # the same of one direction's bytes

Lengths, padding and digests are counted where they are not given. Whether there are digests is negotiated, on no wire:

* `SCSICommand(..., digests="header+data")` builds a PDU with both; the default is none.
* `dissect_pdu(octets, HEADER_DIGEST | DATA_DIGEST)` and `pdus(stream, ...)` are told, or follow a `Negotiation`.
* Scapy's TCP session follows the login that it sees.
* `conf.contribs["ISCSI"]["digests"]` is what else holds: for single packets, and sessions whose login is not seen.

Field names are the RFC's, with its abbreviations: ITT, TTT (Initiator Task Tag, Target Transfer Tag), the SNs. Without
a session the PDUs of each TCP segment are dissected alone, and one that started in an earlier segment is an
ISCSIFragment. Retransmissions, and sequence numbers that wrap, are as good as Scapy's session is with them.
"""
# scapy.contrib.description = Internet Small Computer System Interface (iSCSI)
# scapy.contrib.status = loads

from emu.wire.iscsi.ahs import AHS, BidirectionalReadLength, ExtendedCDB
from emu.wire.iscsi.fields import DATA_DIGEST, HEADER_DIGEST, digest, pairs_of, text_of
from emu.wire.iscsi.initiator import (
    NO_TAG,
    SNACK,
    DataOut,
    LoginRequest,
    LogoutRequest,
    NOPOut,
    SCSICommand,
    TextRequest,
    TMFRequest,
)
from emu.wire.iscsi.pdu import ISCSI, ISCSIFragment, dissect_pdu, pdu_bytes, starts_pdu
from emu.wire.iscsi.stream import PORT, Negotiation, pdus
from emu.wire.iscsi.target import (
    R2T,
    AsyncMessage,
    DataIn,
    LoginResponse,
    LogoutResponse,
    NOPIn,
    Reject,
    SCSIResponse,
    TextResponse,
    TMFResponse,
)

__all__ = [
    "AHS",
    "DATA_DIGEST",
    "HEADER_DIGEST",
    "ISCSI",
    "NO_TAG",
    "PORT",
    "R2T",
    "SNACK",
    "AsyncMessage",
    "BidirectionalReadLength",
    "DataIn",
    "DataOut",
    "ExtendedCDB",
    "ISCSIFragment",
    "LoginRequest",
    "LoginResponse",
    "LogoutRequest",
    "LogoutResponse",
    "NOPIn",
    "NOPOut",
    "Negotiation",
    "Reject",
    "SCSICommand",
    "SCSIResponse",
    "TMFRequest",
    "TMFResponse",
    "TextRequest",
    "TextResponse",
    "digest",
    "dissect_pdu",
    "pairs_of",
    "pdu_bytes",
    "pdus",
    "starts_pdu",
    "text_of",
]
