"""Numbers in headers are untrusted: whatever they say, the budget stays within its bounds."""

from __future__ import annotations

from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tunix_rt.bus.redelivery import Budget
from tunix_rt.bus.topology import DEAD_COMMANDS, EVALUATE

NOW = 1_800_000_000.0


def delivered(headers: dict[str, str] | None, deliveries: int = 1) -> Msg:
    reply = f"$JS.ACK.TUNIX_CMD.evaluate.{deliveries}.7.7.1700000000000000000.0"
    return Msg(_client=Client(), subject="tunix.cmd.evaluate", reply=reply, headers=headers)


def budget(headers: dict[str, str] | None, deliveries: int = 1) -> Budget:
    return Budget.of(delivered(headers, deliveries), EVALUATE, NOW)


NOT_NUMBERS = [
    "",
    "x",
    "nan",
    "-nan",
    "inf",
    "-inf",
    "Infinity",
    "1e999",
    "-1",
    "-1e300",
    "9" * 5000,
    "0x10",
    "1,5",
    "\x00",
]


@pytest.mark.parametrize("text", NOT_NUMBERS)
@pytest.mark.parametrize("name", ["tunix-failures", "tunix-not-before"])
def test_a_header_that_is_no_finite_positive_number_counts_as_absent(name: str, text: str) -> None:
    assert budget({name: text}) == Budget(failures=0, last_chance=False, deliveries_left=4, wait_seconds=0.0)


@pytest.mark.parametrize("text", ["6", "1e300", "1e18"])
def test_failures_are_at_most_max_deliver(text: str) -> None:
    assert budget({"tunix-failures": text}) == Budget(5, last_chance=True, deliveries_left=4, wait_seconds=0.0)


def test_failures_of_a_copy_and_deliveries_add_up() -> None:
    assert budget({"tunix-failures": "2"}, deliveries=2).failures == 3
    assert budget({"tunix-failures": "2"}, deliveries=9) == Budget(5, True, -4, 0.0)
    assert not budget({"tunix-failures": "3"}).last_chance
    assert budget({"tunix-failures": "4"}).last_chance


@pytest.mark.parametrize("text", [f"{NOW + 3601}", f"{NOW + 1e9}", "1e300"])
def test_no_message_waits_longer_than_an_hour(text: str) -> None:
    assert budget({"tunix-not-before": text}).wait_seconds == 3600.0


def test_a_copy_waits_until_it_is_due_but_not_on_its_last_delivery() -> None:
    headers = {"tunix-not-before": f"{NOW + 12.5}"}
    assert budget(headers).wait_seconds == 12.5
    assert budget(headers, deliveries=5).wait_seconds == 0.0
    assert budget({"tunix-not-before": f"{NOW - 1}"}).wait_seconds == 0.0


def test_a_dead_letter_is_no_copy_and_waits_for_nothing() -> None:
    headers: dict[str, Any] = {"tunix-failures": "4", "tunix-not-before": f"{NOW + 60}"}
    assert Budget.of(delivered(headers), DEAD_COMMANDS, NOW) == Budget(0, False, 4, 0.0)
