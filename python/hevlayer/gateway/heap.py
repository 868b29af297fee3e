"""The C library's heap, told to keep what it was given.

A relayed answer is a buffer of some 20 KB that lives for a moment. By default glibc hands the heap's free end back to
the kernel at every 128 KiB and asks for it again a few requests later: a tenth of the requests paid for a system call,
and all for page faults (28 of 80 us of a relayed query's kernel time).
"""

import ctypes
import os
from collections.abc import Callable, Mapping
from typing import Final

# As in glibc's malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3

KEPT_BYTES: Final = 64 * 1024 * 1024
GROWN_BY_BYTES: Final = 4 * 1024 * 1024
# Larger buffers are mapped one by one and given back one by one, so that a few huge bodies leave nothing behind.
MAPPED_BYTES_MIN: Final = 1024 * 1024

_OPTIONS: Final = (
    (_M_TRIM_THRESHOLD, KEPT_BYTES, "MALLOC_TRIM_THRESHOLD_"),
    (_M_TOP_PAD, GROWN_BY_BYTES, "MALLOC_TOP_PAD_"),
    (_M_MMAP_THRESHOLD, MAPPED_BYTES_MIN, "MALLOC_MMAP_THRESHOLD_"),
)

SetOption = Callable[[int, int], int]


def keep_heap(environment: Mapping[str, str] = os.environ, set_option: SetOption | None = None) -> bool:
    """Sets the options that the environment does not set itself; whether the C library took them all.

    Args:
        set_option: glibc's `mallopt`, 1 for success; None: that of this process, if it has one.
    """
    if set_option is None:
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    taken = [set_option(option, value) == 1 for option, value, name in _OPTIONS if name not in environment]
    return all(taken)
