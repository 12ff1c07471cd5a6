"""The cache of tokens: what it keeps and what it never gives; its tokens are the model's."""

import asyncio
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.rows import Row
from service.token_cache import OVERHEAD_BYTES, Origins, TokenCache, keys_of
from tests.service.load import png
from tests.service.process import ServiceProcess, counter
from vqtok.errors import ModelFailure, VqtokError
from vqtok.wire.npy_format import read_array, write_array

PNG = {"Content-Type": "image/png", "Accept": "application/x-npy"}
ROW_BYTES = 4 + OVERHEAD_BYTES


def row_of(key: bytes) -> Row:
    return (np.frombuffer(key.ljust(4), np.int32),)


class Encoder:
    """Gives the rows of `keys`, and notes what it was asked for; `failing` keys fail."""

    def __init__(self, keys: list[bytes], failing: frozenset[bytes] = frozenset()) -> None:
        self.keys = keys
        self.failing = failing
        self.runs: list[list[bytes]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, indices: list[int]) -> list[Row]:
        asked = [self.keys[index] for index in indices]
        self.runs.append(asked)
        await self.gate.wait()
        return [ModelFailure("No.") if key in self.failing else row_of(key) for key in asked]


def _is(rows: list[Row], keys: list[bytes]) -> bool:
    return all(
        not isinstance(row, VqtokError) and (row[0] == row_of(key)[0]).all()  # type: ignore[index]
        for row, key in zip(rows, keys, strict=True)
    )


def test_what_was_computed_is_not_computed_again() -> None:
    async def run() -> None:
        cache = TokenCache(100 * ROW_BYTES)
        encoder = Encoder([b"a", b"b", b"a", b"c"])
        rows, origins = await cache.rows(encoder.keys, encoder)
        assert _is(rows, encoder.keys)
        assert encoder.runs == [[b"a", b"b", b"c"]]
        assert origins == Origins(hits=0, collapsed=1, misses=3)
        again = Encoder([b"c", b"d", b"a"])
        rows, origins = await cache.rows(again.keys, again)
        assert _is(rows, again.keys)
        assert again.runs == [[b"d"]]
        assert origins == Origins(hits=2, misses=1)
        assert origins.header() == (
            'vqtok; fwd=partial; stored; detail="hits=2, collapsed=0, misses=1"'
        )
        assert Origins(hits=3).header() == "vqtok; hit"

    asyncio.run(run())


def test_the_least_recently_used_goes_first_and_the_bound_holds() -> None:
    async def run() -> None:
        cache = TokenCache(2 * ROW_BYTES + 1)
        for key in (b"a", b"b", b"a", b"c"):
            await cache.rows([key], Encoder([key]))
            assert cache.num_bytes <= 2 * ROW_BYTES
        assert (cache.num_bytes, cache.num_evicted) == (2 * ROW_BYTES, 1)
        for key, runs in ((b"a", []), (b"b", [[b"b"]])):
            encoder = Encoder([key])
            await cache.rows([key], encoder)
            assert encoder.runs == runs
        too_small = TokenCache(ROW_BYTES - 1)
        rows, _ = await too_small.rows([b"a"], Encoder([b"a"]))
        assert _is(rows, [b"a"])
        assert too_small.num_bytes == 0

    asyncio.run(run())


def test_equal_images_at_once_run_once() -> None:
    async def run() -> None:
        cache = TokenCache(100 * ROW_BYTES)
        first, second = Encoder([b"a", b"b"]), Encoder([b"b", b"c"])
        first.gate.clear()
        leader = asyncio.create_task(cache.rows(first.keys, first))
        await asyncio.sleep(0)
        follower = asyncio.create_task(cache.rows(second.keys, second))
        await asyncio.sleep(0.01)
        assert not follower.done()
        first.gate.set()
        (rows, _), (others, origins) = await leader, await follower
        assert _is(rows, first.keys)
        assert _is(others, second.keys)
        assert second.runs == [[b"c"]]
        assert origins == Origins(collapsed=1, misses=1)

    asyncio.run(run())


def test_who_waits_is_not_lost_with_whom_it_waited_for() -> None:
    async def run() -> None:
        cache = TokenCache(100 * ROW_BYTES)
        first, second, third = (Encoder([b"a"]) for _ in range(3))
        first.gate.clear()
        leader = asyncio.create_task(cache.rows(first.keys, first))
        await asyncio.sleep(0)
        leaving = asyncio.create_task(cache.rows(second.keys, second))
        staying = asyncio.create_task(cache.rows(third.keys, third))
        await asyncio.sleep(0)
        leaving.cancel()
        leader.cancel()
        rows, origins = await staying
        assert _is(rows, [b"a"])
        assert (second.runs, third.runs) == ([], [[b"a"]])
        assert origins == Origins(misses=1)

    asyncio.run(run())


def test_a_failure_is_its_own_and_is_not_kept() -> None:
    async def run() -> None:
        cache = TokenCache(100 * ROW_BYTES)
        failing = Encoder([b"a", b"b"], frozenset({b"a"}))
        rows, _ = await cache.rows(failing.keys, failing)
        assert isinstance(rows[0], ModelFailure)
        assert _is(rows[1:], [b"b"])
        sound = Encoder([b"a", b"b"])
        rows, _ = await cache.rows(sound.keys, sound)
        assert _is(rows, sound.keys)
        assert sound.runs == [[b"a"]]

        async def broken(indices: list[int]) -> list[Row]:
            raise RuntimeError("broken")

        with pytest.raises(RuntimeError):
            await cache.rows([b"x"], broken)
        rows, _ = await cache.rows([b"x"], Encoder([b"x"]))
        assert _is(rows, [b"x"])

    asyncio.run(run())


@settings(max_examples=200, deadline=None)
@given(
    requests=st.lists(st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), max_size=6), max_size=8),
    room=st.integers(0, 4),
    cancelled=st.sets(st.integers(0, 7)),
)
def test_everyone_gets_its_own_rows_whatever_happens_at_once(
    requests: list[list[bytes]], room: int, cancelled: set[int]
) -> None:
    async def run() -> None:
        cache = TokenCache(room * ROW_BYTES)
        tasks = [asyncio.create_task(cache.rows(keys, Encoder(keys))) for keys in requests]
        await asyncio.sleep(0)
        for index in cancelled & set(range(len(tasks))):
            tasks[index].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        for index, (keys, outcome) in enumerate(zip(requests, done, strict=True)):
            if isinstance(outcome, asyncio.CancelledError):
                assert index in cancelled
                continue
            assert not isinstance(outcome, BaseException)
            rows, origins = outcome
            assert _is(rows, keys)
            assert origins.total == len(keys)
        assert cache.num_bytes <= room * ROW_BYTES

    asyncio.run(run())


def test_keys_tell_apart_pixels_shapes_and_tokenizers() -> None:
    pixels = np.arange(48, dtype=np.uint8)
    images = np.stack([pixels, pixels, pixels + 1]).reshape(3, 4, 4, 3)
    first, same, other = keys_of(images, "one")
    assert first == same != other
    assert keys_of(images[::2], "one") == [first, other]
    assert keys_of(images, "two")[0] != first
    assert keys_of(images.reshape(3, 2, 8, 3), "one")[0] != first


@pytest.fixture(scope="module")
def caching(bundle: Path) -> Generator[ServiceProcess]:
    flags = ["--bundle", str(bundle), "--device", "cpu", "--cache-bytes", "1000000"]
    with ServiceProcess(flags) as running:
        yield running.wait_ready()


def test_the_cache_gives_the_tokens_of_the_model(
    caching: ServiceProcess, client: httpx.Client
) -> None:
    with httpx.Client(base_url=caching.url) as cached:
        for seed, size in ((1, 32), (2, 45), (3, 600)):
            image = png(seed, size)
            plain = client.post(
                "/v1/encode?detail=margin", content=image, headers={"Content-Type": "image/png"}
            )
            assert "cache-status" not in plain.headers
            for status in ("fwd=miss", "hit"):
                answer = cached.post(
                    "/v1/encode?detail=margin", content=image, headers={"Content-Type": "image/png"}
                )
                assert status in answer.headers["cache-status"]
                assert answer.json() == plain.json()


def test_formats_and_routes_share_what_has_equal_pixels(caching: ServiceProcess) -> None:
    pixels = np.random.default_rng(9).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    npy = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    with httpx.Client(base_url=caching.url) as client:
        first = client.post("/v1/encode", content=write_array(pixels[:2]), headers=npy)
        assert 'misses=2"' in first.headers["cache-status"]
        all_of_them = client.post("/v1/encode", content=write_array(pixels), headers=npy)
        assert "fwd=partial" in all_of_them.headers["cache-status"]
        assert (read_array(all_of_them.content)[:2] == read_array(first.content)).all()
        back = client.post("/v1/reconstruct", content=write_array(pixels), headers=npy)
        assert back.headers["cache-status"] == "vqtok; hit"
        metrics = client.get("/metrics").text
        assert counter(metrics, "vqtok_cache_images_total", outcome="hits") >= 5
        assert 0 < counter(metrics, "vqtok_cache_bytes") <= 1_000_000


def test_many_callers_of_one_image_are_one_run(caching: ServiceProcess) -> None:
    image = png(77, 512)

    def post(_: int) -> httpx.Response:
        return httpx.post(f"{caching.url}/v1/encode", content=image, headers=PNG, timeout=60)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(post, range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sum("misses=1" in answer.headers["cache-status"] for answer in answers) == 1
