"""A certificate authority of one's own, and certificates for the platform's services and its clients.

For docker-compose, tests and machines without a certificate authority; on Kubernetes cert-manager does the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tunix_rt.errors import FailedPrecondition

CA_CERTIFICATE, CA_KEY = "ca.pem", "ca.key"
CERTIFICATE, KEY = "cert.pem", "key.pem"
SERVERS = ("nats", "postgres", "registry", "inferencer", "evaluator", "tuner")
CLIENT = "client"
# Every server is also asked on this machine, by its health check.
_LOCAL = ("localhost", "127.0.0.1", "::1")
_NAMESPACE = "tunix-rt"
_CA_DAYS = 3650
# Clocks of machines differ.
_EARLIER = timedelta(minutes=5)


@dataclass(frozen=True)
class Issued:
    """A certificate and what became of it: "created", "renewed" or "kept"."""

    name: str
    status: str
    path: Path
    expires: datetime


def init_certificates(
    directory: Path, *, trainers: Sequence[str], hosts: Sequence[str], days: int, renew: bool = False
) -> list[Issued]:
    """Make what is missing in ``directory``: the CA, and a folder for each service and for clients.

    A folder holds ``cert.pem``, ``key.pem`` (mode 0600) and the CA's ``ca.pem``: what one container needs. ``hosts``
    are further names and addresses of the servers. What exists is kept, ``renew`` replaces everything but the CA.

    Raises `FailedPrecondition` when half of a pair is missing, a kept certificate has expired, is of another CA or
    lacks one of the hosts.
    """
    names = dict.fromkeys([*SERVERS, *trainers, CLIENT])
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = _authority(directory)
    return [_issue(authority, directory / name, name, hosts, days, renew) for name in names]


@dataclass(frozen=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def _authority(directory: Path) -> _Authority:
    certificate, key = directory / CA_CERTIFICATE, directory / CA_KEY
    if not _is_complete(certificate, key):
        fresh = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tunix-RT CA")])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = (
            _builder(name, name, fresh, _CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(fresh, hashes.SHA256())
        )
        _write(key, _key_pem(fresh), 0o600)
        _write(certificate, made.public_bytes(serialization.Encoding.PEM), 0o644)
    loaded = serialization.load_pem_private_key(key.read_bytes(), password=None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise FailedPrecondition(f"{key} is not a key that was made here")
    return _Authority(x509.load_pem_x509_certificate(certificate.read_bytes()), loaded)


def _issue(authority: _Authority, folder: Path, name: str, hosts: Sequence[str], days: int, renew: bool) -> Issued:
    path = folder / CERTIFICATE
    exists = _is_complete(path, folder / KEY)
    wanted = [] if name == CLIENT else [*_own_hosts(name), *hosts]
    if exists and not renew:
        kept = x509.load_pem_x509_certificate(path.read_bytes())
        _check_kept(path, kept, authority, wanted)
        return Issued(name, "kept", path, kept.not_valid_after_utc)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    made = _leaf(authority, key, name, wanted, days)
    _write(folder / CA_CERTIFICATE, authority.pem, 0o644)
    _write(folder / KEY, _key_pem(key), 0o600)
    _write(path, made.public_bytes(serialization.Encoding.PEM), 0o644)
    return Issued(name, "renewed" if exists else "created", path, made.not_valid_after_utc)


def _leaf(
    authority: _Authority, key: ec.EllipticCurvePrivateKey, name: str, hosts: Iterable[str], days: int
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    # Services are clients of each other.
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = _builder(subject, authority.certificate.subject, key, days)
    names = list(_general_names(hosts))
    if names:
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _check_kept(path: Path, kept: x509.Certificate, authority: _Authority, wanted: Iterable[str]) -> None:
    try:
        kept.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise FailedPrecondition(f"{path} is not of the CA in {path.parents[1]}; use --renew") from error
    if kept.not_valid_after_utc <= datetime.now(UTC):
        raise FailedPrecondition(f"{path} expired on {kept.not_valid_after_utc:%Y-%m-%d}; use --renew")
    has = set(kept.extensions.get_extension_for_class(x509.SubjectAlternativeName).value) if [*wanted] else set()
    missing = [str(name.value) for name in _general_names(wanted) if name not in has]
    if missing:
        raise FailedPrecondition(f"{path} is not for {', '.join(missing)}; use --renew")


def _own_hosts(name: str) -> list[str]:
    inside = f"{name}.{_NAMESPACE}"
    return [name, inside, f"{inside}.svc", f"{inside}.svc.cluster.local", *_LOCAL]


def _general_names(hosts: Iterable[str]) -> Iterator[x509.GeneralName]:
    for host in dict.fromkeys(hosts):
        try:
            yield x509.IPAddress(ip_address(host))
        except ValueError:
            yield x509.DNSName(host)


def _is_complete(certificate: Path, key: Path) -> bool:
    if certificate.exists() != key.exists():
        there, gone = (certificate, key) if certificate.exists() else (key, certificate)
        raise FailedPrecondition(f"{there} exists without {gone.name}; restore it, or move {there} away")
    return certificate.exists()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace ``path`` in one step, so that a running server never reads a partial file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.chmod(mode)
    temporary.replace(path)
