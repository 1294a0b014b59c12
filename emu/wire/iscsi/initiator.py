"""What an iSCSI initiator sends (RFC 7143 11.3 to 11.18)."""

from scapy.fields import (
    BitEnumField,
    BitField,
    ByteField,
    IntField,
    ShortField,
    XByteField,
    XIntField,
    XLongField,
    XShortField,
    XStrFixedLenField,
)

from emu.wire.iscsi.fields import KeyValuesField
from emu.wire.iscsi.names import ISID_TYPES, LOGOUT_REASONS, SNACK_TYPES, STAGES, TASK_ATTRIBUTES, TASK_FUNCTIONS
from emu.wire.iscsi.pdu import ISCSI, answer, data_bytes, layout, opaque_data, request

NO_TAG = 0xFFFFFFFF  # the reserved value of both task tags (11.2.1.8, 11.7.4)


def isid() -> list[object]:
    """Initiator part of a session's identifier, six bytes (RFC 7143 11.12.5)."""
    return [
        BitEnumField("ISID_T", 2, 2, ISID_TYPES),
        BitField("ISID_A", 0, 6),
        XShortField("ISID_B", 0),
        XByteField("ISID_C", 0),
        XShortField("ISID_D", 0),
    ]


class NOPOut(ISCSI):
    """A ping, or the answer to the target's (RFC 7143 11.18)."""

    name = "iSCSI NOP-Out"
    fields_desc = layout(
        [*request(0x00), BitField("F", 1, 1), BitField("Reserved1", 0, 7), ShortField("Reserved2", 0)],
        [
            XLongField("LUN", 0),
            XIntField("ITT", 0),
            XIntField("TTT", NO_TAG),
            IntField("CmdSN", 0),
            IntField("ExpStatSN", 0),
            XStrFixedLenField("Reserved3", bytes(16), 16),
        ],
        opaque_data(),
    )


class SCSICommand(ISCSI):
    """A SCSI command, with immediate data if any (RFC 7143 11.3)."""

    name = "iSCSI SCSI Command"
    always_final = False
    may_have_ahs = True
    later_bits = 0xFF << 40  # RFC 7144 has the command's priority in byte 2
    fields_desc = layout(
        [
            *request(0x01),
            BitField("F", 1, 1),
            BitField("R", 0, 1),
            BitField("W", 0, 1),
            BitField("Reserved1", 0, 2),
            BitEnumField("ATTR", 1, 3, TASK_ATTRIBUTES),
            ShortField("Reserved2", 0),
        ],
        [
            XLongField("LUN", 0),
            XIntField("ITT", 0),
            IntField("ExpectedDataTransferLength", 0),
            IntField("CmdSN", 0),
            IntField("ExpStatSN", 0),
            XStrFixedLenField("CDB", bytes(16), 16),
        ],
        opaque_data(),
    )


class TMFRequest(ISCSI):
    """A request about a task: to abort it, to reset (RFC 7143 11.5)."""

    name = "iSCSI Task Management Function Request"
    may_have_data = False
    fields_desc = layout(
        [
            *request(0x02),
            BitField("F", 1, 1),
            BitEnumField("Function", 1, 7, TASK_FUNCTIONS),
            ShortField("Reserved1", 0),
        ],
        [
            XLongField("LUN", 0),
            XIntField("ITT", 0),
            XIntField("ReferencedTaskTag", NO_TAG),
            IntField("CmdSN", 0),
            IntField("ExpStatSN", 0),
            IntField("RefCmdSN", 0),
            IntField("ExpDataSN", 0),
            XStrFixedLenField("Reserved2", bytes(8), 8),
        ],
        opaque_data(),
    )


class LoginRequest(ISCSI):
    """One step of a login (RFC 7143 11.12)."""

    name = "iSCSI Login Request"
    always_final = False
    fields_desc = layout(
        [
            *request(0x03, immediate=1),
            BitField("T", 0, 1),
            BitField("C", 0, 1),
            BitField("Reserved1", 0, 2),
            BitEnumField("CSG", 0, 2, STAGES),
            BitEnumField("NSG", 0, 2, STAGES),
            ByteField("VersionMax", 0),
            ByteField("VersionMin", 0),
        ],
        [
            *isid(),
            XShortField("TSIH", 0),
            XIntField("ITT", 0),
            ShortField("CID", 0),
            ShortField("Reserved2", 0),
            IntField("CmdSN", 0),
            IntField("ExpStatSN", 0),
            XStrFixedLenField("Reserved3", bytes(16), 16),
        ],
        [KeyValuesField("KeyValues", b"", length_from=data_bytes)],
    )


class TextRequest(ISCSI):
    """Text of a negotiation, or SendTargets (RFC 7143 11.10)."""

    name = "iSCSI Text Request"
    always_final = False
    fields_desc = layout(
        [
            *request(0x04),
            BitField("F", 1, 1),
            BitField("C", 0, 1),
            BitField("Reserved1", 0, 6),
            ShortField("Reserved2", 0),
        ],
        [
            XLongField("LUN", 0),
            XIntField("ITT", 0),
            XIntField("TTT", NO_TAG),
            IntField("CmdSN", 0),
            IntField("ExpStatSN", 0),
            XStrFixedLenField("Reserved3", bytes(16), 16),
        ],
        [KeyValuesField("KeyValues", b"", length_from=data_bytes)],
    )


class DataOut(ISCSI):
    """Data of a write (RFC 7143 11.7)."""

    name = "iSCSI SCSI Data-Out"
    always_final = False
    fields_desc = layout(
        [*answer(0x05), BitField("F", 0, 1), BitField("Reserved1", 0, 7), ShortField("Reserved2", 0)],
        [
            XLongField("LUN", 0),
            XIntField("ITT", 0),
            XIntField("TTT", NO_TAG),
            IntField("Reserved3", 0),
            IntField("ExpStatSN", 0),
            IntField("Reserved4", 0),
            IntField("DataSN", 0),
            IntField("BufferOffset", 0),
            IntField("Reserved5", 0),
        ],
        opaque_data(),
    )


class LogoutRequest(ISCSI):
    """The end of a session or of one of its connections (RFC 7143 11.14)."""

    name = "iSCSI Logout Request"
    may_have_data = False
    fields_desc = layout(
        [
            *request(0x06),
            BitField("F", 1, 1),
            BitEnumField("ReasonCode", 0, 7, LOGOUT_REASONS),
            ShortField("Reserved1", 0),
        ],
        [
            XStrFixedLenField("Reserved2", bytes(8), 8),
            XIntField("ITT", 0),
            ShortField("CID", 0),
            ShortField("Reserved3", 0),
            IntField("CmdSN", 0),
            IntField("ExpStatSN", 0),
            XStrFixedLenField("Reserved4", bytes(16), 16),
        ],
        opaque_data(),
    )


class SNACK(ISCSI):
    """A request to send numbered answers again, or an acknowledgement of data (RFC 7143 11.16)."""

    name = "iSCSI SNACK Request"
    may_have_data = False
    fields_desc = layout(
        [
            *answer(0x10),
            BitField("F", 1, 1),
            BitField("Reserved1", 0, 3),
            BitEnumField("Type", 0, 4, SNACK_TYPES),
            ShortField("Reserved2", 0),
        ],
        [
            XLongField("LUN", 0),
            XIntField("ITT", 0),
            XIntField("TTT", NO_TAG),  # of an R-Data SNACK, its SNACK Tag
            IntField("Reserved3", 0),
            IntField("ExpStatSN", 0),
            XStrFixedLenField("Reserved4", bytes(8), 8),
            IntField("BegRun", 0),
            IntField("RunLength", 0),
        ],
        opaque_data(),
    )
