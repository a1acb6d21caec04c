"""What is asked of both engines: filters of equal meaning, each with parameters that change from call to call."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mlflow_data import STATUS, milliseconds
from population import BASE_MODELS, DATASETS, OWNERS, POOLS, PROJECTS, TEAMS, Size, created_at


@dataclass(frozen=True)
class Search:
    """One question in both languages."""

    ours: str
    mlflow: str


def _team(source: random.Random, size: Size, datasets: list[str]) -> Search:
    team = f"team-{source.randrange(TEAMS):02d}"
    return Search(f'tags.team = "{team}"', f"tags.team = '{team}'")


def _project_and_state(source: random.Random, size: Size, datasets: list[str]) -> Search:
    project = f"project-{source.randrange(PROJECTS):03d}"
    ours = f'tags.project = "{project}" AND state = SUCCEEDED'
    return Search(ours, f"tags.project = '{project}' AND attributes.status = '{STATUS['SUCCEEDED']}'")


def _state_and_model(source: random.Random, size: Size, datasets: list[str]) -> Search:
    model = source.choice(BASE_MODELS)
    ours = f'state = FAILED AND base_model = "{model}"'
    return Search(ours, f"attributes.status = 'FAILED' AND params.base_model = '{model}'")


def _dataset_and_time(source: random.Random, size: Size, datasets: list[str]) -> Search:
    number, since = source.randrange(DATASETS), created_at(size, source.randrange(size.runs))
    ours = f'dataset_id = "{datasets[number]}" AND create_time < "{since.isoformat()}"'
    theirs = f"params.dataset = 'traces-{number:02d}' AND attributes.start_time < {milliseconds(since)}"
    return Search(ours, theirs)


def _pool_and_owner(source: random.Random, size: Size, datasets: list[str]) -> Search:
    pool, owner = source.choice(POOLS), f"owner-{source.randrange(OWNERS):02d}"
    return Search(f'pool = "{pool}" AND tags.owner = "{owner}"', f"params.pool = '{pool}' AND tags.owner = '{owner}'")


def _ticket(source: random.Random, size: Size, datasets: list[str]) -> Search:
    ticket = f"T-{source.randrange(size.runs):06d}"
    return Search(f'tags.ticket = "{ticket}"', f"tags.ticket = '{ticket}'")


def _name(source: random.Random, size: Size, datasets: list[str]) -> Search:
    number = f"{source.randrange(size.runs):06d}"
    return Search(f'display_name = "*-{number}"', f"attributes.run_name LIKE '%-{number}'")


SEARCHES: Mapping[str, Callable[[random.Random, Size, list[str]], Search]] = {
    "a tag (2 %)": _team,
    "a tag and the state (0.5 %)": _project_and_state,
    "state and base model (0.7 %)": _state_and_model,
    "dataset, older than a time (≤ 5 %)": _dataset_and_time,
    "pool and a tag (1 to 3 %)": _pool_and_owner,
    "a tag that one run has": _ticket,
    "end of a name that one run has": _name,
}


def first_of_each(size: Size, datasets: list[str]) -> list[Search]:
    """One question of each kind."""
    return [make(random.Random(name), size, datasets) for name, make in SEARCHES.items()]
