"""A loop device that goes by itself: the kernel detaches it when the last who has it open is gone, however it went."""

import errno
import fcntl
import os
import struct
from pathlib import Path

CONTROL = Path("/dev/loop-control")
# linux/loop.h
LOOP_CTL_GET_FREE = 0x4C82
LOOP_CONFIGURE = 0x4C0A  # since Linux 5.8
LO_FLAGS_AUTOCLEAR = 4
# struct loop_config: descriptor, block size, struct loop_info64 with its flags at the ninth place, reserved.
_CONFIG = struct.Struct("=II 5Q 4I 64s64s32s 2Q 8Q")
_TRIES = 8  # another program may take the free one first
SECTOR_BYTES = 512  # of the block layer's counters, whatever the device
_WRITTEN_SECTORS = 6  # its place in /sys/block/NAME/stat


def open_loop_device(file: int) -> tuple[int, str]:
    """A loop device over an open file: its descriptor and its name.  Errors: OSError."""
    control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            name = f"loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
            device = os.open(f"/dev/{name}", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, LOOP_CONFIGURE, _config(file))
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise
            else:
                return device, name
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _config(file: int) -> bytes:
    return _CONFIG.pack(file, 0, *[0] * 5, 0, 0, 0, LO_FLAGS_AUTOCLEAR, b"", b"", b"", *[0] * 2, *[0] * 8)


def written_bytes(name: str) -> int:
    """How much has been written to a block device by writes that are complete.

    Source: Documentation/block/stat.rst; a write counts when the device has answered it.
    """
    fields = Path(f"/sys/block/{name}/stat").read_text().split()
    return int(fields[_WRITTEN_SECTORS]) * SECTOR_BYTES


def backing_of(name: str) -> str:
    """The file behind a loop device; "" when it has none."""
    try:
        return Path(f"/sys/block/{name}/loop/backing_file").read_text().strip()
    except OSError:
        return ""
