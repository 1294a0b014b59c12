"""What an iSCSI target sends (RFC 7143 11.4 to 11.19)."""

from typing import Any

from scapy.fields import (
    BitEnumField,
    BitField,
    ByteEnumField,
    ByteField,
    ConditionalField,
    FieldLenField,
    IntField,
    ShortField,
    StrLenField,
    XIntField,
    XLongField,
    XShortField,
    XStrFixedLenField,
    XStrLenField,
)

from emu.wire.iscsi.fields import KeyValuesField, StatusDetailField
from emu.wire.iscsi.initiator import NO_TAG, isid
from emu.wire.iscsi.names import (
    ASYNC_EVENTS,
    LOGIN_STATUS_CLASSES,
    LOGOUT_RESPONSES,
    REJECT_REASONS,
    SCSI_RESPONSES,
    SCSI_STATUS,
    STAGES,
    TASK_RESPONSES,
)
from emu.wire.iscsi.pdu import ISCSI, RejectedField, answer, data_bytes, layout, opaque_data

SENSE_LENGTH_BYTES = 2
SCSI_EVENT = 0  # of AsyncEvent


def has_sense(pkt: Any) -> bool:
    """Whether the data segment starts with SenseLength, which it does if there is one at all (RFC 7143 11.4.7)."""
    length = pkt.DataSegmentLength
    return bool(pkt.SenseData or pkt.ResponseData) if length is None else length >= SENSE_LENGTH_BYTES


def has_event_sense(pkt: Any) -> bool:
    """Of asynchronous messages only the one of a SCSI event has sense data (RFC 7143 11.9.4)."""
    if pkt.AsyncEvent != SCSI_EVENT:
        return False
    length = pkt.DataSegmentLength
    return bool(pkt.SenseData or pkt.EventData) if length is None else length >= SENSE_LENGTH_BYTES


def sense(rest: str, condition: Any) -> list[Any]:
    """A data segment with sense data of a stated length and what comes after it (RFC 7143 11.4.7.1, 11.4.7.2)."""

    def sense_bytes(pkt: Any) -> int:
        return min(int(pkt.SenseLength), int(pkt.DataSegmentLength) - SENSE_LENGTH_BYTES) if condition(pkt) else 0

    def rest_bytes(pkt: Any) -> int:
        before = SENSE_LENGTH_BYTES + sense_bytes(pkt) if condition(pkt) else 0
        return max(int(pkt.DataSegmentLength) - before, 0)

    return [
        ConditionalField(FieldLenField("SenseLength", None, length_of="SenseData", fmt="!H"), condition),
        XStrLenField("SenseData", b"", length_from=sense_bytes),
        StrLenField(rest, b"", length_from=rest_bytes),
    ]


class NOPIn(ISCSI):
    """A ping of the target's, or its answer (RFC 7143 11.19)."""

    name = "iSCSI NOP-In"
    fields_desc = layout(
        [*answer(0x20), BitField("F", 1, 1), BitField("Reserved1", 0, 7), ShortField("Reserved2", 0)],
        [
            XLongField("LUN", 0),
            XIntField("ITT", NO_TAG),
            XIntField("TTT", NO_TAG),
            IntField("StatSN", 0),
            IntField("ExpCmdSN", 0),
            IntField("MaxCmdSN", 0),
            XStrFixedLenField("Reserved3", bytes(12), 12),
        ],
        opaque_data(),
    )


class SCSIResponse(ISCSI):
    """How a SCSI command ended, with sense data if any (RFC 7143 11.4)."""

    name = "iSCSI SCSI Response"
    fields_desc = layout(
        [
            *answer(0x21),
            BitField("F", 1, 1),
            BitField("Reserved1", 0, 2),
            BitField("o", 0, 1),
            BitField("u", 0, 1),
            BitField("O", 0, 1),
            BitField("U", 0, 1),
            BitField("Reserved2", 0, 1),
            ByteEnumField("Response", 0, SCSI_RESPONSES),
            ByteEnumField("Status", 0, SCSI_STATUS),
        ],
        [
            XStrFixedLenField("Reserved3", bytes(8), 8),
            XIntField("ITT", 0),
            XIntField("SNACKTag", 0),
            IntField("StatSN", 0),
            IntField("ExpCmdSN", 0),
            IntField("MaxCmdSN", 0),
            IntField("ExpDataSN", 0),
            IntField("BidirectionalReadResidualCount", 0),
            IntField("ResidualCount", 0),
        ],
        sense("ResponseData", has_sense),
    )


class TMFResponse(ISCSI):
    """How a task management function ended (RFC 7143 11.6)."""

    name = "iSCSI Task Management Function Response"
    may_have_data = False
    fields_desc = layout(
        [
            *answer(0x22),
            BitField("F", 1, 1),
            BitField("Reserved1", 0, 7),
            ByteEnumField("Response", 0, TASK_RESPONSES),
            ByteField("Reserved2", 0),
        ],
        [
            XStrFixedLenField("Reserved3", bytes(8), 8),
            XIntField("ITT", 0),
            IntField("Reserved4", 0),
            IntField("StatSN", 0),
            IntField("ExpCmdSN", 0),
            IntField("MaxCmdSN", 0),
            XStrFixedLenField("Reserved5", bytes(12), 12),
        ],
        opaque_data(),
    )


class LoginResponse(ISCSI):
    """The target's step of a login (RFC 7143 11.13)."""

    name = "iSCSI Login Response"
    always_final = False
    fields_desc = layout(
        [
            *answer(0x23),
            BitField("T", 0, 1),
            BitField("C", 0, 1),
            BitField("Reserved1", 0, 2),
            BitEnumField("CSG", 0, 2, STAGES),
            BitEnumField("NSG", 0, 2, STAGES),
            ByteField("VersionMax", 0),
            ByteField("VersionActive", 0),
        ],
        [
            *isid(),
            XShortField("TSIH", 0),
            XIntField("ITT", 0),
            IntField("Reserved2", 0),
            IntField("StatSN", 0),
            IntField("ExpCmdSN", 0),
            IntField("MaxCmdSN", 0),
            ByteEnumField("StatusClass", 0, LOGIN_STATUS_CLASSES),
            StatusDetailField("StatusDetail", 0),
            XStrFixedLenField("Reserved3", bytes(10), 10),
        ],
        [KeyValuesField("KeyValues", b"", length_from=data_bytes)],
    )


class TextResponse(ISCSI):
    """The answer to a text request (RFC 7143 11.11)."""

    name = "iSCSI Text Response"
    always_final = False
    fields_desc = layout(
        [
            *answer(0x24),
            BitField("F", 1, 1),
            BitField("C", 0, 1),
            BitField("Reserved1", 0, 6),
            ShortField("Reserved2", 0),
        ],
        [
            XLongField("LUN", 0),
            XIntField("ITT", 0),
            XIntField("TTT", NO_TAG),
            IntField("StatSN", 0),
            IntField("ExpCmdSN", 0),
            IntField("MaxCmdSN", 0),
            XStrFixedLenField("Reserved3", bytes(12), 12),
        ],
        [KeyValuesField("KeyValues", b"", length_from=data_bytes)],
    )


class DataIn(ISCSI):
    """Data of a read, the last with the status if all went well (RFC 7143 11.7)."""

    name = "iSCSI SCSI Data-In"
    always_final = False
    fields_desc = layout(
        [
            *answer(0x25),
            BitField("F", 0, 1),
            BitField("A", 0, 1),
            BitField("Reserved1", 0, 3),
            BitField("O", 0, 1),
            BitField("U", 0, 1),
            BitField("S", 0, 1),
            ByteField("Reserved2", 0),
            ByteEnumField("Status", 0, SCSI_STATUS),
        ],
        [
            XLongField("LUN", 0),
            XIntField("ITT", 0),
            XIntField("TTT", NO_TAG),
            IntField("StatSN", 0),
            IntField("ExpCmdSN", 0),
            IntField("MaxCmdSN", 0),
            IntField("DataSN", 0),
            IntField("BufferOffset", 0),
            IntField("ResidualCount", 0),
        ],
        opaque_data(),
    )


class LogoutResponse(ISCSI):
    """How a logout ended (RFC 7143 11.15)."""

    name = "iSCSI Logout Response"
    may_have_data = False
    fields_desc = layout(
        [
            *answer(0x26),
            BitField("F", 1, 1),
            BitField("Reserved1", 0, 7),
            ByteEnumField("Response", 0, LOGOUT_RESPONSES),
            ByteField("Reserved2", 0),
        ],
        [
            XStrFixedLenField("Reserved3", bytes(8), 8),
            XIntField("ITT", 0),
            IntField("Reserved4", 0),
            IntField("StatSN", 0),
            IntField("ExpCmdSN", 0),
            IntField("MaxCmdSN", 0),
            IntField("Reserved5", 0),
            ShortField("Time2Wait", 2),
            ShortField("Time2Retain", 20),
            IntField("Reserved6", 0),
        ],
        opaque_data(),
    )


class R2T(ISCSI):
    """Ready To Transfer: the target asks for data of a write (RFC 7143 11.8)."""

    name = "iSCSI Ready To Transfer"
    may_have_data = False
    fields_desc = layout(
        [*answer(0x31), BitField("F", 1, 1), BitField("Reserved1", 0, 7), ShortField("Reserved2", 0)],
        [
            XLongField("LUN", 0),
            XIntField("ITT", 0),
            XIntField("TTT", 0),
            IntField("StatSN", 0),
            IntField("ExpCmdSN", 0),
            IntField("MaxCmdSN", 0),
            IntField("R2TSN", 0),
            IntField("BufferOffset", 0),
            IntField("DesiredDataTransferLength", 0),
        ],
        opaque_data(),
    )


class AsyncMessage(ISCSI):
    """A message of the target's that answers nothing (RFC 7143 11.9)."""

    name = "iSCSI Asynchronous Message"
    fields_desc = layout(
        [*answer(0x32), BitField("F", 1, 1), BitField("Reserved1", 0, 7), ShortField("Reserved2", 0)],
        [
            XLongField("LUN", 0),
            XIntField("ITT", NO_TAG),
            IntField("Reserved3", 0),
            IntField("StatSN", 0),
            IntField("ExpCmdSN", 0),
            IntField("MaxCmdSN", 0),
            ByteEnumField("AsyncEvent", 1, ASYNC_EVENTS),
            ByteField("AsyncVCode", 0),
            ShortField("Parameter1", 0),
            ShortField("Parameter2", 0),
            ShortField("Parameter3", 0),
            IntField("Reserved4", 0),
        ],
        sense("EventData", has_event_sense),
    )


class Reject(ISCSI):
    """A refusal of a PDU, with that PDU's header (RFC 7143 11.17)."""

    name = "iSCSI Reject"
    fields_desc = layout(
        [
            *answer(0x3F),
            BitField("F", 1, 1),
            BitField("Reserved1", 0, 7),
            ByteEnumField("Reason", 0x04, REJECT_REASONS),
            ByteField("Reserved2", 0),
        ],
        [
            XStrFixedLenField("Reserved3", bytes(8), 8),
            XIntField("ITT", NO_TAG),
            IntField("Reserved4", 0),
            IntField("StatSN", 0),
            IntField("ExpCmdSN", 0),
            IntField("MaxCmdSN", 0),
            IntField("DataSN", 0),  # of a rejected Data ACK, its R2TSN or DataSN
            XStrFixedLenField("Reserved5", bytes(8), 8),
        ],
        [RejectedField("RejectedHeader")],
    )
