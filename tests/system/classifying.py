"""The top class that a service gives a photo."""

import httpx

from tests.system.processes import ROOT, Service

CAT = (ROOT / "tests" / "data" / "cat.jpg").read_bytes()
CLASSIFY = "/v1/classify?top_k=1"


def top1(service: Service, photo: bytes) -> int:
    with service.client() as client:
        return top_class(client, photo)


def top_class(client: httpx.Client, photo: bytes) -> int:
    index: int = client.post(CLASSIFY, content=photo).raise_for_status().json()["predictions"][0]["index"]
    return index
