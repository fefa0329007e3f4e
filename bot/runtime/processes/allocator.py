"""The allocator of glibc: where blocks of memory come from, and when they return to the system."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3), as in malloc.h."""

MAPPED_BLOCK_BYTES = 2 * 2**20
"""Blocks of this size and more are mapped one by one. A usual image is smaller: cheaper from kept memory."""

KEPT_FREE_BYTES = 4 * 2**20
"""Free memory that stays at the end of the heap for the next image."""


def map_large_blocks_separately() -> None:
    """Fix glibc's thresholds for this process, which glibc would otherwise raise after the first large block.

    Does nothing with another C library. Measured: docs/decisions.md, 2026-11-29.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, MAPPED_BLOCK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_FREE_BYTES)
