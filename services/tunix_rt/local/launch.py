"""Replaces itself with a command that the kernel kills when the supervisor dies.

Run as a script (``python -I -S launch.py SUPERVISOR_PID COMMAND…``) because setting the death signal between fork and
exec inside a threaded interpreter is not safe. The setting survives the exec that follows.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    supervisor, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        import ctypes

        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != supervisor:  # it died before the signal was set
        sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
