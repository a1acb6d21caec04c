"""TLS of a server from its settings."""

from __future__ import annotations

import ssl

from tunix_rt.errors import FailedPrecondition
from tunix_rt.rpc.settings import TlsSettings


def server_context(tls: TlsSettings) -> ssl.SSLContext | None:
    """What the settings ask for: None is plain text, a certificate turns TLS on, a CA asks clients for theirs.

    Raises `FailedPrecondition` naming the variable that is not set or the files that cannot be used.
    """
    if tls.cert_file is None:
        return None
    if tls.key_file is None:
        raise FailedPrecondition("TUNIX_RT_TLS_CERT_FILE is set without TUNIX_RT_TLS_KEY_FILE")
    files = {"CERT": tls.cert_file, "KEY": tls.key_file, "CA": tls.ca_file}
    missing = [f"TUNIX_RT_TLS_{name}_FILE {path}" for name, path in files.items() if path and not path.is_file()]
    if missing:
        raise FailedPrecondition(f"{' and '.join(missing)}: no such file")
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls.ca_file)
        context.load_cert_chain(tls.cert_file, tls.key_file)
    except OSError as error:  # ssl.SSLError is one
        used = ", ".join(str(path) for path in files.values() if path)
        raise FailedPrecondition(f"TLS cannot be served with {used}: {error}") from error
    if tls.ca_file is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
