"""The app in this process, for what needs a model made to measure or a defect of our own."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from service.app import App, create_app
from service.settings import Settings
from tests.service.fake_model import open_fake
from tests.service.load import png
from tests.service.process import counter
from vqtok.images import ImageLimits, read_image
from vqtok.images.formats.header import ImageHeader
from vqtok.wire.npy_format import write_array

NPY = {"Content-Type": "application/x-npy"}


@asynccontextmanager
async def running_app(app: App) -> AsyncGenerator[httpx.AsyncClient]:
    async with (
        app.lifespan(),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client,
    ):
        while (await client.get("/health/ready")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        yield client


def _run(app: App, test: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> None:
    async def run() -> None:
        async with running_app(app) as client:
            await test(client)

    asyncio.run(run())


def test_a_defect_of_ours_is_a_problem_with_its_request_id_and_stands_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = create_app(Settings(), open_fake())

    async def broken() -> None:
        raise RuntimeError("our own fault")

    app.fastapi.add_api_route("/broken", broken)

    async def test(client: httpx.AsyncClient) -> None:
        with caplog.at_level(logging.ERROR):
            answer = await client.get("/broken", headers={"X-Request-Id": "job-1"})
        assert answer.status_code == 500
        assert answer.json()["code"] == "internal_error"
        assert answer.json()["request_id"] == answer.headers["x-request-id"] == "job-1"
        assert "our own fault" not in answer.text
        assert "our own fault" in caplog.text
        assert "request_id=job-1" in caplog.text

    _run(app, test)


def test_a_model_that_cannot_run_in_tiles_refuses_what_would_need_them() -> None:
    app = create_app(Settings(tile_pixels=1024), open_fake(requires={"tileable": False}))

    async def test(client: httpx.AsyncClient) -> None:
        small = write_array(np.zeros((1, 32, 32, 3), np.uint8))
        assert (await client.post("/v1/encode", content=small, headers=NPY)).status_code == 200
        large = write_array(np.zeros((1, 32, 36, 3), np.uint8))
        refused = await client.post("/v1/encode", content=large, headers=NPY)
        assert (refused.status_code, refused.json()["setting"]) == (413, "tile_pixels")
        grid = write_array(np.zeros((1, 8, 9), np.uint8))
        refused = await client.post("/v1/decode", content=grid, headers=NPY)
        assert (refused.status_code, refused.json()["setting"]) == (413, "tile_pixels")

    _run(app, test)


def test_statistics_say_how_many_tokens_stand_behind_them() -> None:
    async def test(client: httpx.AsyncClient) -> None:
        empty = (await client.get("/v1/codebook/stats")).json()["native"]["since_start"]
        assert (empty["num_tokens"], empty["usage"][0]["perplexity"]) == (0, None)
        assert empty["reason"] == "No image has come yet."
        headers = {"Content-Type": "image/png"}
        for seed in range(3):
            await client.post("/v1/encode", content=png(seed), headers=headers)
        await client.post("/v1/reconstruct", content=png(3), headers=headers)
        stats = (await client.get("/v1/codebook/stats")).json()
        since_start = stats["native"]["since_start"]
        (observed,) = since_start["usage"]
        assert (since_start["num_images"], since_start["num_tokens"]) == (4, 4 * 16)
        assert observed["num_tokens"] == 4 * 16
        assert 1 < observed["perplexity"] <= observed["used_codes"]
        assert observed["dead_codes"] == 256 - observed["used_codes"]
        assert stats["training"][0]["num_tokens"] == 256
        assert since_start["margins"]["num_values"] == 4 * 16
        assert since_start["drift"]["kl_bits"] > 0
        assert since_start["drift"]["calibrated"] is False
        assert "vqtok calibrate" in since_start["drift"]["reason"]
        assert stats["soft_perplexity"] is None
        assert stats["reasons"]["soft_perplexity"]
        assert since_start["quantisation_error"] is None
        assert stats["reasons"]["quantisation_error"]
        assert stats["distances"][0]["nearest_min"] > 0

    _run(create_app(Settings(), open_fake()), test)


@pytest.mark.parametrize(
    "settings",
    [Settings(), Settings(cache_bytes=10**6), Settings(tile_pixels=1024)],
    ids=["plain", "cached", "in tiles"],
)
def test_what_else_the_encoder_gives_is_counted_whichever_way_images_take(
    settings: Settings,
) -> None:
    outputs = ("quantisation_error", "tokens", "posterior_entropy", "margins")
    images = np.zeros((3, 64, 64, 3), np.uint8)
    images[..., 0], images[..., 1] = 51, 102

    async def test(client: httpx.AsyncClient) -> None:
        for route in ("encode", "reconstruct", "encode"):
            answer = await client.post(f"/v1/{route}", content=write_array(images), headers=NPY)
            assert answer.status_code == 200
        stats = (await client.get("/v1/codebook/stats")).json()
        found = stats["other"]["since_start"]
        assert (found["num_images"], found["num_tokens"]) == (9, 9 * 256)
        for name, value in (("quantisation_error", 0.2), ("posterior_entropy", 0.4)):
            assert found[name]["num_values"] == 9 * 256
            assert found[name]["mean"] == pytest.approx(value)
            assert found[name]["quantiles"]["p50"] == pytest.approx(value, rel=0.13)
            assert name not in stats["reasons"]
        metrics = (await client.get("/metrics")).text
        labels = {"window": "since_start", "grid": "other"}
        assert counter(metrics, "vqtok_quantisation_error", **labels) == pytest.approx(0.2)
        assert counter(metrics, "vqtok_posterior_entropy", **labels) == pytest.approx(0.4)

    _run(create_app(settings, open_fake(outputs=outputs)), test)


@pytest.mark.parametrize(("count", "size"), [(1, 16), (3, 16), (1, 300)])
def test_an_image_is_decoded_once(monkeypatch: pytest.MonkeyPatch, count: int, size: int) -> None:
    decoded: list[bytes] = []

    def counting(data: bytes, limits: ImageLimits, header: ImageHeader) -> NDArray[np.uint8]:
        decoded.append(data)
        return read_image(data, limits, header)

    monkeypatch.setattr("service.intake.read_image", counting)

    async def test(client: httpx.AsyncClient) -> None:
        files = [("images", (f"{seed}", png(seed, size))) for seed in range(count)]
        assert (await client.post("/v1/encode", files=files)).status_code == 200
        assert sorted(decoded) == sorted(data for _, (_, data) in files)

    _run(create_app(Settings(), open_fake()), test)


def test_strict_images_never_share_a_batch() -> None:
    images = write_array(np.random.default_rng(0).integers(0, 200, (6, 16, 16, 3)).astype(np.uint8))

    async def test(client: httpx.AsyncClient) -> None:
        answers: list[bytes] = []
        for strict, num_batches in (("false", 1), ("true", 6)):
            before = (await client.get("/metrics")).text
            answer = await client.post(f"/v1/encode?strict={strict}", content=images, headers=NPY)
            assert answer.status_code == 200
            answers.append(answer.content)
            after = (await client.get("/metrics")).text
            for name, added in (("count", num_batches), ("sum", 6)):
                series = f"vqtok_batch_size_{name}"
                assert counter(after, series) - counter(before, series) == added
        assert answers[0] == answers[1]

    _run(create_app(Settings(), open_fake()), test)


def test_metrics_can_be_switched_off() -> None:
    async def test(client: httpx.AsyncClient) -> None:
        assert (await client.get("/metrics")).status_code == 404

    _run(create_app(Settings(metrics=False), open_fake()), test)


def test_two_apps_share_nothing() -> None:
    async def run() -> None:
        apps = [create_app(Settings(), open_fake(name=name)) for name in ("one", "two")]
        async with running_app(apps[0]) as first, running_app(apps[1]) as second:
            answer = await first.post("/v1/sample")
            assert answer.headers["vqtok-model"] == "one@1"
            assert (await second.get("/health/live")).headers["vqtok-model"] == "two@1"
            other = (await second.get("/metrics")).text
            assert 'vqtok_requests_total{route="/v1/sample",status="200"}' not in other

    asyncio.run(run())
