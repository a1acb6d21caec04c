"""100,000 rows: in at most ten seconds of processor time, and in memory that does not grow with their number."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROWS = 100_000
MAX_SECONDS = 10.0
# Ids that are given must be compared with all others: a hundred bytes a row at most.
MAX_GROWTH_MIB = 32

PROGRAM = """
import json, resource, sys, time
from pathlib import Path
from tunix_rt.importing.conversion import Options
from tunix_rt.importing.evalset_file import import_evalset
from tunix_rt.importing.trace_file import import_traces

make, few, many = (import_evalset if sys.argv[1] == "evalsets" else import_traces), *map(Path, sys.argv[2:])
def run(path):
    begun = time.process_time()
    make(path, len, Options())
    return time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
_, before = run(few)
seconds, after = run(many)
print(json.dumps({"seconds": seconds, "growth_mib": after - before}))
"""

THOUGHT = "There are {n}*2=<<{n}*2={m}>>{m} crates on the ferry. " * 3


def _thought(n: int) -> str:
    return THOUGHT.format(n=n, m=2 * n)


def gsm8k(n: int) -> dict[str, Any]:
    return {"question": f"A ferry carries 2 rows of {n} crates. How many?", "answer": f"{_thought(n)}\n#### {2 * n}"}


def math(n: int) -> dict[str, Any]:
    return {"problem": f"Find $2x$ for $x={n}$.", "level": "Level 3", "type": "Algebra"} | {
        "solution": f"{_thought(n)} So $\\boxed{{{2 * n}}}$."
    }


def arc(n: int) -> dict[str, Any]:
    choices = {"text": [f"{n} ice", "iron", "wax", "sand"], "label": ["1", "2", "3", "4"]}
    return {"id": f"Mercury_{n}", "question": f"Which melts at {n}?", "choices": choices, "answerKey": str(n % 4 + 1)}


def chat(n: int) -> dict[str, Any]:
    said = f"<think>{_thought(n)}</think>\nThe sum is \\boxed{{{2 * n}}}."
    return {"messages": [{"role": "user", "content": f"{n}+{n}?"}, {"role": "assistant", "content": said}]}


def openai_eval(n: int) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": f"{n}+{n}?"}], "ideal": str(2 * n)}


def lm_eval(n: int) -> dict[str, Any]:
    return {"doc_id": n, "doc": gsm8k(n), "target": "4", "resps": [["4"]], "filter": "none"}


def alpaca(n: int) -> dict[str, Any]:
    return {"instruction": "Add.", "input": f"{n} {n}", "output": f"{_thought(n)}</think>{2 * n}"}


def _jsonl(path: Path, row: Callable[[int], dict[str, Any]], count: int) -> None:
    with path.open("w") as file:
        file.writelines(json.dumps(row(n)) + "\n" for n in range(count))


def _json_list(path: Path, row: Callable[[int], dict[str, Any]], count: int) -> None:
    with path.open("w") as file:
        file.write("[")
        file.writelines((",\n" if n else "") + json.dumps(row(n)) for n in range(count))
        file.write("]")


def _csv(path: Path, row: Callable[[int], dict[str, Any]], count: int) -> None:
    with path.open("w") as file:
        file.writelines(f'"Which is {n}, doubled?",{2 * n},{n},0,1,A\n' for n in range(count))


def _parquet(path: Path, row: Callable[[int], dict[str, Any]], count: int) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([row(n) for n in range(count)]), path, row_group_size=10_000)


def _measured(tmp_path: Path, command: str, write: Any, row: Any) -> dict[str, float]:
    suffix = {_jsonl: ".jsonl", _json_list: ".json", _csv: ".csv", _parquet: ".parquet"}[write]
    few, many = tmp_path / f"few{suffix}", tmp_path / f"many{suffix}"
    write(few, row, 2_000)
    write(many, row, ROWS)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, command, str(few), str(many)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _check(tmp_path: Path, command: str, write: Any, row: Any) -> None:
    found = _measured(tmp_path, command, write, row)
    print(command, write.__name__, row.__name__, found)
    assert found["seconds"] <= MAX_SECONDS
    assert found["growth_mib"] <= MAX_GROWTH_MIB


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "write", "row"),
    [
        ("evalsets", _jsonl, gsm8k),
        ("evalsets", _json_list, gsm8k),
        ("evalsets", _parquet, gsm8k),
        ("evalsets", _jsonl, math),
        ("evalsets", _jsonl, arc),
        ("evalsets", _csv, arc),
        ("evalsets", _jsonl, openai_eval),
        ("evalsets", _jsonl, lm_eval),
        ("datasets", _jsonl, gsm8k),
        ("datasets", _jsonl, math),
        ("datasets", _parquet, chat),
        ("datasets", _jsonl, chat),
        ("datasets", _json_list, alpaca),
    ],
)
def test_a_hundred_thousand_rows(command: str, write: Any, row: Any, tmp_path: Path) -> None:
    _check(tmp_path, command, write, row)
