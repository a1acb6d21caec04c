"""Builds the search and the course of a plan. Imports Ray Tune, which takes seconds."""

from __future__ import annotations

from tunix_rt.tuner.course import Course
from tunix_rt.tuner.listed_search import ListedSearch
from tunix_rt.tuner.plan import Plan
from tunix_rt.tuner.search import Search
from tunix_rt.tuner.tpe_search import TpeSearch


def build_search(plan: Plan) -> Search:
    """A search in its first state."""
    if plan.tpe is None:
        return ListedSearch(plan.space, plan.seed)
    return TpeSearch(plan.space, plan.seed, plan.mode, plan.tpe)


def build_course(plan: Plan) -> Course:
    """A course at its start. Results come in a fixed order where no trial is stopped early."""
    window = plan.max_concurrent if plan.scheduling is None else None
    return Course(build_search(plan), plan.space.configuration_count, plan.space.repeats, window)
