"""API keys and the admin token, replaced while the service runs."""

from pathlib import Path

from service.bundle.folder import Bundle
from tests.api.running import photo
from tests.system.processes import Service, serving

OLD, NEW = "a-key-that-leaked-0123", "a-key-of-tomorrow-0123"


def classify_status(service: Service, key: str) -> int:
    with service.client() as client:
        return client.post("/v1/classify", content=photo("red"), headers={"X-API-Key": key}).status_code


def switch_status(service: Service, token: str) -> int:
    with service.client() as client:
        headers = {"Authorization": f"Bearer {token}"}
        return client.put("/v1/variants/active", json={"variant": "ptq"}, headers=headers).status_code


def test_keys_and_token_are_replaced_without_a_restart(colours: Bundle, tmp_path: Path) -> None:
    keys, token = tmp_path / "keys", tmp_path / "token"
    for file in (keys, token):
        file.write_text(OLD)
    with serving(bundle=colours.path, variant="ptq", api_keys_file=keys, admin_token_file=token) as service:
        assert (classify_status(service, OLD), classify_status(service, NEW)) == (200, 401)
        assert (switch_status(service, OLD), switch_status(service, NEW)) == (200, 401)
        keys.write_text(f"{NEW} camera-3\n")
        token.write_text(NEW)
        assert service.line("the new file of API keys is used")["file"] == str(keys)
        assert service.line("the new admin token is used")["file"] == str(token)
        assert (classify_status(service, OLD), classify_status(service, NEW)) == (401, 200)
        assert (switch_status(service, OLD), switch_status(service, NEW)) == (401, 200)
        # Unusable files lock nobody out: the previous key and token stay valid.
        keys.write_text("short\n")
        token.unlink()
        error = service.line("the new file of API keys can't be used; the previous one is kept")
        assert error["level"] == "error"
        assert "the key in line 1 has 5 characters" in error["reason"]
        assert "No such file" in service.line("the new admin token can't be used")["reason"]
        assert (classify_status(service, NEW), switch_status(service, NEW)) == (200, 200)
        assert not [line for line in service.log if OLD in str(line) or NEW in str(line)]
