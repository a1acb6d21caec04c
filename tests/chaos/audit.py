"""An audit of the registry's tables by SQL alone: what must hold of them whatever was killed. Knows no code of the
platform, only its schema and what it promises.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from itertools import pairwise
from typing import Any

import psycopg

# What may follow what; "" is before the creation.
LEGAL = {
    ("", "QUEUED"),
    ("QUEUED", "RUNNING"),
    ("QUEUED", "CANCELLING"),
    ("QUEUED", "FAILED"),
    ("RUNNING", "SUCCEEDED"),
    ("RUNNING", "FAILED"),
    ("RUNNING", "CANCELLING"),
    ("CANCELLING", "CANCELLED"),
    ("CANCELLING", "SUCCEEDED"),
    ("CANCELLING", "FAILED"),
}
ENDED = "('SUCCEEDED', 'FAILED', 'CANCELLED')"
JOBS = {"runs": "run", "evaluations": "evaluation", "sweeps": "sweep"}

# Each finds rows that must not be there, by what is then wrong.
ROWS = {
    "a job that has ended holds a lease": """
        SELECT id FROM {jobs} WHERE state IN {ended} AND (lease_attempt_id IS NOT NULL OR lease_expire_time IS NOT NULL)
    """,
    "a job has ended and its attempt has not": """
        SELECT {jobs}.id, attempts.number FROM {jobs} JOIN attempts ON attempts.job_id = {jobs}.id
        WHERE {jobs}.state IN {ended} AND (attempts.outcome = 'running' OR attempts.end_time IS NULL)
    """,
    "an epoch has two attempts": """
        SELECT job_id, number, count(*) FROM attempts GROUP BY job_id, number HAVING count(*) > 1
    """,
    "attempts are not numbered from 1 to the job's epoch": """
        SELECT {jobs}.id, {jobs}.epoch, count(attempts.id), max(attempts.number) FROM {jobs}
        LEFT JOIN attempts ON attempts.job_id = {jobs}.id GROUP BY {jobs}.id, {jobs}.epoch
        HAVING count(attempts.id) <> {jobs}.epoch OR coalesce(max(attempts.number), 0) <> {jobs}.epoch
    """,
    "two attempts of a job have succeeded": """
        SELECT job_id, count(*) FROM attempts WHERE outcome = 'succeeded' GROUP BY job_id HAVING count(*) > 1
    """,
    "a job succeeded without an attempt that did": """
        SELECT id FROM {jobs} WHERE state = 'SUCCEEDED' AND id NOT IN
        (SELECT job_id FROM attempts WHERE outcome = 'succeeded')
    """,
    "a job has ended at no time, or has not ended and did": """
        SELECT id, state FROM {jobs} WHERE (state IN {ended}) <> (end_time IS NOT NULL)
    """,
}
RESULTS = {
    "a run succeeded with other than one model": """
        SELECT runs.id, count(model_versions.id) FROM runs LEFT JOIN model_versions ON model_versions.run_id = runs.id
        WHERE runs.state = 'SUCCEEDED' GROUP BY runs.id HAVING count(model_versions.id) <> 1
    """,
    "a run that did not succeed has a model": """
        SELECT runs.id, runs.state FROM runs JOIN model_versions ON model_versions.run_id = runs.id
        WHERE runs.state <> 'SUCCEEDED'
    """,
    "an evaluation succeeded without each item, once a sample": """
        SELECT evaluations.id, count(item_results.item_id), evalsets.item_count, evaluations.samples_per_item
        FROM evaluations JOIN evalsets ON evalsets.id = evaluations.evalset_id
        LEFT JOIN item_results ON item_results.evaluation_id = evaluations.id
        WHERE evaluations.state = 'SUCCEEDED'
        GROUP BY evaluations.id, evalsets.item_count, evaluations.samples_per_item
        HAVING count(item_results.item_id) <> evalsets.item_count * evaluations.samples_per_item
    """,
    "a trial has no run of its own": """
        SELECT trials.id FROM trials LEFT JOIN runs ON runs.id = trials.run_id WHERE runs.id IS NULL
    """,
    "two trials of a sweep have one number, or one run": """
        SELECT sweep_id, number FROM trials GROUP BY sweep_id, number HAVING count(*) > 1
    """,
    "what happened is not published": "SELECT sequence, kind, subject FROM outbox WHERE published_time IS NULL",
    "what happened cannot be published": "SELECT sequence, publish_error FROM outbox WHERE publish_error <> ''",
}


class Tables:
    """A database to read: a path of SQLite, or a URL of PostgreSQL."""

    def __init__(self, where: str) -> None:
        self._where = where

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        if self._where.startswith("postgres"):
            url = self._where.replace("postgresql+psycopg", "postgresql")
            with psycopg.connect(url) as connection:
                return connection.execute(statement).fetchall()  # type: ignore[call-overload,no-any-return]
        with closing(sqlite3.connect(f"file:{self._where}?mode=ro", uri=True)) as connection:
            return connection.execute(statement).fetchall()


def violations(tables: Tables, acknowledged: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong, in words; nothing, if all is well.

    ``acknowledged``: display names, which are unique, by the id that the registry answered to their creation.
    """
    found = [
        f"{what}: {row}"
        for what, statement in ROWS.items()
        for jobs in (JOBS if "{jobs}" in statement else ["runs"])
        for row in tables.rows(statement.format(jobs=jobs, ended=ENDED))
    ]
    found += [f"{what}: {row}" for what, statement in RESULTS.items() for row in tables.rows(statement)]
    found += [*_histories(tables), *_steps(tables), *_facts(tables), *_given(tables, acknowledged or {})]
    return found


def not_ended(tables: Tables) -> list[tuple[Any, ...]]:
    """Jobs that are still to end."""
    statement = "SELECT id, state FROM {jobs} WHERE state NOT IN {ended}"
    return [row for jobs in JOBS for row in tables.rows(statement.format(jobs=jobs, ended=ENDED))]


def unpublished(tables: Tables) -> int:
    """How many events wait to be published."""
    ((count,),) = tables.rows("SELECT count(*) FROM outbox WHERE published_time IS NULL")
    return int(count)


def _histories(tables: Tables) -> Iterable[str]:
    """A job's transitions are a chain from its creation to the state it is in, and each of them is allowed."""
    chains: dict[str, list[tuple[str, str]]] = {}
    for job_id, before, after in tables.rows("SELECT job_id, from_state, to_state FROM transitions ORDER BY sequence"):
        chains.setdefault(job_id, []).append((before, after))
    for jobs in JOBS:
        for job_id, state in tables.rows(f"SELECT id, state FROM {jobs}"):
            chain = chains.get(job_id, [])
            unbroken = all(left[1] == right[0] for left, right in pairwise(chain))
            if not chain or chain[0][0] != "" or chain[-1][1] != state or not unbroken:
                yield f"the history of {job_id}, which is {state}, has a gap: {chain}"
            # An extended sweep, and a job that is tried again, goes on from its end.
            yield from (
                f"{job_id} went from {before} to {after}"
                for before, after in chain
                if (before, after) not in LEGAL and not (before in ENDED and after == "QUEUED")
            )


def _steps(tables: Tables) -> Iterable[str]:
    """Each step of a run that succeeded has one loss; runs that log every step are meant."""
    counts = dict(tables.rows("SELECT run_id, count(DISTINCT step) FROM metrics WHERE key = 'loss' GROUP BY run_id"))
    highest = dict(tables.rows("SELECT run_id, max(step) FROM metrics WHERE key = 'loss' GROUP BY run_id"))
    for run_id, spec in tables.rows("SELECT id, spec FROM runs WHERE state = 'SUCCEEDED'"):
        given = json.loads(spec)["hyperparameters"]
        steps, every = int(given["max_steps"]), int(given["logging_steps"])
        if every == 1 and (counts.get(run_id, 0) != steps or highest.get(run_id) != steps):
            yield f"{run_id} has {counts.get(run_id, 0)} losses up to step {highest.get(run_id)} of {steps} steps"


def _facts(tables: Tables) -> Iterable[str]:
    """One fact tells of each creation and each ending."""
    told, happened = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for (subject,) in tables.rows("SELECT subject FROM outbox WHERE kind = 'fact'"):
        _, _, _, what, resource_id = subject.split(".", 4)
        told[resource_id, what] += 1
    for job_id, before, after in tables.rows("SELECT job_id, from_state, to_state FROM transitions"):
        what = after.lower() if before else "created"
        if what in ("created", "succeeded", "failed", "cancelled"):
            happened[job_id, what] += 1
    for (job_id, what), times in happened.items():
        if told[job_id, what] != times:
            yield f"{job_id} was {what} {times} times, of which {told[job_id, what]} facts tell"


def _given(tables: Tables, acknowledged: Mapping[str, str]) -> Iterable[str]:
    """What was acknowledged is there, once."""
    stored: dict[str, Sequence[str]] = {}
    for run_id, name in tables.rows("SELECT id, display_name FROM runs"):
        stored[name] = [*stored.get(name, ()), run_id]
    for run_id, name in acknowledged.items():
        if stored.get(name, ()) != [run_id]:
            yield f"{name} was acknowledged as {run_id}, and is there as {stored.get(name)}"
