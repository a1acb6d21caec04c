"""A database of an earlier release is brought up to date with what is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import JSON, DateTime, Float, Integer, MetaData, String, Table, select
from sqlalchemy.exc import DBAPIError

from tunix_rt.registry.evaluations.tables import EvaluationRow, ScoreValueRow
from tunix_rt.registry.gates.tables import GateDecisionRow, GatePolicyRow
from tunix_rt.registry.kernel.columns import TagIs
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.runs.tables import MetricRow, RunRow
from tunix_rt.registry.schema import migrate
from tunix_rt.registry.sweeps.tables import SweepRow, TrialRow, sweep_spec, trial_count
from tunix_rt.registry.tables import METADATA

NOW = datetime(2026, 5, 1, tzinfo=UTC)
CARD = {
    "coverage": 1.0,
    "primary_score": 0.75,
    "ci_low": 0.5,
    "ci_high": 0.9,
    "metric_means": {"answer_correctness": 0.75, "trace_tokens": 40.5},
    "slices": [
        {"dimension": "section", "value": "core", "primary_score": 0.8, "ci_low": 0.4, "ci_high": 1.0},
        {"dimension": "category", "value": "sums", "primary_score": None, "ci_low": None, "ci_high": None},
    ],
}
SPEC = {
    "hyperparameters": {"learningRate": 1e-3, "maxSteps": "20", "lora": {"rank": 8, "targetModules": ["all-linear"]}}
}


@pytest.fixture
def first_release(empty_database_url: str) -> Iterator[Database]:
    """A database of revision 0001 with a run, two evaluations, a policy, a decision and a promotion."""
    database = Database(empty_database_url)
    migrate(database, "0001")
    with database.write() as session:
        tables = MetaData()
        tables.reflect(session.connection())

        def insert(table: str, **given: Any) -> None:
            session.execute(tables.tables[table].insert().values(blank(tables.tables[table]) | given))

        insert("evalsets", id="es-1", digest="sha256:e")
        insert("model_versions", id="model-1", name="tiny", version=1, run_id="run-1")
        insert("runs", id="run-1", dataset_id="ds-1", spec=json.dumps(SPEC), tags={"team": "a"})
        of_all = {"model_id": "model-1", "evalset_id": "es-1", "evalset_digest": "sha256:e", "scorer_version": "1"}
        insert("evaluations", id="eval-1", run_id="run-1", scorecard=CARD, generation_digest="sha256:g", **of_all)
        short = CARD | {"coverage": 0.5}
        insert("evaluations", id="eval-2", run_id=None, scorecard=short, generation_digest="sha256:g", **of_all)
        insert("gate_policies", id="pol-1", name="strict", version=1)
        insert(
            "gate_decisions",
            id="gate-1",
            policy_id="pol-1",
            baseline_evaluation_id="eval-1",
            candidate_evaluation_id="eval-2",
        )
        insert("promotions", id="promo-1", to_model_id="model-1")
        insert("item_results", evaluation_id="eval-1", item_id="q1", sample_index=0)
        insert("metrics", run_id="run-1", key="loss", step=3, value=0.5)
    yield database
    database.close()


def blank(table: Table) -> dict[str, Any]:
    """Something for every column that must not be empty."""
    kinds = {DateTime: NOW, JSON: {}, Integer: 0, Float: 0.0, String: ""}
    return {
        column.name: next(value for kind, value in kinds.items() if isinstance(column.type, kind))
        for column in table.columns
        if not column.nullable
    }


def test_what_leaderboards_and_filters_need_is_filled_from_what_is_stored(first_release: Database) -> None:
    migrate(first_release)
    with first_release.read() as session:
        values = session.execute(select(ScoreValueRow).order_by("evaluation_id", "name")).scalars().all()
        assert [(each.evaluation_id, each.name, each.value, each.ci_low, each.ci_high) for each in values] == [
            ("eval-1", "coverage", 1.0, None, None),
            ("eval-1", "metrics.answer_correctness", 0.75, None, None),
            ("eval-1", "metrics.trace_tokens", 40.5, None, None),
            ("eval-1", "primary_score", 0.75, 0.5, 0.9),
            ("eval-1", "sections.core", 0.8, 0.4, 1.0),
            ("eval-2", "coverage", 0.5, None, None),
        ]
        first, second = session.get_one(EvaluationRow, "eval-1"), session.get_one(EvaluationRow, "eval-2")
        assert (first.model_name, first.dataset_id) == ("tiny", "ds-1")
        assert first.config == {"learning_rate": 1e-3, "max_steps": 20, "lora.rank": 8}
        assert first.metric_means == CARD["metric_means"]
        assert (second.model_name, second.dataset_id, second.config) == ("tiny", "", {})
        policy, decision = session.get_one(GatePolicyRow, "pol-1"), session.get_one(GateDecisionRow, "gate-1")
        assert (policy.metric, policy.higher_is_better, policy.slices) == ("answer_correctness", True, [])
        assert (decision.metric, decision.slices, decision.baseline_evaluation_id) == (
            "answer_correctness",
            [],
            "eval-1",
        )


def test_runs_of_an_earlier_release_know_whose_checkpoint_they_start_from(first_release: Database) -> None:
    migrate(first_release, "0014")
    with first_release.write() as session:
        tables = MetaData()
        tables.reflect(session.connection())
        runs = tables.tables["runs"]
        spec = json.dumps({"base_model": "preset://tiny", "initial_checkpoint": {"run_id": "run-1", "step": "5"}})
        session.execute(runs.insert().values(blank(runs) | {"id": "run-2", "spec": spec}))
    migrate(first_release)
    with first_release.read() as session:
        found = {run.id: (run.initial_run_id, run.archive_time) for run in session.scalars(select(RunRow))}
    assert found == {"run-1": ("", None), "run-2": ("run-1", None)}


def test_trials_of_an_earlier_release_are_configurations_of_their_own(first_release: Database) -> None:
    with first_release.write() as session:
        tables = MetaData()
        tables.reflect(session.connection())
        spec = json.dumps({"algorithm": "SEARCH_ALGORITHM_RANDOM", "numSamples": 3, "maxConcurrentTrials": 1})
        sweeps, trials = tables.tables["sweeps"], tables.tables["trials"]
        session.execute(sweeps.insert().values(blank(sweeps) | {"id": "sweep-1", "spec": spec}))
        for number in range(2):
            given = {"id": f"trial-{number}", "sweep_id": "sweep-1", "number": number, "run_id": f"run-{number}"}
            session.execute(trials.insert().values(blank(trials) | given))
    migrate(first_release)
    with first_release.read() as session:
        stored = session.scalars(select(TrialRow).order_by("number")).all()
        assert [(each.configuration, each.repeat, each.observed) for each in stored] == [(0, 0, []), (1, 0, [])]
        sweep = session.get_one(SweepRow, "sweep-1")
        assert sweep.paused is False
        # What its spec does not say yet has its default.
        assert (sweep_spec(sweep).repeats, trial_count(sweep)) == (1, 3)


def test_the_filled_values_stand_on_the_board_that_new_ones_join(first_release: Database) -> None:
    from tunix_rt.registry.evaluations.score_values import board_of, values_of

    migrate(first_release)
    with first_release.read() as session:
        rows = session.execute(select(ScoreValueRow).where(ScoreValueRow.evaluation_id == "eval-1")).scalars().all()
    assert {each.board for each in rows} == {board_of("default", "sha256:e", "1", "sha256:g")}
    assert {(each.name, each.value, each.ci_low, each.ci_high) for each in rows} == {
        (each.name, each.value, each.low, each.high) for each in values_of(CARD)
    }


def test_runs_keep_their_tags_and_metrics(first_release: Database) -> None:
    migrate(first_release)
    with first_release.read() as session:
        found = session.execute(select(RunRow).where(TagIs(RunRow.tags, "team", "a"))).scalars().one()
        assert found.tags == {"team": "a"}
        point = session.get_one(MetricRow, ("run-1", "loss", 3))
        assert (point.value, point.time) == (0.5, NOW)


def test_the_migrated_schema_is_the_declared_one(first_release: Database) -> None:
    migrate(first_release)
    with first_release.engine.connect() as connection:
        # SQLite has no index on what an object contains.
        without = {"ix_runs_tags", "ix_evaluations_tags"} if first_release.is_sqlite else set()
        here = {"include_object": lambda _, name, *more: name not in without}
        assert compare_metadata(MigrationContext.configure(connection, opts=here), METADATA) == []


@pytest.mark.parametrize("table", ["baselines", "gate_decisions", "gate_policies", "promotions", "score_values"])
def test_the_database_itself_refuses_to_rewrite_history(first_release: Database, table: str) -> None:
    migrate(first_release)
    with first_release.write() as session:
        if table == "baselines":
            sql = (
                "INSERT INTO baselines (id, name, revision, evaluation_id, run_id, model_id, identity, locked_by, note,"
                " create_time) VALUES ('base-1', 'b', 1, 'eval-1', '', 'model-1', '{}', '', '', '2026-05-01')"
            )
            session.connection().exec_driver_sql(sql)
    key = "evaluation_id" if table == "score_values" else "id"
    # What a board is ordered by follows from scorecards: it is not changed, but goes with a deleted evaluation.
    deletions = [] if table == "score_values" else [f"DELETE FROM {table}"]
    for statement in (f"UPDATE {table} SET {key} = 'x'", *deletions):
        with pytest.raises(DBAPIError, match="written once"), first_release.write() as session:
            session.connection().exec_driver_sql(statement)
    with first_release.read() as session:
        assert session.connection().exec_driver_sql(f"SELECT count(*) FROM {table} WHERE {key} != 'x'").scalar()
