"""The certificate by which clients know the service."""

import ssl
from pathlib import Path

from service.errors import SettingsError
from service.settings import Settings


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer with the certificate of the settings; None where they have none.

    Raises:
        SettingsError: a file is missing or can't be used, or the key is another certificate's.
    """
    certificate, key = settings.tls_cert_file, settings.tls_key_file
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise SettingsError(
            "EDGEWISE_TLS_CERT_FILE and EDGEWISE_TLS_KEY_FILE belong together: set both, or none"
            " (see docs/settings.md)"
        )
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
