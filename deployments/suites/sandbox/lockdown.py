"""Takes everything from the calling process that code under test does not need. Standard library only.

Three locks of the Linux kernel, none of which asks for privileges or can be undone: Landlock leaves a
read-only view of Python's library, a seccomp filter leaves system calls that compute and read, resource
limits bound memory, processor time and files. Raises LockdownError where the kernel lacks one of them.
"""

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Iterable
from typing import Any, Final

NOBODY: Final = 65534

# Allowed system calls: number on x86-64, on 64-bit Arm. -1: that machine does not have it.
_CALLS: Final = {
    "read": (0, 63),
    "pread64": (17, 67),
    "readv": (19, 65),
    "close": (3, 57),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "lseek": (8, 62),
    "openat": (257, 56),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    "readlinkat": (267, 78),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "getrandom": (318, 278),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "futex": (202, 98),
    "sched_yield": (24, 124),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "ppoll": (271, 73),
    "pselect6": (270, 72),
    "uname": (63, 160),
    "restart_syscall": (219, 128),
    "open": (2, -1),
    "stat": (4, -1),
    "lstat": (6, -1),
    "poll": (7, -1),
    "access": (21, -1),
    "select": (23, -1),
    "readlink": (89, -1),
    "time": (201, -1),
}
_WRITE: Final = (1, 64)
_MACHINES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, audit number

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446  # the same numbers on every machine
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_SET_PDEATHSIG, _SET_DUMPABLE, _SET_SECCOMP, _SET_NO_NEW_PRIVS = 1, 4, 22, 38
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000


class LockdownError(OSError):
    """The kernel of this machine cannot lock a process down."""


def lock(limits: dict[str, Any], writable: Iterable[int]) -> None:
    """Lock this process for good. It may write to the file descriptors `writable`, and to nothing else."""
    libc = ctypes.CDLL(None, use_errno=True)
    library = os.path.dirname(os.__file__)
    _prctl(libc, _SET_PDEATHSIG, signal.SIGKILL)
    _limit(limits)
    _drop_privileges(libc, library)
    _prctl(libc, _SET_DUMPABLE, 0)
    _prctl(libc, _SET_NO_NEW_PRIVS, 1)
    _restrict_files(libc, library)
    _restrict_calls(libc, list(writable))


def _limit(limits: dict[str, Any]) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu_s"], limits["cpu_s"] + 1))
    for kind, value in (
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (value, value))


def _drop_privileges(libc: ctypes.CDLL, library: str) -> None:
    """Become nobody; where nobody may not read the library, stay but without any capability."""
    if os.geteuid() != 0:
        return
    if _is_public(library):
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        return
    header = struct.pack("Ii", 0x20080522, 0)
    if libc.capset(header, bytes(24)) != 0:
        raise LockdownError(ctypes.get_errno(), "capabilities cannot be dropped")


def _is_public(path: str) -> bool:
    """Whether every user may enter each folder on the way to `path`."""
    while True:
        if not os.stat(path).st_mode & 0o001:
            return False
        if path == os.path.dirname(path):
            return True
        path = os.path.dirname(path)


def _restrict_files(libc: ctypes.CDLL, library: str) -> None:
    """Landlock: read Python's standard library, and nothing else; no network, no signals to others."""
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        raise LockdownError(ctypes.get_errno(), "this kernel has no Landlock (Linux 5.13 or newer has)")
    files = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    network, scope = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    attributes = struct.pack("QQQ", files, network, scope)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if rules < 0:
        raise LockdownError(ctypes.get_errno(), "Landlock gives no rule set")
    _permit(libc, rules, library, _READ_DIR)
    for entry in os.scandir(library):
        if entry.name not in ("site-packages", "dist-packages"):
            _permit(libc, rules, entry.path, _READ_FILE | (_READ_DIR if entry.is_dir() else 0))
    if libc.syscall(_LANDLOCK_RESTRICT, rules, ctypes.c_uint32(0)) != 0:
        raise LockdownError(ctypes.get_errno(), "Landlock does not restrict this process")
    os.close(rules)


def _permit(libc: ctypes.CDLL, rules: int, path: str, access: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", access, handle)
        if libc.syscall(_LANDLOCK_ADD, rules, 1, rule, ctypes.c_uint32(0)) != 0:
            raise LockdownError(ctypes.get_errno(), f"Landlock does not take '{path}'")
    finally:
        os.close(handle)


def _restrict_calls(libc: ctypes.CDLL, writable: list[int]) -> None:
    """seccomp: a list of allowed system calls. Everything else fails with EPERM, a foreign ABI kills."""
    if platform.machine() not in _MACHINES or sys.byteorder != "little":
        raise LockdownError(errno.ENOSYS, f"no list of system calls for '{platform.machine()}'")
    column, architecture = _MACHINES[platform.machine()]
    program = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    for numbers in _CALLS.values():
        if numbers[column] >= 0:
            program += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _ALLOW)]
    program += [(_EQUAL, 1, 0, _WRITE[column]), (_RETURN, 0, 0, _REFUSE), (_LOAD, 0, 0, 16)]
    for descriptor in writable:
        program += [(_EQUAL, 0, 1, descriptor), (_RETURN, 0, 0, _ALLOW)]
    program.append((_RETURN, 0, 0, _REFUSE))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    head = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    _prctl(libc, _SET_SECCOMP, 2, head)


def _prctl(libc: ctypes.CDLL, option: int, value: int, third: Any = 0) -> None:
    if libc.prctl(option, ctypes.c_ulong(value), third, ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise LockdownError(ctypes.get_errno(), f"prctl({option}) is refused")
