"""Linux namespaces by the C library: a process that has no network, sees no other process, and of all files only the
interpreter's, which it cannot write.

What Python 3.11 has no call for goes through ctypes. Each call that the system refuses raises OSError with its name.
"""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NOBODY = 65534
UNSHARED = {"user": 0x10000000, "mount": 0x20000, "pid": 0x20000000, "net": 0x40000000, "ipc": 0x8000000}
UNSHARED |= {"uts": 0x4000000, "cgroup": 0x2000000}
BIND, RECURSIVE, PRIVATE, NOSUID, NODEV = 0x1000, 0x4000, 0x40000, 0x2, 0x4  # flags of mount(2)
DETACH = 2  # of umount2(2)
PDEATHSIG, DUMPABLE, NO_NEW_PRIVILEGES, SUBREAPER = 1, 4, 38, 36  # of prctl(2)
MOUNT_SETATTR, AT_RECURSIVE, AT_FDCWD = 442, 0x8000, -100  # the call has one number on all machines
READ_ONLY, NO_SETUID = 0x1, 0x2  # its attributes
CAPABILITIES = 0x20080522  # version 3 of capset(2)
SIGKILL = 9
SERVING = 3  # processes of the same user that a program runs in: the one that waits, the tests' and its own
ROOT = "/sys"  # the new root is mounted over this folder: one that is everywhere, and that no program needs
SCRATCH = "/scratch"
SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/nix/store")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *words: Any) -> None:
    """One call of the C library. Raises OSError where it returns -1."""
    if getattr(_LIBC, name)(*words) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def die_with_parent() -> None:
    """From now on this process is killed when the one that made it ends."""
    call("prctl", PDEATHSIG, SIGKILL, 0, 0, 0)


def first_to_go() -> None:
    """Where memory ends, the system kills this process and its children before any other."""
    Path("/proc/self/oom_score_adj").write_text("1000")


def adopt_orphans() -> None:
    """Children of children come to this process when their parents end, also those that tried to get away."""
    call("prctl", SUBREAPER, 1, 0, 0, 0)


def unshare() -> None:
    """New namespaces of every kind for this process; that of processes for its next child."""
    call("unshare", sum(UNSHARED.values()))


def map_users(process: int) -> None:
    """Who a process in a new user namespace is, written by the one that made it: nobody, and root as far as it takes to
    build its root folder where we are root."""
    outside = {"uid": os.getuid(), "gid": os.getgid()}
    Path(f"/proc/{process}/setgroups").write_text("deny")
    for kind, own in outside.items():
        lines = f"0 0 1\n{NOBODY} {NOBODY} 1\n" if os.getuid() == 0 else f"{NOBODY} {own} 1\n"
        Path(f"/proc/{process}/{kind}_map").write_text(lines)


def new_root(folders: Sequence[str], scratch_bytes: int) -> None:
    """This process and its children see these folders and the system's libraries, read-only, and an empty scratch
    folder in memory."""
    _mount("none", "/", flags=RECURSIVE | PRIVATE)
    _mount("tmpfs", ROOT, "tmpfs", NOSUID | NODEV, "size=1m,mode=0755")
    shown: list[str] = []
    for place in (*SYSTEM, *DEVICES, *folders):
        if os.path.lexists(place) and not any(Path(place).is_relative_to(one) for one in shown):
            _show(place)
            shown += [] if os.path.islink(place) else [place]
    os.mkdir(ROOT + SCRATCH)
    if not os.path.lexists(temporary := f"{ROOT}/tmp"):  # nosec B108 - of this root; an interpreter may live there
        os.symlink(SCRATCH, temporary)
    attributes = (ctypes.c_uint64 * 4)(READ_ONLY | NO_SETUID, 0, 0, 0)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    call("syscall", MOUNT_SETATTR, AT_FDCWD, ROOT.encode(), AT_RECURSIVE, ctypes.byref(attributes), size)
    _mount("tmpfs", ROOT + SCRATCH, "tmpfs", NOSUID | NODEV, f"size={scratch_bytes},nr_inodes=4096,mode=0777")
    os.chdir(ROOT)
    call("pivot_root", b".", b".")
    call("umount2", b".", DETACH)
    os.chdir("/")


def _show(place: str) -> None:
    """A folder, a file or a link at its own path in the new root."""
    target = Path(ROOT + place)
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.islink(place):
        target.symlink_to(os.readlink(place))
        return
    if os.path.isdir(place):
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    _mount(place, str(target), flags=BIND | RECURSIVE)


def _mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    words = [word.encode() if word else None for word in (kind, options)]
    try:
        call("mount", source.encode(), target.encode(), words[0], ctypes.c_ulong(flags), words[1])
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"mount {source}") from None


def become_nobody() -> None:
    """Gives up all rights of this process, for good: user, capabilities, and whatever a program may gain by being
    executed. Nobody else of the same user may look into it."""
    if os.getuid() == 0:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    header, none = (ctypes.c_uint32 * 2)(CAPABILITIES, 0), (ctypes.c_uint32 * 6)()
    call("capset", ctypes.byref(header), ctypes.byref(none))
    call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    call("prctl", DUMPABLE, 0, 0, 0, 0)


def limit(limits: Mapping[str, int], alone: bool) -> None:
    """Bounds of this process and of its children, as `sandbox.Limits` names them. alone: no process of the same user
    runs elsewhere, which would count."""
    bounds = {
        resource.RLIMIT_AS: limits["memory"],
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    if alone:
        bounds[resource.RLIMIT_NPROC] = limits["processes"] + SERVING
    for kind, most in bounds.items():
        _bound(kind, most, most)


def limit_time(seconds: int) -> None:
    """Bound of the CPU time of this process and of each of its children: a signal that says why, then the end."""
    _bound(resource.RLIMIT_CPU, seconds, seconds + 1)


def _bound(kind: int, soft: int, hard: int) -> None:
    """Never above what is allowed to this process already."""
    allowed = resource.getrlimit(kind)[1]
    most = hard if allowed == resource.RLIM_INFINITY else min(hard, allowed)
    resource.setrlimit(kind, (min(soft, most), most))
