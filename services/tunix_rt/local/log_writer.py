"""Copies what comes through a pipe into a log of bounded size, until nobody can write into the pipe any more.

Run as a script (``python -I -S log_writer.py LIMIT_BYTES KEPT PATH``) beside a process whose output it keeps. It goes
on while the supervisor is stopped, and writes the last lines of what died with a killed one.
"""

import io
import os
import signal
import sys

CHUNK_BYTES = 1 << 16


class RotatingLog:
    """A log file of at most ``limit`` bytes, with ``kept`` former ones as PATH.1 (the newest), PATH.2, …

    A file ends with a whole line where it can. After an OSError it may be written to again.
    """

    def __init__(self, path: str, limit: int, kept: int) -> None:
        self._path, self._limit, self._kept = path, limit, kept
        self._file: io.FileIO | None = None
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append ``data``; what does not fit begins the next file."""
        while True:
            room = self._room()
            if len(data) <= room:
                self._append(data)
                return
            end = data.rfind(b"\n", 0, max(0, room)) + 1
            if not end and not self._size:
                end = room  # a line that is longer than a file
            self._append(data[:end])
            data = data[end:]
            self._rotate()

    def _room(self) -> int:
        if self._file is None:
            self._file = io.FileIO(self._path, "a")
            self._size = os.fstat(self._file.fileno()).st_size
        return self._limit - self._size

    def _append(self, data: bytes) -> None:
        assert self._file is not None
        rest = memoryview(data)
        while rest:
            written = self._file.write(rest) or 0
            self._size += written
            rest = rest[written:]

    def _rotate(self) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None
        for number in range(self._kept, 0, -1):
            before = f"{self._path}.{number - 1}" if number > 1 else self._path
            if os.path.exists(before):
                os.replace(before, f"{self._path}.{number}")


def main(arguments: list[str]) -> None:
    # Who stops the platform signals everybody in its session: what they say last is written, too.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    limit, kept, path = int(arguments[0]), int(arguments[1]), arguments[2]
    log = RotatingLog(path, limit, kept)
    while data := os.read(sys.stdin.fileno(), CHUNK_BYTES):
        try:
            log.write(data)
        except OSError:  # no space: what is lost is better than a service that waits for its log
            continue


if __name__ == "__main__":
    main(sys.argv[1:])
