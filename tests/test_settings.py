import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.errors import SettingsError
from service.inference.delegates import Delegate, Fallback, Kind
from service.settings import PREFIX, LogFormat, LogRequests, Settings, load_settings

ROOT = Path(__file__).parent.parent
FILES = ["bundle_public_key", "tls_cert_file", "tls_key_file", "api_keys_file", "admin_token_file"]


def test_an_empty_environment_gives_the_defaults() -> None:
    assert load_settings({}) == Settings()
    assert Settings().bundle == ROOT / "models" / "imagenet-1k"
    assert Settings().workers >= 1


def test_every_setting_can_be_set() -> None:
    environ = {
        "EDGEWISE_BUNDLE": "some/folder",
        "EDGEWISE_BUNDLE_PUBLIC_KEY": "some/public.pem",
        "EDGEWISE_VARIANT": "fp32",
        "EDGEWISE_MIN_TOP1": "0.8",
        "EDGEWISE_LOADED_VARIANTS": "ptq, qat,",
        "EDGEWISE_VARIANT_UNDER_LOAD": "dynamic",
        "EDGEWISE_UNDER_LOAD_SECONDS": "0.5",
        "EDGEWISE_SHADOW_VARIANT": "fp32",
        "EDGEWISE_SHADOW_RATIO": "0.25",
        "EDGEWISE_DELEGATE": "edgetpu",
        "EDGEWISE_DELEGATE_OPTIONS": "device=usb:0,a=b",
        "EDGEWISE_DELEGATE_FALLBACK": "cpu",
        "EDGEWISE_WORKERS": "3",
        "EDGEWISE_QUEUE_SIZE": "5",
        "EDGEWISE_QUEUE_BYTES": "6000",
        "EDGEWISE_REQUEST_TIMEOUT_SECONDS": "2",
        "EDGEWISE_HANG_SECONDS": "9",
        "EDGEWISE_MAX_BODY_BYTES": "1000",
        "EDGEWISE_MAX_PIXELS": "2000",
        "EDGEWISE_MAX_DECODE_BYTES": "3000",
        "EDGEWISE_BATCH_LIMIT": "4",
        "EDGEWISE_MIN_PROBABILITY": "0.4",
        "EDGEWISE_MODEL_NAME": "birds",
        "EDGEWISE_HOST": "::1",
        "EDGEWISE_PORT": "80",
        "EDGEWISE_MAX_CONNECTIONS": "7",
        "EDGEWISE_CORS_ORIGINS": "https://a.example, http://b.example:8080,http://b.example:443",
        "EDGEWISE_READ_BYTES": "8000",
        "EDGEWISE_TLS_CERT_FILE": "tls/cert.pem",
        "EDGEWISE_TLS_KEY_FILE": "tls/key.pem",
        "EDGEWISE_API_KEYS_FILE": "keys",
        "EDGEWISE_READ_TIMEOUT_SECONDS": "1.5",
        "EDGEWISE_MIN_BODY_RATE": "9.5",
        "EDGEWISE_DRAIN_GRACE_SECONDS": "3",
        "EDGEWISE_DRAIN_SECONDS": "0",
        "EDGEWISE_ADMIN_TOKEN_FILE": "some/token",
        "EDGEWISE_SYSFS_ROOT": "/",
        "EDGEWISE_LOG_FORMAT": "text",
        "EDGEWISE_LOG_REQUESTS": "failed",
        "EDGEWISE_FEEDBACK_WINDOW": "300",
        "EDGEWISE_FEEDBACK_MEMORY": "400",
        "EDGEWISE_DRIFT_WINDOW": "500",
    }
    settings = load_settings(environ)
    assert settings == Settings(
        bundle=Path("some/folder"),
        bundle_public_key=Path("some/public.pem"),
        variant="fp32",
        min_top1=0.8,
        loaded_variants=("ptq", "qat"),
        variant_under_load="dynamic",
        under_load_seconds=0.5,
        shadow_variant="fp32",
        shadow_ratio=0.25,
        delegate=Kind.EDGETPU,
        delegate_options="device=usb:0,a=b",
        delegate_fallback=Fallback.CPU,
        workers=3,
        queue_size=5,
        queue_bytes=6000,
        request_timeout_seconds=2,
        hang_seconds=9,
        max_body_bytes=1000,
        max_pixels=2000,
        max_decode_bytes=3000,
        batch_limit=4,
        min_probability=0.4,
        model_name="birds",
        host="::1",
        port=80,
        max_connections=7,
        cors_origins=("https://a.example", "http://b.example:8080", "http://b.example:443"),
        read_bytes=8000,
        tls_cert_file=Path("tls/cert.pem"),
        tls_key_file=Path("tls/key.pem"),
        api_keys_file=Path("keys"),
        read_timeout_seconds=1.5,
        min_body_rate=9.5,
        drain_grace_seconds=3,
        drain_seconds=0,
        admin_token_file=Path("some/token"),
        sysfs_root=Path("/"),
        log_format=LogFormat.TEXT,
        log_requests=LogRequests.FAILED,
        feedback_window=300,
        feedback_memory=400,
        drift_window=500,
    )
    assert {PREFIX + field.upper() for field in Settings.model_fields} == set(environ)


def test_other_environment_variables_are_ignored() -> None:
    assert load_settings({"PORT": "9", "edgewise_port": "9", "XEDGEWISE_PORT": "9"}) == Settings()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("EDGEWISE_VARIENT", "EDGEWISE_VARIANT"),
        ("EDGEWISE_port", "EDGEWISE_PORT"),
        ("EDGEWISE_MAX_BODY_SIZE", "EDGEWISE_MAX_BODY_BYTES"),
        ("EDGEWISE_READ_TIMEOUT", "EDGEWISE_READ_TIMEOUT_SECONDS"),
        ("EDGEWISE_TOKEN_FILE", "EDGEWISE_ADMIN_TOKEN_FILE"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name: str, nearest: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({name: "1"})
    assert str(caught.value) == f"there is no setting {name}; the nearest is {nearest} (see docs/settings.md)"


def test_nothing_is_suggested_for_an_unknown_name_that_is_like_no_other() -> None:
    with pytest.raises(
        SettingsError, match=r"^there is no setting EDGEWISE_COLOUR \(see docs/settings\.md\)$"
    ):
        load_settings({"EDGEWISE_COLOUR": "1"})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("EDGEWISE_PORT", "tcp://10.0.0.1:80", "a valid integer"),
        ("EDGEWISE_PORT", "65536", "less than or equal to 65535"),
        ("EDGEWISE_WORKERS", "0", "greater than 0"),
        ("EDGEWISE_QUEUE_SIZE", 400 * "9", "less than or equal to 1000000000000000"),
        ("EDGEWISE_DRIFT_WINDOW", 400 * "9", "less than or equal to 1000000000000000"),
        ("EDGEWISE_DELEGATE", "tpu", "one of xnnpack, none, edgetpu, nnapi, gpu, or the absolute path"),
        ("EDGEWISE_DELEGATE", "lib/delegate.so", "the absolute path of a delegate's library"),
        ("EDGEWISE_DELEGATE", "", "the absolute path of a delegate's library"),
        ("EDGEWISE_DELEGATE_OPTIONS", "a", "key=value,key=value; 'a' is not"),
        ("EDGEWISE_DELEGATE_OPTIONS", "=b", "key=value,key=value; '=b' is not"),
        ("EDGEWISE_DELEGATE_OPTIONS", "a=1,a=2", "each key once; 'a' is given twice"),
        ("EDGEWISE_DELEGATE_OPTIONS", "a=1", "not be set: delegate xnnpack takes no options"),
        ("EDGEWISE_DELEGATE_FALLBACK", "gpu", "'none' or 'cpu'"),
        ("EDGEWISE_LOG_FORMAT", "xml", "'json' or 'text'"),
        ("EDGEWISE_LOG_REQUESTS", "some", "'all', 'failed' or 'none'"),
        ("EDGEWISE_READ_TIMEOUT_SECONDS", "0", "greater than 0"),
        ("EDGEWISE_READ_TIMEOUT_SECONDS", "inf", "a finite number"),
        ("EDGEWISE_DRAIN_SECONDS", "-1", "greater than or equal to 0"),
        ("EDGEWISE_VARIANT", "", "at least 1 character"),
        ("EDGEWISE_MIN_TOP1", "84", "less than or equal to 1"),
        ("EDGEWISE_UNDER_LOAD_SECONDS", "0", "greater than 0"),
        ("EDGEWISE_SHADOW_RATIO", "1.5", "less than or equal to 1"),
        ("EDGEWISE_MIN_PROBABILITY", "40", "less than or equal to 1"),
        ("EDGEWISE_MODEL_NAME", "a/b", "match pattern"),
        ("EDGEWISE_BATCH_LIMIT", "0", "greater than 0"),
        ("EDGEWISE_CORS_ORIGINS", "https://a.example/", "match pattern"),
        ("EDGEWISE_CORS_ORIGINS", "https://Example.org:443", "be https://example.org, as browsers send it"),
        ("EDGEWISE_CORS_ORIGINS", "http://[::1]:80", "be http://[::1], as browsers send it"),
        ("EDGEWISE_FEEDBACK_WINDOW", "0", "greater than 0"),
        ("EDGEWISE_DRIFT_WINDOW", "199", "greater than or equal to 200"),
        ("EDGEWISE_SYSFS_ROOT", "/no/such/folder", "a folder: /sys, or where that is mounted"),
        ("EDGEWISE_SYSFS_ROOT", "/dev/null", "a folder: /sys, or where that is mounted"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_expected(name: str, value: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({name: value})
    message = str(caught.value)
    assert f"{name} is {value!r}, but it should" in message
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize("field", [name for name, value in Settings() if isinstance(value, int)])
@pytest.mark.parametrize("text", ["8000.0", "8000.", "8e3", ""])
def test_an_integer_is_written_as_one(field: str, text: str) -> None:
    name = PREFIX + field.upper()
    with pytest.raises(SettingsError, match=rf"^{name} is {text!r}, but it should be a valid integer "):
        load_settings({name: text})
    assert getattr(load_settings({name: " +8_000 "}), field) == 8000


@pytest.mark.parametrize("field", [name for name, value in Settings() if isinstance(value, Path)] + FILES)
def test_an_empty_path_is_refused(field: str) -> None:
    name = PREFIX + field.upper()
    message = (
        f"{name} is '', but it should name a file or a folder, or not be set at all (see docs/settings.md)"
    )
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}$"):
        load_settings({name: ""})


def test_a_delegate_comes_with_its_options() -> None:
    environ = {"EDGEWISE_DELEGATE": "/lib/a.so", "EDGEWISE_DELEGATE_OPTIONS": "a=1,b="}
    settings = load_settings(environ)
    assert settings.chosen_delegate == Delegate(Path("/lib/a.so"), (("a", "1"), ("b", "")))
    assert load_settings({}).chosen_delegate == Delegate.XNNPACK


def test_all_bad_values_are_named_at_once() -> None:
    with pytest.raises(SettingsError, match=r"EDGEWISE_WORKERS is 'x'.*EDGEWISE_PORT is 'y'"):
        load_settings({"EDGEWISE_PORT": "y", "EDGEWISE_WORKERS": "x"})


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1


def test_the_document_lists_every_setting_and_its_default() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    rows = re.findall(r"^\| `(EDGEWISE_\w+)` \| (.*?) \|", text, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(
        PREFIX + field.upper() for field in Settings.model_fields
    )
    table = dict(rows)
    documented = {name: default.strip("`") for name, default in table.items() if default.startswith("`")}
    # The table describes these in words: they depend on the machine or the bundle, or are empty.
    assert set(table) - set(documented) == {
        "EDGEWISE_BUNDLE_PUBLIC_KEY",
        "EDGEWISE_VARIANT",
        "EDGEWISE_LOADED_VARIANTS",
        "EDGEWISE_VARIANT_UNDER_LOAD",
        "EDGEWISE_SHADOW_VARIANT",
        "EDGEWISE_DELEGATE_OPTIONS",
        "EDGEWISE_WORKERS",
        "EDGEWISE_ADMIN_TOKEN_FILE",
        "EDGEWISE_MODEL_NAME",
        "EDGEWISE_CORS_ORIGINS",
        "EDGEWISE_TLS_CERT_FILE",
        "EDGEWISE_TLS_KEY_FILE",
        "EDGEWISE_API_KEYS_FILE",
    }
    bundle = documented.pop("EDGEWISE_BUNDLE").removesuffix("` of the project")
    assert Settings().bundle == ROOT / bundle
    defaults = load_settings(documented).model_dump(exclude={"workers"})
    assert defaults == Settings().model_dump(exclude={"workers"})


def test_the_document_gives_large_defaults_in_mebibytes_as_well() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    rows = re.findall(r"^\| `(EDGEWISE_\w+)` \| `(\d+)` \| .*\(default: (\d+) MiB\)", text, re.MULTILINE)
    assert {name: int(default) for name, default, _ in rows} == {
        name: int(mebibytes) * 1024 * 1024 for name, _, mebibytes in rows
    }
    assert len(rows) == 4


def test_duplicates_in_a_list_are_dropped() -> None:
    assert load_settings({"EDGEWISE_LOADED_VARIANTS": "qat, ptq ,,qat"}).loaded_variants == ("qat", "ptq")
