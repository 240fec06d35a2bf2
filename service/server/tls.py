"""The service's TLS certificate."""

import contextlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from service.errors import SettingsError
from service.renewed import Renewed
from service.settings import Settings


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key.

    `context` is for the next connection; `expires` is when the certificate expires, in seconds since 1970, or
    None if no ordinary client can use it.
    """

    context: ssl.SSLContext
    expires: float | None


Tls = Renewed[Certificate]
"""A certificate from files that can be renewed.

Each pair gets its own context: half a pair, loaded into the previous context, would break every connection.
"""


def load_tls(settings: Settings) -> Tls | None:
    """Load the certificate that the settings name; None if they name none.

    Raises:
        SettingsError: only one of certificate and key is set, one is missing or can't be used, or the key
            belongs to another certificate.
    """
    certificate, key = settings.tls_cert_file, settings.tls_key_file
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise SettingsError(
            "EDGEWISE_TLS_CERT_FILE and EDGEWISE_TLS_KEY_FILE belong together: set both or neither"
            " (see docs/settings.md)"
        )
    return renewed_certificate(certificate, key)


def renewed_certificate(certificate: Path, key: Path) -> Tls:
    """Load the pair in these files.

    Raises:
        SettingsError: a file is missing or can't be used, or the key belongs to another certificate.
    """

    def load() -> Certificate:
        context = _load(certificate, key)
        return Certificate(context, _expiry(context))

    return Renewed("certificate", (certificate, key), load, lambda new: {"expires": _text(new.expires)})


def _load(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a context for TLS 1.2 or newer."""
    _check_readable("EDGEWISE_TLS_CERT_FILE", certificate)
    _check_readable("EDGEWISE_TLS_KEY_FILE", key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=_refuse_password)
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        raise SettingsError(
            f"TLS can't be used: {certificate} and {key} are not a certificate and its key, both in PEM"
            f" ({reason.lower().replace('_', ' ')}); the key must belong to the first certificate"
        ) from None
    return context


def _expiry(context: ssl.SSLContext) -> float | None:
    """When the certificate that clients get expires: Python reads only a peer's, so this acts as a client."""
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname, asking.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    try:
        # A handshake takes three turns in TLS 1.3, and five in TLS 1.2.
        for end in (client, server) * 3:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    except ssl.SSLError:
        return None
    # Python shows a certificate only if one is required; this one is only read, not trusted.
    asking.verify_mode = ssl.CERT_REQUIRED
    shown = client.getpeercert()
    return ssl.cert_time_to_seconds(str(shown["notAfter"])) if shown else None


def _text(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def _check_readable(name: str, path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{name} can't be used: {path}: {error.strerror} (see docs/settings.md)"
        ) from None


def _refuse_password() -> str:
    raise SettingsError(
        "EDGEWISE_TLS_KEY_FILE is encrypted, and nobody can type its password here: store it unencrypted,"
        " readable only by the service (openssl pkey -in KEY -out PLAIN)"
    )
