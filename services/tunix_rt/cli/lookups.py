"""What users name loosely, found: the evaluation of a run, the id of a dataset's key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunix_rt.errors import FailedPrecondition

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient


def evaluation_id(client: TunixClient, name: str, evalset: str = "") -> str:
    """``name`` itself where it is an evaluation's id; of a run's id, the run's evaluation (on ``evalset``).

    Raises `FailedPrecondition` when the run has none, or several and no evalset says which.
    """
    if not name.startswith("run-"):
        return name
    run = client.runs.get(name)
    found = list(run.evaluation_ids)
    if evalset:
        keyed = {e: client.evaluations.get(e) for e in found}
        found = [e for e, evaluation in keyed.items() if evalset in (evaluation.evalset_key, evaluation.evalset_id)]
    if not found:
        raise FailedPrecondition(f"{name} has no evaluation{f' on {evalset}' if evalset else ''} yet")
    if len(found) > 1:
        raise FailedPrecondition(f"{name} has several evaluations; name one: {', '.join(found)}")
    return found[0]


def evaluation_of_run(client: TunixClient, name: str, evaluation: str = "") -> str:
    """An evaluation of the run ``name``, or ``name`` itself where it is one; ``evaluation`` is an id or an evalset.

    Raises `FailedPrecondition` when ``evaluation`` is not of that run, and as `evaluation_id` does.
    """
    if not evaluation.startswith("eval-"):
        return evaluation_id(client, name, evaluation)
    found = client.evaluations.get(evaluation)
    if name not in (found.id, found.run_id):
        raise FailedPrecondition(f"{evaluation} is not an evaluation of {name}")
    return found.id
