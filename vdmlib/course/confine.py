"""What a process that executes a student's code may use: time, memory, files, and as little else as the system allows.

On Linux, where the system permits it (most do for the administrator, many for everybody), the process has no network,
sees no other process, and cannot see files and folders named as hidden; started by the administrator, it goes on as the
user who owns nothing. Where the system refuses, what was refused is left out, and ``isolate`` returns what was done.
"""

import ctypes
import os
import sys
from pathlib import Path

NOBODY = 65534
_NEW = {"files": 0x00020000, "users": 0x10000000, "processes": 0x20000000, "network": 0x40000000, "ipc": 0x08000000}
_PRIVATE, _BIND, _AGAIN, _READ_ONLY = 1 << 18 | 1 << 14, 1 << 12, 1 << 5, 1  # of mount
_SECURE_BITS, _ROOT_IS_NOBODY, _NO_NEW_PRIVILEGES = 28, 3, 38  # of prctl


def limit(megabytes: int, seconds: float):
    """Limits on memory above what is used now, on processor time, on the size of files; no core dumps."""
    import resource

    def lower(kind: int, value: int):
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))

    if (used := _data_in_use()) is not None:
        lower(resource.RLIMIT_DATA, used + megabytes * 2**20)
    lower(resource.RLIMIT_CPU, int(seconds) * 4 + 10)  # beside the clock, which whoever waits for it watches
    lower(resource.RLIMIT_FSIZE, 256 * 2**20)
    lower(resource.RLIMIT_CORE, 0)


def _data_in_use() -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), None)


def isolate(folder: str, hidden: list[str], announce: int) -> list[str]:
    """Leave network, other processes and the hidden folders behind; forks, and returns in the new process only.

    Args:
        folder: the only one that can be written afterwards, where the system allows that.
        hidden: files and folders that are empty afterwards.
        announce: a file descriptor to which the number of the new process is written.

    Returns:
        What was done, of ``"network"``, ``"processes"``, ``"files"``.
    """
    if not sys.platform.startswith("linux"):
        return []
    libc, root = ctypes.CDLL(None, use_errno=True), os.geteuid() == 0
    user, group = os.getuid(), os.getgid()
    wanted = _NEW["network"] | _NEW["processes"] | _NEW["files"] | _NEW["ipc"]
    if libc.unshare(wanted | (0 if root else _NEW["users"])):
        return []
    if not root:
        for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path(f"/proc/self/{name}").write_text(line)
    if child := os.fork():  # The first process of the new room goes on; this one waits for it, and ends as it does.
        os.write(announce, f"{child}\n".encode())
        os.closerange(3, 256)
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    hides = _arrange_files(libc, folder, hidden)
    return ["network", "processes"] + ["files"] * hides


def _arrange_files(libc: ctypes.CDLL, folder: str, hidden: list[str]) -> bool:
    """One folder that can be written, and nothing in those that are hidden."""
    if libc.mount(b"none", b"/", None, _PRIVATE, None):
        return False
    own = folder.encode()
    libc.mount(own, own, None, _BIND, None)
    libc.mount(b"none", b"/", None, _BIND | _AGAIN | _READ_ONLY, None)
    covered = [_cover(libc, path) for path in hidden if not folder.startswith(f"{path}/")]
    if libc.mount(b"proc", b"/proc", b"proc", 0, None):
        covered.append(_cover(libc, "/proc"))
    return all(covered)


def _cover(libc: ctypes.CDLL, path: str) -> bool:
    if Path(path).is_dir():
        return libc.mount(b"none", path.encode(), b"tmpfs", _READ_ONLY, None) == 0
    return not Path(path).exists() or libc.mount(b"/dev/null", path.encode(), None, _BIND, None) == 0


def drop_rights(folder: Path, needed: list[str]):
    """Go on without the administrator's rights, in this folder; as nobody, if what is needed stays readable."""
    if os.geteuid() == 0 and _nobody_reads(needed):
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    if sys.platform.startswith("linux"):  # The rights in its own room would let it uncover what is hidden.
        libc = ctypes.CDLL(None)
        libc.prctl(_SECURE_BITS, _ROOT_IS_NOBODY, 0, 0, 0)
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())


def _nobody_reads(paths: list[str]) -> bool:
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    readable = all(os.access(path, os.R_OK, effective_ids=True) for path in paths)
    os.seteuid(0)
    os.setegid(0)
    return readable
