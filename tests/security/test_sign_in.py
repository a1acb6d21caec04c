"""People of an OpenID Connect issuer: what its tokens permit here, and which tokens are refused. The issuer is real."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc.jwk import ECKey, RSAKey
from tests.fixtures.issuer import CLIENT_ID, Issuer, running_issuer

from tunix_rt.client import TunixClient
from tunix_rt.contract.enums import Permission, Role
from tunix_rt.errors import FailedPrecondition, InvalidInput, PermissionDenied, Unauthenticated
from tunix_rt.local import LocalPlatform
from tunix_rt.oidc.device import Prompt, sign_in
from tunix_rt.oidc.discovery import Web
from tunix_rt.oidc.verification import KEYS_SECONDS, RETRY_SECONDS, TokenVerifier
from tunix_rt.registry.access.sign_in import principal_name, sign_in_of
from tunix_rt.registry.settings import RegistrySettings

GROUPS = "readers=viewer, makers=editor, leads=approver, leads=editor, owners=admin"


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer() as running:
        running.people = {
            "ann": {"groups": ["makers", "chess"]},
            "bob": {"groups": ["readers"]},
            "eve": {"groups": []},
        }
        yield running


@pytest.fixture(scope="module")
def platform(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    settings = {"ISSUER": issuer.url, "AUDIENCE": f"console, {CLIENT_ID}", "ROLES": GROUPS}
    environment = {f"TUNIX_RT_OIDC_{name}": value for name, value in settings.items()}
    home = tmp_path_factory.mktemp("home")
    with LocalPlatform(home, ports="free", service_counts={"registry": 1}, environment=environment) as running:
        yield running


def client(platform: LocalPlatform, token: str) -> TunixClient:
    return TunixClient(platform.addresses["registry"], token)


def answer(prompt_url: str, person: str, yes: str) -> None:
    """What the person does in a browser."""
    with urlopen(Request(prompt_url, data=f"person={person}&answer={yes}".encode())) as page:
        assert page.status == 200


def login(platform: LocalPlatform, issuer: Issuer, output: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tunix_rt.cli.main", "--home", str(platform.home), "access", "login"]
    options = [f"--issuer={issuer.url}", f"--client-id={CLIENT_ID}", f"--output={output}"]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def prompted(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    found = re.search(r"Open (\S+) and confirm", process.stderr.readline())
    assert found
    return found.group(1)


def test_a_person_signs_in_at_a_terminal_and_works_with_a_session(
    platform: LocalPlatform, issuer: Issuer, tmp_path: Path
) -> None:
    path = tmp_path / "session.token"
    process = login(platform, issuer, path)
    answer(prompted(process), "ann", "yes")
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    secret = path.read_text().strip()
    assert path.stat().st_mode & 0o777 == 0o600 and secret not in shown
    with client(platform, secret) as ann:
        caller = ann.access.caller()
        assert (caller.principal, caller.roles, caller.project) == ("oidc-ann", (Role.EDITOR,), "default")
        assert caller.expire_time is not None and caller.expire_time.timestamp() > time.time() + 11 * 3600
        ann.datasets.build("arith-v1", size=20)
        for refused in (ann.access.create_token, ann.access.create_session):
            with pytest.raises(PermissionDenied, match="session"):
                refused()
        with pytest.raises(FailedPrecondition):
            ann.access.rotate_token()
    with TunixClient(home=platform.home) as admin:
        admin.access.update("oidc-ann", disabled=True)
        for token in (secret, issuer.token("ann")):
            with client(platform, token) as ann, pytest.raises(Unauthenticated):
                ann.access.caller()
        admin.access.update("oidc-ann", disabled=False)


def test_who_says_no_gets_nothing(platform: LocalPlatform, issuer: Issuer, tmp_path: Path) -> None:
    process = login(platform, issuer, tmp_path / "token")
    answer(prompted(process), "ann", "no")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "turned down" in errors
    assert not (tmp_path / "token").exists()


def test_groups_say_what_a_person_may_do(platform: LocalPlatform, issuer: Issuer) -> None:
    with client(platform, issuer.token("bob")) as bob:
        assert bob.access.caller().permissions == (Permission.READ, Permission.GENERATE, Permission.IDENTIFY)
        with pytest.raises(PermissionDenied, match="'edit'"):
            bob.datasets.build("arith-v1", size=20)
        session = bob.access.create_session().secret
    with client(platform, issuer.token("eve")) as eve, pytest.raises(PermissionDenied):
        list(eve.runs.list())
    with client(platform, issuer.token("bob", groups=["leads"], aud=["other", "console"])) as promoted:
        assert set(promoted.access.caller().roles) == {Role.APPROVER, Role.EDITOR}
        wide = promoted.access.create_session().secret
    # A session has what its token had, whatever comes later, and no more than the person has now.
    with client(platform, session) as before, pytest.raises(PermissionDenied):
        before.datasets.build("arith-v1", size=20)
    with client(platform, wide) as promoted:
        promoted.datasets.build("arith-v1", size=20)
    with client(platform, issuer.token("bob")) as bob:
        bob.access.caller()
    with client(platform, wide) as demoted, pytest.raises(PermissionDenied):
        demoted.datasets.build("arith-v1", size=21)


def test_administrators_are_of_the_whole_instance(platform: LocalPlatform, issuer: Issuer) -> None:
    for groups, project in ((["readers"], "default"), (["owners"], ""), (["readers"], "default")):
        with client(platform, issuer.token("max", groups=groups)) as somebody:
            assert somebody.access.caller().project == project
    with TunixClient(home=platform.home) as admin:
        admin.access.update("oidc-max", project="vision")
    with client(platform, issuer.token("max", groups=["makers"])) as somebody:
        assert somebody.access.caller().project == "vision"


def unsigned(issuer: Issuer) -> str:
    _, body, _ = issuer.token("ann").split(".")
    head = encoded(b'{"alg":"none"}')
    return f"{head}.{body}."


def tampered(issuer: Issuer) -> str:
    head, body, signature = issuer.token("bob").split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "==")) | {"groups": ["leads"]}
    body = encoded(json.dumps(claims).encode())
    return f"{head}.{body}.{signature}"


def made_by_hand(issuer: Issuer, head: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """Libraries do not make such tokens."""
    _, body, _ = issuer.token("ann").split(".")
    text = f"{encoded(json.dumps(head).encode())}.{body}"
    return f"{text}.{encoded(sign(text.encode()))}"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed_with_what_is_published(issuer: Issuer) -> str:
    published = issuer.keys[0].as_pem(private=False)
    head = {"alg": "HS256", "kid": issuer.keys[0].kid}
    return made_by_hand(issuer, head, lambda text: hmac.digest(published, text, "sha256"))


def with_an_extension(issuer: Issuer) -> str:
    key = issuer.keys[0].private_key
    head = {"alg": "RS256", "kid": issuer.keys[0].kid, "crit": ["more"], "more": 1}
    return made_by_hand(issuer, head, lambda text: key.sign(text, PKCS1v15(), SHA256()))


REFUSED: dict[str, Any] = {
    "no signature": unsigned,
    "changed claims": tampered,
    "a symmetric signature with the public key": signed_with_what_is_published,
    "another key": lambda i: i.token("ann", key=RSAKey.generate_key(2048)),
    "a key of another kind": lambda i: i.token("ann", key=ECKey.generate_key("P-256"), header={"alg": "ES256"}),
    "an unknown key": lambda i: i.token("ann", header={"kid": "nobody's"}),
    "a number for a key": lambda i: i.token("ann").replace(i.token("ann").split(".")[0], "eyJhbGciOjEsImtpZCI6N30"),
    "an extension that must be understood": with_an_extension,
    "another issuer": lambda i: i.token("ann", iss="https://id.example.org"),
    "no issuer": lambda i: i.token("ann", iss=None),
    "another audience": lambda i: i.token("ann", aud="payroll"),
    "no audience": lambda i: i.token("ann", aud=None),
    "no end": lambda i: i.token("ann", exp=None),
    "an end in the past": lambda i: i.token("ann", exp=int(time.time()) - 120),
    "an end that is no time": lambda i: i.token("ann", exp="tomorrow"),
    "a begin in the future": lambda i: i.token("ann", nbf=int(time.time()) + 600),
    "made in the future": lambda i: i.token("ann", iat=int(time.time()) + 600),
    "nobody": lambda i: i.token("ann", sub=None),
    "somebody who is no text": lambda i: i.token("ann", sub=["ann"]),
    "no JSON": lambda _: "e30.e30.e30",
    "no base64": lambda _: "ä.ö.ü",
    "too long": lambda i: i.token("ann", more="x" * 200_000),
    "nested": lambda _: f"{base64.urlsafe_b64encode(b'[' * 300).decode()}.e30.e30",
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_token_with_a_flaw_is_refused(issuer: Issuer, name: str) -> None:
    verifier = TokenVerifier(issuer.url, [CLIENT_ID], Web())
    assert (await verifier.claims(issuer.token("ann")))["sub"] == "ann"
    with pytest.raises(Unauthenticated):
        await verifier.claims(REFUSED[name](issuer))


async def test_a_token_made_by_hand_is_refused_for_its_extension_only(issuer: Issuer) -> None:
    verifier, key = TokenVerifier(issuer.url, [CLIENT_ID], Web()), issuer.keys[0].private_key
    head = {"alg": "RS256", "kid": issuer.keys[0].kid, "more": 1}
    await verifier.claims(made_by_hand(issuer, head, lambda text: key.sign(text, PKCS1v15(), SHA256())))
    with pytest.raises(Unauthenticated, match="more"):
        await verifier.claims(with_an_extension(issuer))


def test_a_flawed_token_is_refused_by_the_registry(platform: LocalPlatform, issuer: Issuer) -> None:
    for name in ("changed claims", "another audience", "no JSON"):
        with client(platform, REFUSED[name](issuer)) as nobody, pytest.raises(Unauthenticated):
            nobody.access.caller()


async def test_a_new_key_is_found_and_old_ones_outlive_an_issuer_that_is_away() -> None:
    now = [0.0]
    with running_issuer() as issuer:
        issuer.people = {"ann": {}}
        verifier = TokenVerifier(issuer.url, [CLIENT_ID], Web(), clock=lambda: now[0])
        first = issuer.token("ann")
        await verifier.claims(first)
        issuer.rotate()
        second = issuer.token("ann")
        unknown = await asyncio.gather(*(verifier.claims(second) for _ in range(20)), return_exceptions=True)
        assert all(isinstance(error, Unauthenticated) for error in unknown) and issuer.fetches == 1
        now[0] += RETRY_SECONDS + 1
        found = await asyncio.gather(*(verifier.claims(second) for _ in range(20)))
        assert [claims["sub"] for claims in found] == ["ann"] * 20 and issuer.fetches == 2
        with pytest.raises(Unauthenticated):
            await verifier.claims(first)
    now[0] += KEYS_SECONDS + 1
    assert (await verifier.claims(second))["sub"] == "ann"
    with pytest.raises(Unauthenticated, match="cannot be reached"):
        await TokenVerifier(issuer.url, [CLIENT_ID], Web()).claims(second)


def test_a_client_that_asks_too_often_slows_down(issuer: Issuer) -> None:
    issuer.asked.clear()  # former tests' questions are not this client's
    issuer.interval, waits = 3, list[float]()

    def hurried(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            answer(prompts[0].complete_url, "ann", "yes")

    prompts: list[Prompt] = []
    token = sign_in(Web(), issuer.url, CLIENT_ID, "openid", prompts.append, wait=hurried)
    issuer.interval = 1
    assert token.count(".") == 2
    assert waits == [3.0, 3.0, 8.0]


@pytest.mark.parametrize(
    "url", ["http://id.example.org", "ftp://127.0.0.1", "file:///etc/passwd", "https://", "http://[::1", "nonsense"]
)
def test_an_issuer_beyond_this_machine_needs_tls(url: str) -> None:
    with pytest.raises(FailedPrecondition):
        Web().discover(url)


def test_names_of_different_people_differ() -> None:
    names = ["ann", "Ann", "ann@x.org", "ann_40x.org", "auth0|5f", "ä", "a" * 64, "a" * 65, "_", "__", "A" + "0" * 46]
    made = [principal_name(name) for name in names]
    assert len(set(made)) == len(names)
    assert made[:3] == ["oidc-ann", "oidc-_41nn", "oidc-ann_40x.org"]


def test_settings_that_would_let_everybody_in_are_refused() -> None:
    settings = RegistrySettings(oidc_issuer="https://id.example.org", oidc_roles="makers=trainer, =editor, x")
    with pytest.raises(InvalidInput) as refusal:
        sign_in_of(settings, None)  # type: ignore[arg-type]
    fields = [violation.field for violation in refusal.value.violations]
    assert fields == ["oidc_roles"] * 4 + ["oidc_audience"]
