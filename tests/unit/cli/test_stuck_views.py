"""What operators look at when something is stuck, as a terminal of 80 columns shows it."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tunix_rt.cli.views import dead_letters, jobs, sweeps
from tunix_rt.cli.visible import safe_console
from tunix_rt.client.resources.dead_letters import DeadLetter
from tunix_rt.client.resources.evaluations import Evaluation
from tunix_rt.client.resources.runs import Run
from tunix_rt.client.resources.sweeps import Sweep
from tunix_rt.v1 import common_pb2, dead_letters_pb2, evaluations_pb2, runs_pb2, sweeps_pb2

RUN = "run-01jd0000000000000000000000"
WARNING = "no worker has served pool 'gpu' since 2026-01-31 10:00 UTC"


def printed(*renderables: Any) -> str:
    stream = io.StringIO()
    console = safe_console(file=stream, width=80)
    for renderable in renderables:
        console.print(renderable)
    return stream.getvalue()


def stamp() -> Timestamp:
    found = Timestamp()
    found.FromDatetime(datetime(2026, 1, 31, 10, tzinfo=UTC))
    return found


def letter(**fields: Any) -> DeadLetter:
    given: dict[str, Any] = {
        "sequence": 123_456,
        "subject": "tunix.cmd.train.cpu",
        "job_id": RUN,
        "job_state": common_pb2.JOB_STATE_FAILED,
        "reason": "InvalidInput: data: not JSON: Expecting value: line 1 column 1 (char 0)",
        "consumer": "train-cpu",
        "time": stamp(),
        "size_bytes": 17,
    }
    return DeadLetter(dead_letters_pb2.DeadLetter(**(given | fields)))


def test_the_list_of_dead_letters_fits_and_says_the_job_and_why() -> None:
    text = printed(dead_letters.letters([letter(), letter(job_id="", job_state=0, subject="tunix.cmd." + "x" * 300)]))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert RUN in text
    words = "".join(text.split())
    assert "FAILED" in words and "unknown" in words and "123456" in words
    assert "InvalidInput:" in words


def test_what_a_dead_letter_says_cannot_steer_the_terminal() -> None:
    shown = letter(
        body='\x1b[2J{"jobId":"[red]x[/red]"}\x9b31m', headers={"x-odd": "a\x1b]0;b\x07"}, reason="[bold]no[/bold]"
    )
    text = printed(*dead_letters.letter(shown))
    assert not {"\x1b", "\x07", "\x9b"} & set(text)
    assert '␛[2J{"jobId":"[red]x[/red]"}<U+009B>31m' in text
    assert "[bold]no[/bold]" in text
    assert "a␛]0;b␇" in text


@pytest.mark.parametrize(
    "shown",
    [
        lambda warning: jobs.run(Run(runs_pb2.Run(id=RUN, state=common_pb2.JOB_STATE_QUEUED, warning=warning))),
        lambda warning: jobs.evaluation(Evaluation(evaluations_pb2.Evaluation(id="eval-1", warning=warning))),
        lambda warning: sweeps.sweep(Sweep(sweeps_pb2.Sweep(id="sweep-1", warning=warning)), []),
    ],
    ids=["run", "evaluation", "sweep"],
)
def test_a_job_that_waits_for_nobody_says_so(shown: Any) -> None:
    assert WARNING in printed(*shown(WARNING))
    assert "warning" not in printed(*shown(""))
