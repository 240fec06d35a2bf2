import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.bundle.folder import Bundle
from service.inference.delegates import Fallback, Kind
from service.settings import Settings
from tests.api.running import photo, running, samples


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/livez", {"status": "live"}),
        ("/readyz", {"status": "ready", "delegate": "xnnpack", "delegate_fallback": None}),
    ],
)
def test_probes_succeed_on_a_running_service(
    client: httpx.Client, path: str, body: dict[str, str | None]
) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.json() == body


def test_a_delegate_fallback_is_reported(settings: Settings) -> None:
    update = {"delegate": Kind.NNAPI, "delegate_fallback": Fallback.CPU}
    with running(settings.model_copy(update=update)) as client:
        answer = client.get("/readyz").json()
        counted = samples(client)
        (loaded,) = [v for v in client.get("/v1/variants").json()["variants"] if v["loaded"]]
    assert (answer["status"], answer["delegate"]) == ("ready", "xnnpack")
    assert answer["delegate_fallback"].startswith("delegate nnapi exists only on Android")
    assert (loaded["delegate"], loaded["fallback"]) == ("xnnpack", answer["delegate_fallback"])
    assert counted["edgewise_delegate_fallback"] == 1
    assert counted['edgewise_delegate_partitions{variant="fp32"}'] == 1


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("text/plain", "text/plain"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
    ],
)
def test_metrics_have_the_format_that_the_scraper_accepts(
    client: httpx.Client, accept: str, content_type: str
) -> None:
    response = client.get("/metrics", headers={"Accept": accept})
    assert response.headers["content-type"].startswith(f"{content_type};")
    assert "edgewise_workers 2.0" in response.text
    documented = client.get("/openapi.json").json()["paths"]["/metrics"]["get"]["responses"]["200"]["content"]
    assert content_type in documented


@pytest.mark.parametrize("version", ["x", "", "1.", '"1.0.0"', "1.0.0rc1", "9" * 5000])
@pytest.mark.parametrize("kind", ["text/plain", "application/openmetrics-text"])
def test_metrics_are_served_whatever_version_is_asked_for(
    client: httpx.Client, kind: str, version: str
) -> None:
    response = client.get("/metrics", headers={"Accept": f"{kind}; version={version}"})
    assert response.status_code == 200
    assert "edgewise_workers 2.0" in response.text


def test_requests_and_stages_are_counted(settings: Settings, colours: Bundle) -> None:
    with running(settings) as client:
        for body in (photo("red"), photo("blue"), b"no image"):
            client.post("/v1/classify", content=body)
        client.post("/v1/classify?top_k=0", content=photo("red"))
        client.get("/nope/any/thing")
        counted = samples(client)
        families = {f.name: f for f in text_string_to_metric_families(client.get("/metrics").text)}
    classify = 'edgewise_requests_total{route="/v1/classify"'
    assert counted[classify + ',status="200",variant="fp32"}'] == 2
    assert counted[classify + ',status="415",variant="fp32"}'] == 1
    assert counted[classify + ',status="422",variant=""}'] == 1
    assert counted['edgewise_requests_total{route="unmatched",status="404",variant=""}'] == 1
    for stage in ("read", "queue", "decode", "inference", "total"):
        assert counted[f'edgewise_stage_seconds_count{{stage="{stage}",variant="fp32"}}'] == 2
    seconds = {
        stage: counted[f'edgewise_stage_seconds_sum{{stage="{stage}",variant="fp32"}}']
        for stage in ("read", "queue", "decode", "inference", "total")
    }
    assert seconds.pop("total") >= sum(seconds.values())
    assert counted["edgewise_queue_depth"] == 0
    assert counted["edgewise_queue_capacity"] == settings.queue_size
    assert counted["edgewise_workers"] == settings.workers
    assert counted["edgewise_delegate_fallback"] == 0
    assert counted['edgewise_delegate_partitions{variant="fp32"}'] == 1
    variant = colours.variant("fp32")
    assert counted['edgewise_model_bytes{variant="fp32"}'] == variant.bytes
    (info,) = families["edgewise_variant_info"].samples
    assert info.value == 1
    assert info.labels["runtime"].startswith("ai-edge-litert ")
    assert info.labels | {"runtime": ""} == {
        "bundle": "colours",
        "variant": "fp32",
        "precision": "float32",
        "sha256": variant.sha256,
        "runtime": "",
        "delegate": "xnnpack",
    }


@pytest.mark.parametrize("kind", ["text/plain", "application/openmetrics-text"])
@pytest.mark.parametrize("escaping", ["values", "dots", "underscores", "allow-utf-8"])
def test_names_of_metrics_are_never_escaped(client: httpx.Client, kind: str, escaping: str) -> None:
    accept = f"{kind}; version=1.0.0 ; escaping={escaping};q=0.5, text/plain"
    response = client.get("/metrics", headers={"Accept": accept})
    assert response.headers["content-type"].startswith(f"{kind}; version=1.0.0")
    assert "# TYPE edgewise_workers gauge\nedgewise_workers 2.0\n" in response.text
