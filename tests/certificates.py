"""openssl, and self-signed certificates made by it."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

OPENSSL = shutil.which("openssl") or ""

needs_openssl = pytest.mark.skipif(not OPENSSL, reason="openssl is absent")


@dataclass(frozen=True)
class Pair:
    """A self-signed certificate and its key, in PEM."""

    certificate: Path
    key: Path

    @property
    def settings(self) -> dict[str, Path]:
        """The settings of a service that uses it."""
        return {"tls_cert_file": self.certificate, "tls_key_file": self.key}

    def client_context(self) -> ssl.SSLContext:
        """The context of a client that trusts it."""
        return ssl.create_default_context(cafile=str(self.certificate))


def make_pair(folder: Path, *options: str, days: int = 2, curve: str = "prime256v1") -> Pair:
    """Make a pair in a folder, which is created if necessary; `options` replace `-nodes`."""
    folder.mkdir(exist_ok=True)
    pair = Pair(folder / "cert.pem", folder / "key.pem")
    files = ["-keyout", str(pair.key), "-out", str(pair.certificate)]
    key = ["-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{curve}"]
    subject = ["-subj", "/CN=edgewise", "-addext", "subjectAltName=IP:127.0.0.1", "-days", str(days)]
    subprocess.run(  # noqa: S603
        [OPENSSL, "req", "-x509", *key, *subject, *files, *(options or ["-nodes"])],
        check=True,
        capture_output=True,
    )
    return pair
