"""The settings: one frozen object, read once from the environment variables `EDGEWISE_*`."""

import os
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from service.bundle.manifest import BundleName
from service.errors import SettingsError, nearest
from service.host.cores import usable_cores
from service.images.pixels import DEFAULT_LIMITS, DecodeLimits
from service.inference.delegates import Delegate, Fallback, Kind, parse_name, parse_options
from service.monitoring.drift import LEAST_ANSWERS

PREFIX = "EDGEWISE_"
DEFAULT_BUNDLE = Path(__file__).resolve().parent.parent / "models" / "imagenet-1k"
# A value of `variant`: measure which one is the fastest on this device.
AUTO = "auto"
MEBIBYTE = 1024 * 1024
DEFAULT_REQUEST_TIMEOUT_SECONDS = 10.0
DEFAULT_DRIFT_WINDOW = 1000


class LogFormat(StrEnum):
    """The format of a log line."""

    JSON = "json"
    TEXT = "text"


class LogRequests(StrEnum):
    """Which requests get a log line."""

    ALL = "all"
    FAILED = "failed"
    NONE = "none"


def separated(text: str) -> tuple[str, ...]:
    """Split text at commas, without the spaces around its parts, empty parts and duplicates."""
    return tuple(dict.fromkeys(stripped for part in text.split(",") if (stripped := part.strip())))


def _separated(value: object) -> object:
    return separated(value) if isinstance(value, str) else value


def _refuse_empty(value: object) -> object:
    if value == "":  # Path("") is the working directory.
        raise ValueError("should name a file or a folder, or not be set at all")
    return value


NamedPath = Annotated[Path, BeforeValidator(_refuse_empty)]
NonEmpty = Annotated[str, Field(min_length=1)]


def _integer(value: object) -> object:
    # pydantic also reads 8000.0 as an integer; the container's health check, like most programs, does not.
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            raise ValueError("should be a valid integer") from None
    return value


Integer = Annotated[int, BeforeValidator(_integer)]
# Everything that uses a count can still represent this: floats in metrics, and C code, for example.
LARGEST = 10**15
Count = Annotated[Integer, Field(gt=0, le=LARGEST)]


def _check_origin(origin: str) -> str:
    sent = re.sub(r"^(http:.*):80$|^(https:.*):443$", r"\1\2", origin.lower())
    if origin != sent:
        raise ValueError(f"should be {sent}, as browsers send it: in lower case, without the default port")
    return origin


# The form in which browsers send origins: without a path or trailing slash.
Origin = Annotated[str, StringConstraints(pattern=r"^(\*|https?://[^/\s]+)$"), AfterValidator(_check_origin)]


class Settings(BaseModel):
    """The service's settings; `docs/settings.md` explains each."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    bundle: NamedPath = DEFAULT_BUNDLE
    bundle_public_key: NamedPath | None = None
    variant: NonEmpty | None = None
    min_top1: Annotated[float, Field(ge=0, le=1)] = 0.0
    loaded_variants: Annotated[tuple[NonEmpty, ...], BeforeValidator(_separated)] = ()
    variant_under_load: NonEmpty | None = None
    under_load_seconds: PositiveFloat = 0.1
    shadow_variant: NonEmpty | None = None
    shadow_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    delegate: Annotated[Kind | Path, BeforeValidator(lambda name: parse_name(str(name)))] = Kind.XNNPACK
    delegate_options: str = ""
    delegate_fallback: Fallback = Fallback.NONE
    workers: Count = Field(default_factory=usable_cores)
    queue_size: Count = 16
    queue_bytes: Count = 32 * MEBIBYTE
    request_timeout_seconds: PositiveFloat = DEFAULT_REQUEST_TIMEOUT_SECONDS
    hang_seconds: PositiveFloat = 60.0
    max_body_bytes: Count = 20 * MEBIBYTE
    max_pixels: Count = DEFAULT_LIMITS.max_pixels
    max_decode_bytes: Count = DEFAULT_LIMITS.max_decode_bytes
    batch_limit: Count = 8
    min_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    model_name: BundleName | None = None
    host: NonEmpty = "127.0.0.1"
    port: Annotated[Integer, Field(ge=0, le=65535)] = 8000
    max_connections: Count = 512
    cors_origins: Annotated[tuple[Origin, ...], BeforeValidator(_separated)] = ()
    read_bytes: Count = 32 * MEBIBYTE
    tls_cert_file: NamedPath | None = None
    tls_key_file: NamedPath | None = None
    api_keys_file: NamedPath | None = None
    read_timeout_seconds: PositiveFloat = 30.0
    min_body_rate: PositiveFloat = 1000.0
    drain_grace_seconds: NonNegativeFloat = 0.0
    drain_seconds: NonNegativeFloat = 20.0
    admin_token_file: NamedPath | None = None
    sysfs_root: NamedPath = Path("/sys")
    log_format: LogFormat = LogFormat.JSON
    log_requests: LogRequests = LogRequests.ALL
    feedback_window: Count = 1000
    feedback_memory: Count = 4000
    drift_window: Annotated[Integer, Field(ge=LEAST_ANSWERS, le=LARGEST)] = DEFAULT_DRIFT_WINDOW

    @property
    def chosen_delegate(self) -> Delegate:
        """The delegate, with its options."""
        return Delegate(self.delegate, parse_options(self.delegate_options))

    @property
    def decode_limits(self) -> DecodeLimits:
        """The limits of one image."""
        return DecodeLimits(self.max_pixels, self.max_decode_bytes)

    @field_validator("sysfs_root")
    @classmethod
    def _check_folder(cls, path: Path) -> Path:
        # The default is not validated, since some systems don't have it.
        if not os.path.isdir(path):  # noqa: PTH112 (is_dir raises without permission to look)
            raise ValueError("should be a folder: /sys, or where that is mounted")
        return path

    @field_validator("delegate_options")
    @classmethod
    def _check_options(cls, text: str, info: ValidationInfo) -> str:
        options = parse_options(text)
        delegate = info.data.get("delegate")  # None if that is invalid itself.
        if options and delegate is not None and Delegate(delegate).is_built_in:
            raise ValueError(f"should not be set: delegate {delegate} takes no options")
        return text


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings from `environ`; names without the prefix `EDGEWISE_` are ignored.

    Raises:
        SettingsError: a name is unknown (the message suggests one that is like it) or a value is invalid.
    """
    names = {PREFIX + field.upper(): field for field in Settings.model_fields}
    given = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    for name in given:
        if name not in names:
            # Without the prefix, which all have in common and which would outweigh the rest.
            near = nearest(name.removeprefix(PREFIX), Settings.model_fields)
            suggested = f"; the nearest is {PREFIX}{near.upper()}" if near else ""
            raise SettingsError(f"there is no setting {name}{suggested} (see docs/settings.md)")
    try:
        return Settings.model_validate({names[name]: value for name, value in given.items()})
    except ValidationError as error:
        wrong = "; ".join(map(_describe, error.errors()))
        raise SettingsError(f"{wrong} (see docs/settings.md)") from None


def _describe(problem: Mapping[str, Any]) -> str:
    name = PREFIX + str(problem["loc"][0]).upper()
    # pydantic's messages begin with their subject: "Input should be …".
    expected = re.sub("^(Input|String|Value error,) |, unable to parse .*", "", problem["msg"])
    return f"{name} is {problem['input']!r}, but it {expected}"
