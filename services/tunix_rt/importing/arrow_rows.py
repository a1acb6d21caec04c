"""Rows of Parquet and Arrow files, read by pyarrow in batches. It gets open files, never a name or URI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunix_rt.importing.rows import Row, UnreadableFile

BATCH_ROWS = 512


def parquet_rows(path: Path) -> Iterator[Row]:
    """The rows of a Parquet file."""
    with _reading(path, "Parquet"):
        from pyarrow.parquet import ParquetFile

        with path.open("rb") as file, ParquetFile(file, pre_buffer=False) as table:
            yield from _rows(table.iter_batches(batch_size=BATCH_ROWS, use_threads=False))


def arrow_rows(path: Path) -> Iterator[Row]:
    """The rows of an Arrow IPC file or stream."""
    with _reading(path, "Arrow"):
        from pyarrow import ipc

        with path.open("rb") as file:
            if file.read(6) == b"ARROW1":
                file.seek(0)
                reader = ipc.open_file(file)
                yield from _rows(reader.get_batch(index) for index in range(reader.num_record_batches))
            else:
                file.seek(0)
                yield from _rows(iter(ipc.open_stream(file)))


def _rows(batches: Iterator[Any]) -> Iterator[Row]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            for values in batch.slice(start, BATCH_ROWS).to_pylist():
                number += 1
                yield Row(f"row {number}", values)


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    """Whatever goes wrong with pyarrow, or with having it, becomes one sentence."""
    try:
        import pyarrow
    except ImportError as error:
        raise UnreadableFile(f"{path} is {kind}; to read it, install pyarrow: pip install 'tunix-rt[data]'") from error
    try:
        yield
    except (pyarrow.ArrowException, ValueError, OverflowError, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # of the file itself, not of what is in it
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableFile(f"{path} cannot be read as {kind}: {first}") from error
