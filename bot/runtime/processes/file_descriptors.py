"""File descriptors: every connection and open file of the process takes one, and the system limits them."""

from __future__ import annotations

import resource

MAX_DESCRIPTORS = 65_536
"""More than the bot ever needs; a hard limit may be unlimited, and some code allocates a table of this size."""


def raise_descriptor_limit() -> None:
    """Raise the soft limit of this process to the hard limit: the usual soft limit of 1,024 is for old programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def descriptor_limit() -> int:
    """Return how many descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
