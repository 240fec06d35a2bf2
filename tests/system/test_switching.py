"""Several variants in one real service: switching between them, and a faster one under load."""

import itertools
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.bundle.folder import Bundle
from service.inference.classifier import Classifier
from tests.api.running import samples
from tests.system.noise import noise_images
from tests.system.processes import Service, run, serving, wait_for
from tests.system.threads import in_threads

CLASSIFY = "/v1/classify"
SWITCHES = 100
CLIENTS = 4
TOKEN = "0123456789abcdef"  # noqa: S105
MEBIBYTE = 1024 * 1024


def predictions(answer: dict[str, Any]) -> list[tuple[int, float]]:
    return [(p["index"], p["probability"]) for p in answer["predictions"]]


@contextmanager
def posting(service: Service, images: list[bytes]) -> Iterator[list[tuple[int, httpx.Response]]]:
    """Post images in turn from several clients; yield a growing list of image numbers and answers."""
    answers: list[tuple[int, httpx.Response]] = []
    numbers = itertools.cycle(range(len(images)))

    def post(stop: threading.Event) -> None:
        with service.client() as client:
            while not stop.is_set():
                number = next(numbers)
                answers.append((number, client.post(CLASSIFY, content=images[number])))

    with in_threads(CLIENTS, post):
        yield answers


def test_no_answer_is_lost_or_wrong_in_a_hundred_switches_under_load(colours: Bundle, tmp_path: Path) -> None:
    names = ["fp32", "ptq"]
    images = noise_images(8, 48)
    expected = {
        (name, number): Classifier(colours, name).classify(image).top(5)
        for name in names
        for number, image in enumerate(images)
    }
    assert all(expected["fp32", number] != expected["ptq", number] for number in range(len(images)))
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with ExitStack() as stack:
        service = stack.enter_context(
            serving(bundle=colours.path, variant="fp32", workers=2, admin_token_file=token)
        )
        client = stack.enter_context(service.client())
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        memory = 0
        with posting(service, images) as answers:
            for switch in range(1, SWITCHES + 1):
                name = names[switch % 2]
                before = len(answers)
                response = client.put("/v1/variants/active", json={"variant": name})
                assert (response.status_code, response.json()["active"]) == (200, name)
                # Some requests sent after this switch are answered before the next one.
                wait_for(lambda before=before: len(answers) > before + CLIENTS)
                if switch == SWITCHES // 5:
                    memory = service.memory("VmRSS")
        assert {response.status_code for _, response in answers} == {200}
        by_variant = dict.fromkeys(names, 0)
        for number, response in answers:
            answer = response.json()
            assert predictions(answer) == expected[answer["variant"], number]
            by_variant[answer["variant"]] += 1
        assert min(by_variant.values()) >= SWITCHES
        assert service.memory("VmRSS") < memory + 10 * MEBIBYTE
        metrics = samples(client)
        done = [metrics[f'edgewise_switches_total{{outcome="done",variant="{name}"}}'] for name in names]
        assert done == [SWITCHES / 2] * 2
    switched = [line for line in service.log if line["message"] == "another variant is active"]
    assert [(line["from"], line["to"]) for line in switched[:2]] == [("fp32", "ptq"), ("ptq", "fp32")]
    assert {line["client"] for line in switched} == {"127.0.0.1"}
    assert len(switched) == SWITCHES
    assert not [line for line in service.log if line["level"] in ("warning", "error")]


def test_an_unloaded_variant_frees_its_memory(default_bundle: Bundle, tmp_path: Path) -> None:
    (image,) = noise_images(1, 300)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    settings = {"variant": "qat", "workers": 1, "admin_token_file": token}
    with serving(bundle=default_bundle.path, **settings) as service, service.client() as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"

        def switch(name: str) -> None:
            assert client.put("/v1/variants/active", json={"variant": name}).status_code == 200
            assert client.post(CLASSIFY, content=image).json()["variant"] == name

        client.post(CLASSIFY, content=image)
        before = service.memory("VmRSS")
        for _ in range(3):
            switch("fp32")
            assert service.memory("VmRSS") > before + 30 * MEBIBYTE
            switch("qat")
        wait_for(lambda: service.memory("VmRSS") < before + 20 * MEBIBYTE)


def test_a_faster_variant_answers_under_load(default_bundle: Bundle) -> None:
    image = noise_images(1, 300)
    settings = {"variant": "fp32", "variant_under_load": "ptq", "under_load_seconds": 0.01, "workers": 1}
    with serving(bundle=default_bundle.path, **settings) as service, service.client() as client:
        # From the first request, the pool learns how long one takes.
        assert client.post(CLASSIFY, content=image[0]).json()["variant"] == "fp32"
        with posting(service, image) as answers:
            wait_for(lambda: any(response.json()["variant"] == "ptq" for _, response in answers))
            wait_for(lambda: samples(client)["edgewise_under_load"] == 1)
            named = client.post(f"{CLASSIFY}?variant=fp32", content=image[0])
            assert named.json()["variant"] == "fp32"
        assert service.line("under load: ptq answers")["wait_seconds"] > 0.01
        wait_for(lambda: samples(client)["edgewise_under_load"] == 0)
        assert client.post(CLASSIFY, content=image[0]).json()["variant"] == "fp32"
        assert service.line("the load is over")["wait_seconds"] <= 0.005  # The log rounds it.
        assert client.get("/v1/variants").json()["active"] == "fp32"
        metrics = samples(client)
        answered = {
            name: metrics[f'edgewise_requests_total{{route="{CLASSIFY}",status="200",variant="{name}"}}']
            for name in ("fp32", "ptq")
        }
    assert {response.status_code for _, response in answers} == {200}
    given = [response.json()["variant"] for _, response in answers]
    assert answered == {"fp32": given.count("fp32") + 3, "ptq": given.count("ptq")}


def test_a_faster_variant_answers_when_a_short_queue_is_full(
    default_bundle: Bundle,
) -> None:
    image = noise_images(1, 300)
    settings = {
        "variant": "fp32",
        "variant_under_load": "ptq",
        "under_load_seconds": 10,
        "workers": 1,
        "queue_size": 1,
    }
    with serving(bundle=default_bundle.path, **settings) as service:
        with posting(service, image) as answers:

            def has_answered() -> bool:
                given = [response.json().get("variant") for _, response in answers]
                return given.count("ptq") > 3

            wait_for(has_answered)
        assert {response.status_code for _, response in answers} == {200, 429}


def test_a_switch_that_never_ends_does_not_block_the_exit(default_bundle: Bundle, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(default_bundle.path, bundle)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    settings = {"variant": "qat", "admin_token_file": token, "drain_seconds": 1}

    def switch(_: int) -> int | None:
        with service.client() as client, suppress(httpx.TransportError):
            client.headers["Authorization"] = f"Bearer {TOKEN}"
            return client.put("/v1/variants/active", json={"variant": "fp16"}).status_code
        return None

    with serving(bundle=bundle, **settings) as service, ThreadPoolExecutor(2) as threads:
        # Nobody writes to this pipe, so reading it hangs, as on a memory card that fails.
        (bundle / "golden.npz").unlink()
        os.mkfifo(bundle / "golden.npz")
        switches = [threads.submit(switch, number) for number in range(2)]
        wait_for(lambda: any(each.done() for each in switches))
        service.process.terminate()
        assert service.wait() == 0
        # One was refused because of the other, which the stop then interrupted.
        assert {each.result() for each in switches} in ({409, 503}, {409, None})


def test_the_list_of_variants_is_short(service: Service) -> None:
    with service.client() as client:
        answer = client.get("/v1/variants")
    assert len(answer.content) < 1100 * len(answer.json()["variants"])


def test_auto_logs_the_reasons_for_its_choice(default_bundle: Bundle) -> None:
    with serving(bundle=default_bundle.path, variant="auto", min_top1=0.84) as service:
        line = service.line("auto: ")
        ready = service.line("ready")
        assert ready["variant"] == line["variant"]
    measured = line["measured"]
    assert list(measured) == list(default_bundle.manifest.variants)
    assert line["variant"] in ("ptq", "small")
    assert measured["fp32"]["p50_seconds"] > 0
    assert (measured["qat"]["p50_seconds"], measured["qat"]["why_not"]) == (
        None,
        "its top-1 is 0.8385, less than 0.84",
    )


@pytest.mark.parametrize("content", [None, "short"])
def test_a_missing_or_short_admin_token_stops_the_start(
    colours: Bundle, tmp_path: Path, content: str | None
) -> None:
    token = tmp_path / "token"
    if content:
        token.write_text(content)
    result = run(bundle=colours.path, port=0, admin_token_file=token)
    assert result.returncode == 2
    assert result.stderr.startswith(f"edgewise: EDGEWISE_ADMIN_TOKEN_FILE: {token}")
