"""Confinement: what the kernel is asked to forbid to a process that reads bytes of strangers, and to its parent.

The system offers each of these or not; what it does not offer is returned by name, for one line in the log.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38

_NETWORK_CALLS = ("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "sendto", "sendmsg")
_OTHER_PROCESS_CALLS = (
    "execve", "execveat", "fork", "vfork", "kill", "tkill", "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "ptrace",
    "process_vm_readv", "process_vm_writev",
)  # fmt: skip
_KERNEL_CALLS = (
    "add_key", "bpf", "chroot", "delete_module", "finit_module", "init_module", "io_uring_setup", "kexec_load",
    "keyctl", "mount", "move_mount", "open_by_handle_at", "perf_event_open", "pivot_root", "quotactl", "reboot",
    "request_key", "setns", "swapon", "umount2", "unshare", "userfaultfd",
)  # fmt: skip
"""Calls that no decoder makes and that break out of a process or reach rarely used parts of the kernel."""


def hide_memory() -> bool:
    """Make this process unreadable for others of its user: no core dump, no debugger, no `/proc/PID/environ`.

    Returns whether the system can do that.
    """
    return _prctl(_PR_SET_DUMPABLE, 0)


def die_with_parent(parent_pid: int) -> bool:
    """Have this process killed when its parent ends, however that ends. Returns whether the system can do that.

    Ends this process at once when the parent has ended before this call.
    """
    armed = _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(0)
    return armed


def limit_resources(*, memory_bytes: int, file_bytes: int, open_files: int) -> None:
    """Set the limits of address space, written files and open files. No core dump is ever written."""
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_NOFILE: open_files,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        with suppress(OSError, ValueError):  # not every system has all of them
            resource.setrlimit(limit, (value, value))


def forbid_files() -> bool:
    """Forbid to open any file from now on; open ones stay usable. Returns whether the kernel does that (Landlock)."""
    try:
        from landlock import Ruleset  # pyright: ignore[reportMissingTypeStubs]

        Ruleset().apply()
    except Exception:  # the library raises several classes where the kernel has no Landlock
        return False
    return True


def forbid_calls(*, other_programs: bool) -> bool:
    """Forbid the network, rarely used parts of the kernel and, unless `other_programs`, reaching other processes.

    A forbidden call fails with EPERM. Returns whether the kernel does that (seccomp).
    """
    try:
        import pyseccomp  # pyright: ignore[reportMissingTypeStubs]

        calls = (*_NETWORK_CALLS, *_KERNEL_CALLS, *(() if other_programs else _OTHER_PROCESS_CALLS))
        rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
        for name in calls:
            with suppress(OSError, ValueError):  # a call that this processor or library does not know
                rules.add_rule(pyseccomp.ERRNO(errno.EPERM), name)
        if not other_programs:
            # A thread is a clone with CLONE_THREAD, a process one without. The arguments of clone3 cannot be seen, and
            # the C library uses clone where it is told that there is no clone3.
            thread = 0x0001_0000
            rules.add_rule(pyseccomp.ERRNO(errno.EPERM), "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, thread, 0))
            rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
            # Limits of its own only.
            rules.add_rule(pyseccomp.ERRNO(errno.EPERM), "prlimit64", pyseccomp.Arg(0, pyseccomp.NE, 0))
        rules.load()
    except Exception:  # no libseccomp, or a kernel without it: the library raises several classes
        return False
    return True


def forbid_new_rights() -> bool:
    """Forbid this process and its children to gain rights by starting a program. Returns whether that was possible."""
    return _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        return ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0
    except (OSError, AttributeError):
        return False
