import json

import httpx
import numpy as np

from tests.api.open_inference.inference_requests import LENGTH, base64_input, infer, labels_of
from tests.api.running import photo
from tests.colours import LABELS_OF


def test_outputs_have_the_requested_form(client: httpx.Client) -> None:
    image = base64_input(photo("red"), photo("blue"))
    top = {"name": "probabilities", "parameters": {"classification": 2}}
    (output,) = infer(client, image, outputs=[top]).json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    value, index, label = output["data"][0].split(":")
    assert (float(value) > 0.5, int(index), label) == (True, LABELS_OF.index("red"), "red")
    assert output["data"][2].endswith(":blue")

    all_binary = infer(client, image, parameters={"binary_data_output": True})
    assert all_binary.headers["content-type"] == "application/octet-stream"
    length = int(all_binary.headers[LENGTH])
    (output,) = json.loads(all_binary.content[:length])["outputs"]
    tail = all_binary.content[length:]
    assert output["parameters"]["binary_data_size"] == len(tail)
    assert np.frombuffer(tail, "<f4").reshape(output["shape"]).argmax(axis=1).tolist() == [3, 1]

    in_json = {"name": "probabilities", "parameters": {"binary_data": False}}
    response = infer(client, image, parameters={"binary_data_output": True}, outputs=[in_json])
    assert labels_of(response) == ["red", "blue"]
