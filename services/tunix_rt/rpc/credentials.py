"""gRPC's form of the TLS settings, and who presented a client certificate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import grpc

from tunix_rt.rpc.settings import TlsSettings
from tunix_rt.rpc.tls import FileChanges, client_context, server_context


def server_credentials(tls: TlsSettings) -> grpc.ServerCredentials | None:
    """gRPC's form of `server_context`; follows the files. Raises `FailedPrecondition`, which gRPC does not."""
    if server_context(tls) is None:
        return None
    changes = FileChanges(tls)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        return _grpc_files(tls) if changes.found() else None

    return grpc.dynamic_ssl_server_credentials(
        _grpc_files(tls),
        # Called at every handshake; None: as before, which the stubs do not know.
        cast("Callable[[], grpc.ServerCertificateConfiguration]", fetch),
        require_client_authentication=tls.ca_file is not None,
    )


def channel_credentials(tls: TlsSettings) -> grpc.ChannelCredentials:
    """gRPC's form of `client_context`. Raises `FailedPrecondition`."""
    client_context(tls)
    return grpc.ssl_channel_credentials(
        root_certificates=tls.ca_file.read_bytes() if tls.ca_file else None,
        private_key=tls.key_file.read_bytes() if tls.key_file else None,
        certificate_chain=tls.cert_file.read_bytes() if tls.cert_file else None,
    )


def peer_certificate_name(context: Any) -> str | None:
    """The common name of the client certificate of an RPC, else its first alternative name; None without one.

    gRPC has verified the certificate against the CA. ``context`` is a servicer context.
    """
    found = context.auth_context()
    for kind in ("x509_common_name", "x509_subject_alternative_name"):
        for name in found.get(kind, ()):
            return bytes(name).decode(errors="replace")
    return None


def _grpc_files(tls: TlsSettings) -> grpc.ServerCertificateConfiguration:
    assert tls.cert_file is not None and tls.key_file is not None
    return grpc.ssl_server_certificate_configuration(
        [(tls.key_file.read_bytes(), tls.cert_file.read_bytes())],
        root_certificates=tls.ca_file.read_bytes() if tls.ca_file else None,
    )
