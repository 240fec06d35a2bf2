"""The certificate by which clients know the service."""

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

    `context` is for the next connection; `expires` says when the certificate does, in seconds since 1970, and
    is None where no ordinary client can use it.
    """

    context: ssl.SSLContext
    expires: float | None


Tls = Renewed[Certificate]
"""A certificate out of files that may be renewed.

Each pair gets a context of its own: in the one before, half a pair would be in the way of every connection.
"""


def load_tls(settings: Settings) -> Tls | None:
    """TLS with the certificate of the settings; None where they have none.

    Raises:
        SettingsError: one of certificate and key is not set, is missing or can't be used, or the key is
            another certificate's.
    """
    certificate, key = settings.tls_cert_file, settings.tls_key_file
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise SettingsError(
            "EDGEWISE_TLS_CERT_FILE and EDGEWISE_TLS_KEY_FILE belong together: set both, or none"
            " (see docs/settings.md)"
        )
    return renewed_certificate(certificate, key)


def renewed_certificate(certificate: Path, key: Path) -> Tls:
    """The pair in these files.

    Raises:
        SettingsError: a file is missing or can't be used, or the key is another certificate's.
    """

    def load() -> Certificate:
        context = _load(certificate, key)
        return Certificate(context, _expiry(context))

    return Renewed("certificate", (certificate, key), load, lambda new: {"expires": _text(new.expires)})


def _load(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer."""
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
            f" ({reason.lower().replace('_', ' ')}); the key must be that of the first certificate"
        ) from None
    return context


def _expiry(context: ssl.SSLContext) -> float | None:
    """When the certificate that clients get expires: Python reads those of peers alone, so be one."""
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname, asking.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    try:
        # TLS 1.3 takes three turns of talk, TLS 1.2 five.
        for end in (client, server) * 3:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    except ssl.SSLError:
        return None
    # It tells what is in a certificate only where one was asked for; this one is to be read, not trusted.
    asking.verify_mode = ssl.CERT_REQUIRED
    told = client.getpeercert()
    return ssl.cert_time_to_seconds(str(told["notAfter"])) if told else None


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
        "EDGEWISE_TLS_KEY_FILE is encrypted, and nobody is there to type its password: store it without one,"
        " readable by the service alone (openssl pkey -in KEY -out PLAIN)"
    )
