"""The README's two clients that use none of our code follow a run from creation to its scorecard."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tunix_rt.client import Dataset, TunixClient
from tunix_rt.local import LocalPlatform

EXAMPLES = Path(__file__).parents[2] / "examples"
SCORECARD = re.compile(r"^scorecard (eval-\S+) primary_score ([0-9.e-]+) \[([0-9.e-]+), ([0-9.e-]+)\]", re.MULTILINE)


def test_plain_grpcio_and_a_shell_on_nats_follow_the_same_run_to_the_same_scorecard(
    platform: LocalPlatform, client: TunixClient, dataset: Dataset
) -> None:
    host, port = platform.addresses["nats"].rsplit(":", 1)
    shell = subprocess.Popen(
        [EXAMPLES / "follow_run.sh", host, port, platform.nats_user, platform.nats_password],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert shell.stdout is not None
        assert shell.stdout.readline() == "following the next run\n"
        plain = subprocess.run(
            [sys.executable, EXAMPLES / "follow_run.py", platform.addresses["registry"], dataset.id, "arith_v1", "12"],
            env={**os.environ, **platform.client_environment()},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert plain.returncode == 0, plain.stderr
        followed, _ = shell.communicate(timeout=60)
    finally:
        if shell.poll() is None:
            shell.kill()
    assert shell.returncode == 0, followed

    by_grpc, by_shell = SCORECARD.search(plain.stdout), SCORECARD.search(followed)
    assert by_grpc is not None and by_shell is not None, (plain.stdout, followed)
    assert by_grpc.group(1) == by_shell.group(1)
    stored = client.evaluations.get(by_grpc.group(1)).scorecard
    for found in (by_grpc, by_shell):
        figures = [float(found.group(i)) for i in (2, 3, 4)]
        assert figures == pytest.approx([stored.primary_score, stored.ci_low, stored.ci_high], abs=5e-5)
    assert re.search(r"^run\.created run-", followed, re.MULTILINE)
    assert re.search(r"^run\.succeeded run-", followed, re.MULTILINE)
    assert "JOB_STATE_SUCCEEDED" in plain.stdout
