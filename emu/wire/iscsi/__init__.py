"""Scapy layers for iSCSI (RFC 7143): all PDUs of both directions, over TCP port 3260."""
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
