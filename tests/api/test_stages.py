import re
import time

import numpy as np
import pytest
from fastapi import FastAPI

from service.api.stages import milliseconds, stage_seconds
from service.inference.classifier import Prediction
from service.inference.job import Answer
from service.settings import Settings
from tests.api.classifying import ROUTES, request
from tests.api.connections import answer_of, connected, head
from tests.api.running import photo, running, samples
from tests.system.processes import wait_for


def test_each_stage_has_its_own_seconds() -> None:
    prediction = Prediction("fp32", np.ones(1, np.float32), 0.003, 0.0045678, np.zeros((1, 1, 3), np.uint8))
    stages = stage_seconds(0.001, Answer(prediction, queue_seconds=0.002))
    assert stages == {"read": 0.001, "queue": 0.002, "decode": 0.003, "inference": 0.0045678}
    assert milliseconds(stages) == {"read": 1, "queue": 2, "decode": 3, "inference": 4.568}


@pytest.mark.parametrize("route", ROUTES)
def test_the_time_to_receive_the_body_is_reported(settings: Settings, route: str) -> None:
    whole = request(route, photo("red"))
    content = whole.read()
    lines = [f"{name}: {value}" for name, value in whole.headers.items() if name.startswith("content-")]
    apps: list[FastAPI] = []
    with running(settings, apps.append) as client, connected(client) as connection:
        connection.sendall(head(*lines, route=route) + content[:50])
        wait_for(lambda: bool(apps[0].state.context.arrivals._arriving))
        time.sleep(0.2)
        connection.sendall(content[50:])
        status, body = answer_of(connection)
        seconds = samples(client)['edgewise_stage_seconds_sum{stage="read",variant="fp32"}']
    assert status == 200
    assert seconds >= 0.2
    # The Open Inference Protocol has no place for it in its answer.
    told = re.findall(rb'"read":([\d.]+)', body)
    assert len(told) == (0 if route.startswith("/v2") else 1)
    assert all(float(milliseconds) >= 200 for milliseconds in told)
