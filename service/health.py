"""`python -m service.health`: ask the service with the same settings whether it is ready.

This is the health check of a container, which runs it repeatedly within the service's own memory, so it
imports neither the settings nor the inference code. Exit status: 0 if the service is ready, 1 if it is not,
or does not answer (one line on standard error says why).
"""

import http.client
import os
import ssl
import sys
from collections.abc import Mapping

PATH = "/readyz"
# As in the settings.
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = "8000"
# A service that listens on all addresses also listens on these.
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
TIMEOUT_SECONDS = 4


def main(environ: Mapping[str, str]) -> int:
    """Ask once, and return the exit status."""
    host = environ.get("EDGEWISE_HOST", DEFAULT_HOST)
    host, port = LOOPBACK.get(host, host), environ.get("EDGEWISE_PORT", DEFAULT_PORT)
    try:
        # int() accepts spaces, a sign and underscores, as the settings do.
        status = _ask(host, int(port), tls="EDGEWISE_TLS_CERT_FILE" in environ)
    except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        sys.stderr.write(f"edgewise: no answer from {PATH} on {host}, port {port}: {reason}\n")
        return 1
    if status != http.client.OK:
        sys.stderr.write(f"edgewise: not ready: {PATH} answered {status}\n")
        return 1
    return 0


def _ask(host: str, port: int, *, tls: bool) -> int:
    """Return the status of the answer."""
    connection: http.client.HTTPConnection
    if tls:
        context = ssl.create_default_context()
        # The certificate is for the service's clients; this process knows whom it asks.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", PATH)
        return connection.getresponse().status
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(os.environ))
