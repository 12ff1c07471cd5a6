"""Every setting of the service, read once at the start.

A setting `max_requests` is the flag `--max-requests` and the environment variable
`VQTOK_MAX_REQUESTS`; the flag wins. The command line and its help are made from the fields below,
so none can be left out.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from service.usage import WindowSizes
from vqtok.statistics.live import LONG_IMAGES, RECENT_IMAGES

ENVIRONMENT_PREFIX = "VQTOK_"
MEBIBYTE = 1024 * 1024


class InvalidSettings(Exception):
    """A setting has a value that cannot be used; the message is a sentence that names it."""


def _sizes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if not all(re.fullmatch(r"[0-9]{1,5}x[0-9]{1,5}", part) for part in parts):
        raise ValueError("sizes are written HEIGHTxWIDTH, separated by commas: 256x256,512x384")
    return tuple(tuple(int(side) for side in part.split("x")) for part in parts)


def _origins(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    parts = tuple(part.strip() for part in value.split(",") if part.strip())
    if not all(part == "*" or re.fullmatch(r"https?://[^/,*\s]+", part) for part in parts):
        raise ValueError("origins are written scheme://host[:port], separated by commas, or *")
    return parts


Sizes = Annotated[tuple[tuple[int, int], ...], NoDecode, BeforeValidator(_sizes)]
Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)]


class Settings(BaseSettings):
    """What an operator decides. Sizes are in bytes or pixels, times in seconds."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, frozen=True, env_ignore_empty=True
    )

    host: str = Field(
        default="127.0.0.1", description="address to bind; 0.0.0.0 for every interface"
    )
    port: int = Field(default=8000, ge=0, le=65535, description="port to bind; 0 takes a free one")
    bundle: Path = Field(
        default=Path("bundles/cifar10-gmvq"), description="folder of the bundle that is served"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="auto takes CUDA if it really opens; cuda fails the start if not",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="threads that run the model on CPU; default: usable cores",
    )
    image_threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="threads that decode and write images; default: 2 x cores, at least 8",
    )
    max_requests: int = Field(
        default=256, ge=1, description="requests worked on at once; the next one is answered 429"
    )
    max_body_bytes: int = Field(
        default=64 * MEBIBYTE, ge=1024, description="largest body of a request; above it 413"
    )
    max_total_body_bytes: int = Field(
        default=256 * MEBIBYTE,
        ge=1024,
        description="bodies held at once, all requests together; then 429",
    )
    max_queue_seconds: float = Field(
        default=30.0, gt=0, description="device time that may be queued, per runner; then 429"
    )
    request_timeout: float = Field(
        default=30.0,
        gt=0,
        description="longest time for an answer (504); Vqtok-Timeout-Ms lowers it",
    )
    body_timeout: float = Field(
        default=20.0, gt=0, description="longest time for a head, and for a body, to arrive (408)"
    )
    max_items: int = Field(
        default=1024, ge=1, description="images, grids or samples in one request; above it 413"
    )
    max_prior_rows: int = Field(
        default=65_536,
        ge=1,
        description="calls of a learned prior in one request: samples x windows of the grid x "
        "passes, twice with cfg_scale; above it 413",
    )
    max_pixels: int = Field(
        default=16_000_000, ge=1, description="pixels of one image, from its header; above it 413"
    )
    max_request_pixels: int = Field(
        default=64_000_000, ge=1, description="pixels of all images of a request; above it 413"
    )
    max_decoded_pixels: int = Field(
        default=128_000_000,
        ge=1,
        description="decoded pixels held at once, all requests; others wait",
    )
    tile_pixels: int = Field(
        default=200_000, ge=1024, description="an image above this runs in tiles, to bound memory"
    )
    batch_pixels: int = Field(
        default=65_536, ge=1, description="largest batch on CPU, in pixels (one image always fits)"
    )
    loop_seconds: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="with one thread on CPU, the event loop runs the model itself where that takes "
        "no longer at a time; 0: never",
    )
    cache_bytes: int = Field(
        default=0, ge=0, description="memory for tokens of images seen before; 0 keeps none"
    )
    graph_sizes: Sizes = Field(
        default=(),
        description="on CUDA, sizes beside the native one that get captured graphs: 256x256,…",
    )
    drain_seconds: float = Field(
        default=25.0, ge=0, description="longest time to finish admitted requests after SIGTERM"
    )
    keep_alive_seconds: int = Field(
        default=5, ge=1, description="an idle connection is closed after this time"
    )
    api_keys_file: Path | None = Field(
        default=None,
        description="callers' keys, name:sha256 a line; read again on SIGHUP; without keys "
        "everybody is let in",
    )
    api_keys: str = Field(default="", description="more of the same, separated by commas")
    key_share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="share of the device's time that a key may use on average; then 429",
    )
    key_burst_seconds: float = Field(
        default=10.0,
        gt=0,
        description="a key that has rested may use at once what its share gives in this time",
    )
    cors_origins: Origins = Field(
        default=(),
        description="origins whose pages may call from a browser: https://a.example,… or *",
    )
    recent_images: int = Field(
        default=RECENT_IMAGES,
        ge=16,
        description="images of a window of statistics; drift shows after three windows",
    )
    long_images: int = Field(
        default=LONG_IMAGES,
        ge=16,
        description="images of the long window, a multiple of the recent one's: it sees smaller "
        "drifts, later",
    )
    metrics: bool = Field(default=True, description="serve /metrics")
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="serve /metrics on this port only, without keys",
    )
    otlp_endpoint: str = Field(
        default="", description="OpenTelemetry collector that gets traces: http://localhost:4318"
    )
    trace_ratio: float = Field(
        default=1.0, ge=0, le=1, description="share of requests that are traced"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severity that is logged"
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="one line per event, as this"
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        _require_at_least(self, "max_total_body_bytes", "max_body_bytes")
        _require_at_least(self, "max_request_pixels", "max_pixels")
        _require_at_least(self, "max_decoded_pixels", "max_request_pixels")
        if self.long_images % self.recent_images:
            raise ValueError(
                f"{flag('long_images')} ({self.long_images}) must be a multiple of "
                f"{flag('recent_images')} ({self.recent_images})"
            )
        if self.key_share is not None and not self.has_keys:
            raise ValueError(f"{flag('key_share')} needs keys: {flag('api_keys_file')}")
        if self.metrics_port is not None and (not self.metrics or self.metrics_port == self.port):
            raise ValueError(
                f"{flag('metrics_port')} must be another port than {flag('port')}, and needs "
                f"{flag('metrics')} true"
            )
        return self

    @property
    def window_sizes(self) -> WindowSizes:
        """Images of the windows of statistics."""
        return WindowSizes(self.recent_images, self.long_images)

    @property
    def has_keys(self) -> bool:
        """Whether callers need a key."""
        return bool(self.api_keys or self.api_keys_file)


def _require_at_least(settings: Settings, larger: str, smaller: str) -> None:
    if getattr(settings, larger) < getattr(settings, smaller):
        raise ValueError(
            f"{flag(larger)} ({getattr(settings, larger)}) must be at least "
            f"{flag(smaller)} ({getattr(settings, smaller)})"
        )


def flag(name: str) -> str:
    """The command line's name of a setting: `--max-requests`."""
    return "--" + name.replace("_", "-")


def environment_variable(name: str) -> str:
    """The environment's name of a setting: `VQTOK_MAX_REQUESTS`."""
    return ENVIRONMENT_PREFIX + name.upper()


def read_settings(arguments: Sequence[str] | None = None) -> Settings:
    """The settings from flags, then environment, then defaults.

    Raises:
        InvalidSettings: naming the flag and the variable. Unknown flags and `--help` end the
        process, as argparse does.
    """
    flags = vars(_parser().parse_args(arguments))
    given = {name: text for name, text in flags.items() if text is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise InvalidSettings(_sentence(error)) from error
    except SettingsError as error:
        raise InvalidSettings(f"{error}.") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve a vqtok bundle over HTTP.",
        epilog="Each setting may also be given as the environment variable named beside it.",
        allow_abbrev=False,
    )
    for name, field in Settings.model_fields.items():
        parser.add_argument(flag(name), dest=name, metavar=_metavar(field), help=_help(name, field))
    return parser


def _metavar(field: FieldInfo) -> str:
    allowed = getattr(field.annotation, "__args__", ())
    if allowed and all(isinstance(value, str) for value in allowed):
        return "|".join(allowed)
    if field.annotation is bool:
        return "true|false"
    if field.default == ():
        return "LIST"
    return "N" if "int" in str(field.annotation) or "float" in str(field.annotation) else "TEXT"


def _help(name: str, field: FieldInfo) -> str:
    default = "" if field.default in (None, (), "") else f"; default {field.default}"
    return f"{field.description} [{environment_variable(name)}{default}]".replace("%", "%%")


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    complaint = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return f"Invalid settings: {complaint}."
    name = str(first["loc"][0])
    return (
        f"Invalid setting {flag(name)} ({environment_variable(name)}): {complaint}, "
        f"got {first['input']!r}."
    )
