"""What the numbers of iSCSI mean: opcodes and codes of RFC 7143, for Scapy's enumerated fields."""

OPCODES = {  # 11.2.1.2
    0x00: "NOP-Out",
    0x01: "SCSI Command",
    0x02: "Task Management Function Request",
    0x03: "Login Request",
    0x04: "Text Request",
    0x05: "SCSI Data-Out",
    0x06: "Logout Request",
    0x10: "SNACK Request",
    0x1C: "Vendor-specific (initiator) 0x1c",
    0x1D: "Vendor-specific (initiator) 0x1d",
    0x1E: "Vendor-specific (initiator) 0x1e",
    0x20: "NOP-In",
    0x21: "SCSI Response",
    0x22: "Task Management Function Response",
    0x23: "Login Response",
    0x24: "Text Response",
    0x25: "SCSI Data-In",
    0x26: "Logout Response",
    0x31: "Ready To Transfer",
    0x32: "Asynchronous Message",
    0x3C: "Vendor-specific (target) 0x3c",
    0x3D: "Vendor-specific (target) 0x3d",
    0x3E: "Vendor-specific (target) 0x3e",
    0x3F: "Reject",
}

STAGES = {0: "SecurityNegotiation", 1: "LoginOperationalNegotiation", 3: "FullFeaturePhase"}  # 11.12.3

TASK_ATTRIBUTES = {0: "Untagged", 1: "Simple", 2: "Ordered", 3: "Head of queue", 4: "ACA"}  # 11.3.1

SCSI_STATUS = {  # 11.4.2, SAM-2 and later
    0x00: "GOOD",
    0x02: "CHECK CONDITION",
    0x04: "CONDITION MET",
    0x08: "BUSY",
    0x10: "INTERMEDIATE",
    0x14: "INTERMEDIATE-CONDITION MET",
    0x18: "RESERVATION CONFLICT",
    0x22: "COMMAND TERMINATED",
    0x28: "TASK SET FULL",
    0x30: "ACA ACTIVE",
    0x40: "TASK ABORTED",
}

SCSI_RESPONSES = {0x00: "Command completed at target", 0x01: "Target failure"}  # 11.4.3

TASK_FUNCTIONS = {  # 11.5.1
    1: "ABORT TASK",
    2: "ABORT TASK SET",
    3: "CLEAR ACA",
    4: "CLEAR TASK SET",
    5: "LOGICAL UNIT RESET",
    6: "TARGET WARM RESET",
    7: "TARGET COLD RESET",
    8: "TASK REASSIGN",
    9: "QUERY TASK",  # from here on RFC 7144
    10: "QUERY TASK SET",
    11: "I_T NEXUS RESET",
    12: "QUERY ASYNCHRONOUS EVENT",
}

TASK_RESPONSES = {  # 11.6.1
    0: "Function complete",
    1: "Task does not exist",
    2: "LUN does not exist",
    3: "Task still allegiant",
    4: "Task allegiance reassignment not supported",
    5: "Task management function not supported",
    6: "Function authorization failed",
    7: "Function succeeded",  # RFC 7144
    255: "Function rejected",
}

ASYNC_EVENTS = {  # 11.9.1
    0: "SCSI asynchronous event",
    1: "Target requests logout",
    2: "Target will drop the connection",
    3: "Target will drop all connections of the session",
    4: "Target requests parameter negotiation",
    5: "All active tasks of the LUN are being terminated",
    255: "Vendor-specific event",
}

LOGIN_STATUS = {  # 11.13.5: class in the high byte, detail in the low one
    0x0000: "Success",
    0x0101: "Target moved temporarily",
    0x0102: "Target moved permanently",
    0x0200: "Initiator error",
    0x0201: "Authentication failure",
    0x0202: "Authorization failure",
    0x0203: "Not found",
    0x0204: "Target removed",
    0x0205: "Unsupported version",
    0x0206: "Too many connections",
    0x0207: "Missing parameter",
    0x0208: "Can't include in session",
    0x0209: "Session type not supported",
    0x020A: "Session does not exist",
    0x020B: "Invalid during login",
    0x0300: "Target error",
    0x0301: "Service unavailable",
    0x0302: "Out of resources",
}

LOGIN_STATUS_CLASSES = {0: "Success", 1: "Redirection", 2: "Initiator error", 3: "Target error"}  # 11.13.5

ISID_TYPES = {0: "OUI", 1: "EN", 2: "Random", 3: "Reserved"}  # 11.12.5

LOGOUT_REASONS = {0: "Close the session", 1: "Close the connection", 2: "Remove the connection for recovery"}  # 11.14.1

LOGOUT_RESPONSES = {  # 11.15.1
    0: "Closed successfully",
    1: "CID not found",
    2: "Connection recovery is not supported",
    3: "Cleanup failed",
}

SNACK_TYPES = {0: "Data/R2T SNACK", 1: "Status SNACK", 2: "DataACK", 3: "R-Data SNACK"}  # 11.16.1

REJECT_REASONS = {  # 11.17.1
    0x01: "Reserved",
    0x02: "Data (payload) digest error",
    0x03: "SNACK reject",
    0x04: "Protocol error",
    0x05: "Command not supported",
    0x06: "Immediate command reject",
    0x07: "Task in progress",
    0x08: "Invalid data ACK",
    0x09: "Invalid PDU field",
    0x0A: "Long op reject",
    0x0B: "Negotiation reset (deprecated)",
    0x0C: "Waiting for logout",
}

AHS_TYPES = {1: "Extended CDB", 2: "Bidirectional Expected Read-Data Length"}  # 11.2.2.1
