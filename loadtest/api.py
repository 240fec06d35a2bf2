"""The calls to the service's public HTTP API that are not part of the load."""

import http.client
import json
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

from loadtest.corpus import ClassName
from loadtest.errors import LoadTestError
from loadtest.refusal import REFUSED, seconds_to_wait

_Read = TypeVar("_Read")

_TIMEOUT_SECONDS = 60
# So that a service that hangs does not delay the report.
_METRICS_TIMEOUT_SECONDS = 5
# How long a request is repeated while the service answers 429.
_PATIENCE_SECONDS = 20.0
_SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_WINDOW = "edgewise_window_"
# Not through the environment's proxy: the load does not go through it either.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_NAME_KEY = "; put a key into a file and name it with --api-key-file"


def class_count(host: str, headers: Mapping[str, str], model: str = "") -> int:
    """Return the number of the service's classes.

    `model`: the service's name for its model in the Open Inference Protocol, if not the bundle's name.

    Raises:
        LoadTestError: the service does not answer, or answers something else.
    """
    name = urllib.parse.quote(model or variants(host, headers)["bundle"], safe="")
    return _ask_json(
        host, f"/v2/models/{name}", None, headers, lambda model: int(model["outputs"][0]["shape"][-1])
    )


def classes(
    host: str, photo: bytes, headers: Mapping[str, str], query: Mapping[str, str], count: int
) -> list[ClassName]:
    """Return all of the service's classes, of which there are `count`, read from its answer to a photo.

    Raises:
        LoadTestError: the service does not answer, or answers something else.
    """
    path = f"/v1/classify?{urllib.parse.urlencode({**query, 'top_k': count})}"
    return _ask_json(host, path, photo, headers, _classes)


def variants(host: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return what the service's bundle contains, and which variant is active.

    Raises:
        LoadTestError: the service does not answer, or answers something else.
    """
    return _ask_json(host, "/v1/variants", None, headers, _variants)


def switch(host: str, variant: str, token: str) -> None:
    """Make another variant the active one.

    Raises:
        LoadTestError: the service refuses, or does not answer.
    """
    body = json.dumps({"variant": variant}).encode()
    ask(host, "/v1/variants/active", body, {"Authorization": f"Bearer {token}"}, method="PUT")


def window_accuracy(host: str) -> dict[str, dict[str, float]]:
    """Return the accuracy in the service's window by variant, read from its metrics.

    `ratio` with `k=1` is `ratio_1`, its bounds are `ratio_lower_1` and so on; `labelled`: answers in the
    window. Empty if the service was given no labels.

    Raises:
        LoadTestError: the metrics can't be read.
    """
    values: dict[str, dict[str, float]] = {}
    metrics = ask(host, "/metrics", None, {}, timeout=_METRICS_TIMEOUT_SECONDS).decode()
    for name, text, value in _SAMPLE.findall(metrics):
        if name.startswith(_WINDOW):
            labels = dict(_LABEL.findall(text))
            key = name.removeprefix(_WINDOW).removeprefix("accuracy_")
            of_variant = values.setdefault(labels["variant"], {})
            of_variant[f"{key}_{labels['k']}" if "k" in labels else key] = float(value)
    return values


def ask(
    host: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str],
    method: str | None = None,
    timeout: float = _TIMEOUT_SECONDS,
) -> bytes:
    """Return the body of a 2xx answer; after a 429, ask again when `Retry-After` says so.

    Others may already be loading the service: another process of the same test, for example.

    Raises:
        LoadTestError: the answer has another status, or there is none.
    """
    url = host.rstrip("/") + path
    if not _is_http(url):
        raise LoadTestError(f"the host is {host!r}, but it should be a URL such as http://192.168.1.20:8000")
    request = urllib.request.Request(url, body, dict(headers), method=method)  # noqa: S310
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            with _opener.open(request, timeout=timeout) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            with error:
                wait = seconds_to_wait(error.headers.get("Retry-After", ""))
                if error.code != REFUSED or wait is None or time.monotonic() + wait > deadline:
                    # If a key was sent, the service says that it is wrong.
                    hint = _NAME_KEY if error.code == HTTPStatus.UNAUTHORIZED and not headers else ""
                    raise LoadTestError(
                        f"{url} answers {error.code}: {_detail(error.read())}{hint}"
                    ) from None
            time.sleep(wait)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise LoadTestError(
                    f"the certificate of {host} can't be verified ({reason.verify_message}); set"
                    " SSL_CERT_FILE to the file of that certificate or of its CA's"
                ) from None
            raise LoadTestError(f"{url} does not answer ({reason}); is the service running there?") from None


def _is_http(url: str) -> bool:
    try:
        _ = urllib.parse.urlsplit(url).port
    except ValueError:  # A bad address, or a bad port.
        return False
    return url.startswith(("http://", "https://"))


def _ask_json(
    host: str, path: str, body: bytes | None, headers: Mapping[str, str], read: Callable[[Any], _Read]
) -> _Read:
    """Return what `read` finds in the JSON of an answer.

    Raises:
        LoadTestError: there is no answer, or `read` can't use it.
    """
    content = ask(host, path, body, headers)
    try:
        return read(json.loads(content))
    except (ValueError, LookupError, TypeError):
        start = content[:80].decode(errors="replace")
        raise LoadTestError(
            f"{host}{path} answers {start!r}; is it another service that runs there?"
        ) from None


def _classes(answer: Any) -> list[ClassName]:
    named = [ClassName(each["index"], each["class_id"], each["label"]) for each in answer["predictions"]]
    if not named:
        raise ValueError("no classes")
    return named


def _variants(listed: Any) -> dict[str, Any]:
    return {
        **listed,
        "bundle": str(listed["bundle"]),
        "active": str(listed["active"]),
        "variants": [{**each, "name": str(each["name"])} for each in listed["variants"]],
    }


def _detail(body: bytes) -> str:
    try:
        problem = json.loads(body)
        return str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, AttributeError):
        return body[:200].decode(errors="replace")
