/* target/iscsi.h - RFC 7143 on the wire: opcodes, flags, codes, and where the fields of a basic header
 * segment (BHS) are. Names as in the RFC. A header is 48 bytes, read and written with common/wire.h.
 */
#ifndef ISTHMUS_ISCSI_H
#define ISTHMUS_ISCSI_H

enum {
    BHS_BYTES = 48,
    ISCSI_AHS_MAX = 255 * 4,
    ISCSI_NAME_MAX = 223,
    ISCSI_LOGIN_SEGMENT = 8192, /* MaxRecvDataSegmentLength of both sides until they declare another */
};
#define ISCSI_TAG_NONE 0xffffffffu

enum iscsi_opcode {
    ISCSI_NOP_OUT = 0x00,
    ISCSI_SCSI_COMMAND = 0x01,
    ISCSI_TASK_MANAGEMENT = 0x02,
    ISCSI_LOGIN_REQUEST = 0x03,
    ISCSI_TEXT_REQUEST = 0x04,
    ISCSI_DATA_OUT = 0x05,
    ISCSI_LOGOUT_REQUEST = 0x06,
    ISCSI_SNACK = 0x10,
    ISCSI_NOP_IN = 0x20,
    ISCSI_SCSI_RESPONSE = 0x21,
    ISCSI_TASK_MANAGEMENT_RESPONSE = 0x22,
    ISCSI_LOGIN_RESPONSE = 0x23,
    ISCSI_TEXT_RESPONSE = 0x24,
    ISCSI_DATA_IN = 0x25,
    ISCSI_LOGOUT_RESPONSE = 0x26,
    ISCSI_R2T = 0x31,
    ISCSI_ASYNC_MESSAGE = 0x32,
    ISCSI_REJECT = 0x3f,
    ISCSI_OPCODE_MASK = 0x3f,
    ISCSI_IMMEDIATE = 0x40,
};

/* Byte 1. */
enum {
    ISCSI_FINAL = 0x80,
    ISCSI_CMD_READ = 0x40,
    ISCSI_CMD_WRITE = 0x20,
    ISCSI_LOGIN_TRANSIT = 0x80,
    ISCSI_CONTINUE = 0x40, /* Login and Text */
    ISCSI_DATA_STATUS = 0x01,
    ISCSI_RESIDUAL_UNDERFLOW = 0x02,
    ISCSI_RESIDUAL_OVERFLOW = 0x04,
};

/* Where fields are. */
enum {
    AT_OPCODE = 0,
    AT_FLAGS = 1,
    AT_RESPONSE = 2, /* SCSI, task management, logout responses; Reject's reason */
    AT_STATUS = 3,
    AT_VERSION_MAX = 2, /* Login */
    AT_VERSION_MIN = 3, /* Login Request; the response's is the active one */
    AT_TOTAL_AHS_LENGTH = 4,
    AT_DATA_SEGMENT_LENGTH = 5,
    AT_LUN = 8,
    AT_ISID = 8,
    AT_TSIH = 14,
    AT_ITT = 16,  /* Initiator Task Tag */
    AT_EDTL = 20, /* SCSI Command: Expected Data Transfer Length */
    AT_TTT = 20,  /* Target Transfer Tag */
    AT_REFERENCED_TASK_TAG = 20,
    AT_CID = 20,
    AT_CMD_SN = 24, /* requests */
    AT_EXP_STAT_SN = 28,
    AT_STAT_SN = 24, /* responses */
    AT_EXP_CMD_SN = 28,
    AT_MAX_CMD_SN = 32,
    AT_CDB = 32,
    AT_REF_CMD_SN = 32,
    AT_DATA_SN = 36, /* Data-In/Out; R2TSN; ExpDataSN of a SCSI Response */
    AT_LOGIN_STATUS = 36,
    AT_ASYNC_EVENT = 36,
    AT_ASYNC_PARAMETER1 = 38,
    AT_ASYNC_PARAMETER2 = 40,
    AT_ASYNC_PARAMETER3 = 42,
    AT_BUFFER_OFFSET = 40,
    AT_TIME2WAIT = 40,
    AT_TIME2RETAIN = 42,
    AT_RESIDUAL = 44,
    AT_DESIRED_LENGTH = 44,
};

/* Stages of login (CSG, NSG). */
enum { STAGE_SECURITY = 0, STAGE_OPERATIONAL = 1, STAGE_FULL_FEATURE = 3 };

/* Status-Class and Status-Detail of a Login Response. */
enum login_status {
    LOGIN_SUCCESS = 0x0000,
    LOGIN_INITIATOR_ERROR = 0x0200,
    LOGIN_AUTHENTICATION_FAILURE = 0x0201,
    LOGIN_AUTHORIZATION_FAILURE = 0x0202,
    LOGIN_NOT_FOUND = 0x0203,
    LOGIN_TARGET_REMOVED = 0x0204,
    LOGIN_UNSUPPORTED_VERSION = 0x0205,
    LOGIN_TOO_MANY_CONNECTIONS = 0x0206,
    LOGIN_MISSING_PARAMETER = 0x0207,
    LOGIN_CANNOT_INCLUDE = 0x0208,
    LOGIN_SESSION_TYPE = 0x0209,
    LOGIN_NO_SESSION = 0x020a,
    LOGIN_INVALID_REQUEST = 0x020b,
    LOGIN_TARGET_ERROR = 0x0300,
    LOGIN_SERVICE_UNAVAILABLE = 0x0301,
    LOGIN_OUT_OF_RESOURCES = 0x0302,
};

enum reject_reason {
    REJECT_DATA_DIGEST = 0x02,
    REJECT_SNACK = 0x03,
    REJECT_PROTOCOL_ERROR = 0x04,
    REJECT_NOT_SUPPORTED = 0x05,
    REJECT_IMMEDIATE = 0x06, /* too many immediate commands */
    REJECT_TASK_IN_PROGRESS = 0x07,
    REJECT_INVALID_FIELD = 0x09,
    REJECT_LONG_OPERATION = 0x0a,
};

enum tmf_function {
    TMF_ABORT_TASK = 1,
    TMF_ABORT_TASK_SET = 2,
    TMF_CLEAR_ACA = 3,
    TMF_CLEAR_TASK_SET = 4,
    TMF_LOGICAL_UNIT_RESET = 5,
    TMF_TARGET_WARM_RESET = 6,
    TMF_TARGET_COLD_RESET = 7,
    TMF_TASK_REASSIGN = 8,
};

enum tmf_response {
    TMF_COMPLETE = 0,
    TMF_NO_TASK = 1,
    TMF_NO_LUN = 2,
    TMF_NO_REASSIGN = 4,
    TMF_NOT_SUPPORTED = 5,
    TMF_REJECTED = 255,
};

enum { LOGOUT_CLOSE_SESSION = 0, LOGOUT_CLOSE_CONNECTION = 1, LOGOUT_RECOVERY = 2 };
enum { LOGOUT_DONE = 0, LOGOUT_NO_CID = 1, LOGOUT_NO_RECOVERY = 2 };
enum { ASYNC_LOGOUT_REQUEST = 1, ASYNC_DROP_SESSION = 3 };

#endif
