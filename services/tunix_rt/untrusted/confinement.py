"""What a child process may use: its environment, and what it takes from itself when it starts."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Final

# Nothing else is inherited: tokens, passwords and cloud credentials are variables of many names.
_INHERITED: Final = ("PATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
# One thread: memory limits count the stacks and arenas of every thread, and nothing here is worth a second core.
_FIXED: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_OPEN_FILES: Final = 64
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
ORPHANED: Final = 3


def environment(inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a child: an allow-list of ``inherited`` and fixed settings."""
    kept = {name: inherited[name] for name in _INHERITED if name in inherited}
    if paths := inherited.get("PYTHONPATH"):
        # The child has another working directory.
        kept["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in paths.split(os.pathsep) if path)
    return kept | _FIXED


def confine(memory_bytes: int, parent: int) -> None:
    """Limit this process: ``memory_bytes`` more than it has now, no writing of files, no core dumps, no privileges.

    Memory is what it allocates; files that are mapped for reading do not count. It ends with its parent.
    """
    die_with(parent)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_DATA, (_allocated() + memory_bytes,) * 2)
    else:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))


def die_with(parent: int) -> None:
    """End this process when ``parent`` ends: by the kernel's death signal on Linux. At once if it has ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(ORPHANED)


def _allocated() -> int:
    """Bytes that count against RLIMIT_DATA now."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData:"))
