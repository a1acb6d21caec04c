"""What the registry has acknowledged is on the disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_commit_to_sqlite_waits_for_the_disk(tmp_path: Path) -> None:
    """In a process of its own: the databases of tests do not wait."""
    code = (
        "import sys; from tunix_rt.registry.kernel.database import Database\n"
        "with Database(sys.argv[1]).engine.connect() as connection:\n"
        "    for pragma in ('journal_mode', 'synchronous'):\n"
        "        print(connection.exec_driver_sql(f'PRAGMA {pragma}').scalar())\n"
    )
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/x.sqlite"]
    # 2 is FULL: every commit is synced, and not only every checkpoint of the write-ahead log.
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["wal", "2"]
