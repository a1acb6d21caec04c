"""Scores and gate decisions are signed by the registry, and evidence says by whom."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import delete
from sqlalchemy.orm import Session
from sqlmodel import col
from tests.security.conftest import TIMEOUT, Platform, digest_of, request_id
from tests.security.evaluating import REFERENCE, evaluated

from tunix_rt import client as sdk
from tunix_rt.contract.documents import document
from tunix_rt.contract.signatures import is_signed_by, public_key_text, read_public_key
from tunix_rt.contract.statements import gate_decision_statement
from tunix_rt.errors import FailedPrecondition, InvalidInput, NotFound
from tunix_rt.evidence import documents as names
from tunix_rt.evidence.archive import pack, unpack
from tunix_rt.evidence.problems import Problems
from tunix_rt.evidence.verify import verify
from tunix_rt.quality.scorers import BUILT_IN_VERSION
from tunix_rt.registry.app import use_signing_key
from tunix_rt.registry.evaluations.rules import write_score
from tunix_rt.registry.evaluations.tables import EvaluationRow, ScoreValueRow
from tunix_rt.registry.kernel.signing import open_signer
from tunix_rt.v1 import models_pb2

OTHER = public_key_text(Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


async def decided(platform: Platform) -> tuple[models_pb2.GateDecision, str]:
    """A decision on two honest evaluations, and the registry's public key."""
    ann = platform.caller("ann:editor")
    ids = [(await evaluated(platform, digest_of(REFERENCE))).id for _ in range(2)]
    request = models_pb2.DecideGateRequest(
        request_id=request_id(),
        candidate_evaluation_id=ids[1],
        baseline_evaluation_id=ids[0],
    )
    decision = await ann.models.DecideGate(request, timeout=TIMEOUT)
    found = await ann.models.ListSigningKeys(models_pb2.ListSigningKeysRequest(), timeout=TIMEOUT)
    (key,) = found.keys
    assert (key.id, key.current) == (decision.signature.key_id, True)
    assert key.create_time.seconds > 0
    return decision, key.public_key


async def evidence(platform: Platform, evaluation_id: str, scorer_version: str = "") -> bytes:
    """Built as a user builds it."""

    def build() -> bytes:
        with sdk.TunixClient(platform.address, token="ann:editor") as api:
            return sdk.build_evidence(api, evaluation_id, scorer_version=scorer_version).data

    return await asyncio.to_thread(build)


def changed(data: bytes, name: str, before: bytes, after: bytes) -> bytes:
    """A consistent forgery: one file changed, and all checksums made again."""
    contents = unpack(data, Problems())
    assert contents[name].count(before) >= 1
    contents = contents | {name: contents[name].replace(before, after)}
    return pack(contents | {names.SUMS: names.sums_file(contents)})


async def test_a_decision_is_signed_and_one_changed_field_shows(platform: Platform) -> None:
    decision, public_key = await decided(platform)
    found = document(decision, defaults=True)
    key = read_public_key(public_key)
    assert is_signed_by(key, decision.signature.value, gate_decision_statement(found))
    for change in ({"verdict": "FAIL"}, {"actor": "pat"}, {"candidate_model_digest": digest_of("x")}):
        assert not is_signed_by(key, decision.signature.value, gate_decision_statement(found | change))
    assert not is_signed_by(read_public_key(OTHER), decision.signature.value, gate_decision_statement(found))


async def test_evidence_names_its_signer_and_fails_for_another(platform: Platform) -> None:
    decision, public_key = await decided(platform)
    data = await evidence(platform, decision.candidate_evaluation_id)
    found = verify(data)
    assert (found.problems, found.signed_by, found.n_gate_decisions) == ((), public_key, 1)
    assert verify(data, trust=public_key).ok
    wrong = verify(data, trust=OTHER)
    assert (wrong.signed_by, [problem.file for problem in wrong.problems]) == (
        "",
        [names.EVAL_SUMMARY, names.GATE_DECISIONS],
    )
    assert all("not by the trusted key" in problem.reason for problem in wrong.problems)
    with pytest.raises(InvalidInput, match="base64 of 32 bytes"):
        verify(data, trust="ed25519:no")


async def test_a_consistent_forgery_is_not_what_was_signed(platform: Platform) -> None:
    decision, _ = await decided(platform)
    data = await evidence(platform, decision.candidate_evaluation_id)
    forged = changed(data, names.GATE_DECISIONS, b'"actor":"ann"', b'"actor":"pat"')
    reasons = [problem.reason for problem in verify(forged).problems]
    assert reasons == [f"decisions[0] is not what {decision.signature.key_id} has signed"]
    # A prediction that scores the same.
    forged = changed(data, names.PREDICTIONS, b"1 + 1 = 2", b"2 = 1 + 1")
    assert f"is not what {decision.signature.key_id} has signed" in [
        problem.reason for problem in verify(forged).problems if problem.file == names.EVAL_SUMMARY
    ]


async def test_a_former_key_stays_known(platform: Platform, tmp_path: Path) -> None:
    decision, former = await decided(platform)
    use_signing_key(platform.database, platform.dependencies.settings.model_copy(update={"home": tmp_path / "other"}))
    ann = platform.caller("ann:editor")
    pages = []
    request = models_pb2.ListSigningKeysRequest(page_size=1)
    while not pages or request.page_token:
        answer = await ann.models.ListSigningKeys(request, timeout=TIMEOUT)
        pages.append([(key.public_key, key.current) for key in answer.keys])
        request.page_token = answer.next_page_token
    (newest,), (oldest,) = pages
    assert (oldest, newest[1]) == ((former, False), True)
    assert verify(await evidence(platform, decision.candidate_evaluation_id), trust=former).ok


def test_the_key_is_made_once_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key.pem"
    made = open_signer(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert open_signer(path).public_key == made.public_key
    path.chmod(0o644)
    with pytest.raises(FailedPrecondition, match="others may read"):
        open_signer(path)
    path.write_text("no key")
    path.chmod(0o600)
    with pytest.raises(FailedPrecondition, match="cannot be used"):
        open_signer(path)


async def scored_by(platform: Platform, version: str, evaluation_id: str) -> None:
    """Make the score one of an earlier release, as its registry has signed it."""

    def work(session: Session) -> None:
        row = session.get_one(EvaluationRow, evaluation_id)
        row.scorer_version = version
        session.execute(delete(ScoreValueRow).where(col(ScoreValueRow.evaluation_id) == evaluation_id))
        assert row.end_time is not None
        write_score(session, row, row.end_time)

    await platform.database.run_write(work)


async def test_a_score_made_again_is_signed_again_and_the_former_one_keeps_its_evidence(platform: Platform) -> None:
    former, ann = "tunix-rt-scorer/1", platform.caller("ann:editor")
    ids = [(await evaluated(platform, digest_of(REFERENCE))).id for _ in range(2)]
    for each in ids:
        await scored_by(platform, former, each)
    asked = models_pb2.DecideGateRequest(
        request_id=request_id(), candidate_evaluation_id=ids[1], baseline_evaluation_id=ids[0]
    )
    decision = await ann.models.DecideGate(asked, timeout=TIMEOUT)
    assert decision.scorer_version == former
    before = await evidence(platform, ids[1])
    old = verify(before)
    assert (old.problems, old.n_scored_again, old.n_gate_decisions) == ((), 0, 1)
    assert former in old.not_scored_again
    assert old.signed_by.startswith("ed25519:")

    def rescore() -> list[sdk.Evaluation]:
        with sdk.TunixClient(platform.address, token="ann:editor") as api:
            return [api.evaluations.rescore(each) for each in ids]

    ours = (await asyncio.to_thread(rescore))[1]
    assert (ours.verified, ours.identity.scorer_version) == (True, BUILT_IN_VERSION)
    found = verify(await evidence(platform, ids[1]), trust=old.signed_by)
    assert (found.problems, found.n_scored_again, found.not_scored_again) == ((), 2, "")
    # The decision is on the former scores, and so is in their evidence, which is byte for byte what it was.
    assert found.n_gate_decisions == 0
    assert await evidence(platform, ids[1], former) == before
    with pytest.raises(NotFound, match="has no score of 'tunix-rt-scorer/0'"):
        await evidence(platform, ids[1], "tunix-rt-scorer/0")
