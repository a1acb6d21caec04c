"""TLS from the settings, for servers and clients; and the rule that nothing is open or secret in clear by oversight.

Certificates are read again when their files change: every new connection is made with the files of the day.
"""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from tunix_rt.errors import FailedPrecondition
from tunix_rt.rpc.settings import TlsSettings

_INSECURE: Final = "or TUNIX_RT_INSECURE=yes where the network itself is trusted"


def server_context(tls: TlsSettings) -> ssl.SSLContext | None:
    """What the settings ask for: None is plain text, a certificate turns TLS on, a CA asks clients for theirs.

    Raises `FailedPrecondition` naming the variable that is not set or the files that cannot be used.
    """
    if (tls.bind_principals or tls.principals) and (tls.ca_file is None or tls.cert_file is None):
        raise FailedPrecondition(
            "TUNIX_RT_TLS_BIND_PRINCIPALS and TUNIX_RT_TLS_PRINCIPALS need TUNIX_RT_TLS_CERT_FILE and "
            "TUNIX_RT_TLS_CA_FILE: without them, clients show no certificate"
        )
    if tls.cert_file is None:
        if tls.ca_file is not None:
            raise FailedPrecondition(
                "TUNIX_RT_TLS_CA_FILE is set without TUNIX_RT_TLS_CERT_FILE: a server would answer in plain text"
            )
        return None
    context = _fresh_server_context(tls)
    changes, current = FileChanges(tls), [context]

    def follow(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        if changes.found():
            current[0] = _fresh_server_context(tls)
        connection.context = current[0]

    context.sni_callback = follow  # called at every handshake, whether or not the client names a server
    return context


def client_context(tls: TlsSettings) -> ssl.SSLContext:
    """For connections to servers of the CA, or of the system's; presents the certificate if there is one.

    Raises `FailedPrecondition` as `server_context`.
    """
    context = ssl.create_default_context() if tls.ca_file is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    load_files(context, tls)
    return context


def _fresh_server_context(tls: TlsSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    load_files(context, tls)
    if tls.ca_file is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def load_files(context: ssl.SSLContext, tls: TlsSettings) -> None:
    """Put certificate, key and CA into ``context``. Raises `FailedPrecondition`; the context may then be unusable."""
    if tls.cert_file is not None and tls.key_file is None:
        raise FailedPrecondition("TUNIX_RT_TLS_CERT_FILE is set without TUNIX_RT_TLS_KEY_FILE")
    files = {"CERT": tls.cert_file, "KEY": tls.key_file, "CA": tls.ca_file}
    missing = [f"TUNIX_RT_TLS_{name}_FILE {path}" for name, path in files.items() if path and not path.is_file()]
    if missing:
        raise FailedPrecondition(f"{' and '.join(missing)}: no such file")
    try:
        if tls.ca_file is not None:
            context.load_verify_locations(tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except OSError as error:  # ssl.SSLError is one
        used = ", ".join(str(path) for path in files.values() if path)
        raise FailedPrecondition(f"TLS is not possible with {used}: {error}") from error


def is_loopback(address: str) -> bool:
    """Whether ``host:port`` (or ``[host]:port``, or a Unix socket) stays on this machine."""
    if address.startswith(("unix:", "/")):
        return True
    host = address.rpartition(":")[0].strip("[]").removeprefix("dns:///").removeprefix("ipv4:").removeprefix("ipv6:")
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_clear_text(address: str, what: str, tls: TlsSettings) -> None:
    """Raises `FailedPrecondition` when ``what`` would go to ``address`` in plain text, beyond this machine."""
    if not (tls.insecure or is_loopback(address)):
        raise FailedPrecondition(
            f"{what} would go to {address} in plain text: set TUNIX_RT_TLS_CA_FILE to the CA of its certificate, "
            f"{_INSECURE}"
        )


def refuse_open_server(address: str, tls: TlsSettings, *, auth: bool) -> bool:
    """Raises `FailedPrecondition` for a server beyond loopback without TLS or authentication, unless that is allowed.

    Returns whether it is open all the same, which is worth a warning.
    """
    missing = [text for text, given in (("TLS", tls.cert_file is not None), ("authentication", auth)) if not given]
    if not missing or is_loopback(address):
        return False
    if not tls.insecure:
        raise FailedPrecondition(
            f"{address} would be served without {' and without '.join(missing)}: set TUNIX_RT_TLS_CERT_FILE and "
            f"TUNIX_RT_TLS_KEY_FILE (`tunix-rt certs init` makes them) and leave TUNIX_RT_AUTH on, {_INSECURE}"
        )
    return True


class FileChanges:
    """Notices that certificate, key or CA were replaced by files that fit together."""

    def __init__(self, tls: TlsSettings) -> None:
        self._tls = tls
        self._seen = self._stamps()

    def found(self) -> bool:
        """Whether there is something new since the last time that this was true, or the beginning."""
        stamps = self._stamps()
        if stamps == self._seen or None in stamps:
            return False
        try:
            load_files(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._tls)
        except FailedPrecondition:
            return False  # half replaced: certificate and key do not belong together yet
        self._seen = stamps
        return True

    def _stamps(self) -> tuple[object, ...]:
        return tuple(_stamp(path) for path in (self._tls.cert_file, self._tls.key_file, self._tls.ca_file) if path)


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
