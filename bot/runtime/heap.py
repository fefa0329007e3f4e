"""The heap of the C library: what a large picture took goes back to the system when the picture is done with."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Names of mallopt(3), in glibc's malloc.h."""

LARGE_BLOCK_BYTES = 2 * 2**20
"""From here on a block is mapped by itself. A usual picture is smaller, and is cheaper from memory that is kept."""

_KEPT_AT_THE_END_BYTES = 4 * 2**20


def give_large_blocks_back() -> None:
    """Have large blocks returned for good, which nothing but glibc needs to be told.

    By itself it learns from the first large block that is freed to take the next ones like it from the heap, where
    anything small that comes to lie behind one keeps all of it: after twenty pictures of 20 MB, 180 MB stayed.
    """
    with suppress(OSError, AttributeError):  # another C library
        set_option = ctypes.CDLL(None).mallopt
        set_option(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
        set_option(_M_TRIM_THRESHOLD, _KEPT_AT_THE_END_BYTES)
