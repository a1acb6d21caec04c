"""The alert rules name metrics that the services have, with labels and values that they set."""

import re
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram
from tests.unit.deploy.manifests import DEPLOY

from tunix_rt.observability import metrics
from tunix_rt.rpc.health import BUS_HEALTH, CONSUMER_HEALTH

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "observability" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]


def series() -> set[str]:
    """Every series that a service exports, whether it has a value yet or not."""
    suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
    return {
        family.name + suffix
        for collector in vars(metrics).values()
        if isinstance(collector, Counter | Gauge | Histogram)
        for family in collector.describe()
        for suffix in suffixes[family.type]
    } | {"up"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_rule_names_series_that_exist_and_says_what_to_do(rule: dict[str, Any]) -> None:
    named = set(re.findall(r"\btunix_rt_\w+|\bup\b", rule["expr"]))
    assert named and named <= series()
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"] and rule["annotations"]["description"]


def test_every_health_name_has_an_alert() -> None:
    checks = {found for rule in RULES for found in re.findall(r'check="(\w*)"', rule["expr"])}
    assert checks == {"", BUS_HEALTH, CONSUMER_HEALTH}
