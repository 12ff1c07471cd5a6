"""`vqtok bench` on a real service: what it reports is what happened."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.service.load import png
from tests.service.process import ROOT, ServiceProcess
from vqtok.bench.connections import FAILED, Connections, Reply, Request
from vqtok.bench.loops import Shot, closed_loop, open_loop
from vqtok.bench.plot import plot_report
from vqtok.bench.run import run_bench
from vqtok.bench.summary import Plan, quantile, summarise
from vqtok.bench.workload import ROUTES, Workload
from vqtok.errors import InvalidParameter, RemoteError

DELAY = 0.05
PING = Request("/ping", {}, b"", 1, method="GET")


@pytest.fixture(scope="module")
def service() -> Generator[ServiceProcess]:
    """One runner that takes 50 ms a batch, whatever is in it; room for 16 requests."""
    flags = ["--delay", str(DELAY), "--max-requests", "16"]
    with ServiceProcess(flags, "tests.service.fake_model") as running:
        yield running.wait_ready()


def _plan(rate: float | None = None, concurrency: int | None = None, **changes: Any) -> Plan:
    times = {"seconds": 1.0, "warm_up": 0.2, "objective": 0.5, **changes}
    return Plan(rate, concurrency, **times)


def test_one_caller_waits_for_each_answer(service: ServiceProcess) -> None:
    report = run_bench(service.url, Workload(), [_plan(concurrency=1)])
    (level,) = report["levels"]
    assert level["statuses"] == {"200": level["requests"]}
    assert DELAY * 1000 <= level["latency_ms"]["p50"] <= level["latency_ms"]["max"]
    assert 0 < level["images_per_second"] <= 1 / DELAY
    assert level["goodput"] <= level["images_per_second"]
    assert report["model"]["name"] == "fake"


def test_an_open_loop_sends_whatever_the_service_does(service: ServiceProcess) -> None:
    rates = (30.0, 400.0)
    report = run_bench(service.url, Workload(), [_plan(rate) for rate in rates])
    calm, overload = report["levels"]
    # Poisson: within five standard deviations of 0.8 s times the rate.
    for level, rate in zip(report["levels"], rates, strict=True):
        assert abs(level["requests"] - 0.8 * rate) <= 5 * (0.8 * rate) ** 0.5
        assert sum(level["statuses"].values()) == level["requests"]
    assert set(calm["statuses"]) == {"200"}
    assert overload["statuses"]["429"] > overload["requests"] / 10
    assert overload["good_share"] < calm["good_share"]


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("send", "batch"), [("file", 1), ("file", 3), ("npy", 3)])
def test_every_route_and_format_is_answered(
    service: ServiceProcess, route: str, send: str, batch: int
) -> None:
    workload = Workload(route, send, batch)
    short = _plan(concurrency=2, seconds=0.15, warm_up=0.0)
    (level,) = run_bench(service.url, workload, [short])["levels"]
    assert level["statuses"] == {"200": level["requests"]}


def test_files_are_sent_as_they_are(service: ServiceProcess, tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.jpg"]
    paths[0].write_bytes(png(1, 20))
    Image.fromarray(np.zeros((24, 16, 3), np.uint8)).save(paths[1])
    plans = [_plan(concurrency=1, seconds=0.2, warm_up=0.0)]
    report = run_bench(service.url, Workload(files=paths), plans)
    sizes = [path.stat().st_size for path in paths]
    assert report["request_bytes"] == sum(sizes) // 2
    assert set(report["levels"][0]["statuses"]) == {"200"}
    with pytest.raises(InvalidParameter, match="one size"):
        run_bench(service.url, Workload(send="npy", batch=2, files=paths), plans)


def test_what_the_service_refuses_is_told_before_any_load(service: ServiceProcess) -> None:
    with pytest.raises(RemoteError, match=r"answered 413: .*max_items"):
        run_bench(service.url, Workload(send="npy", batch=1025, size=(4, 4)), [_plan(1.0)])
    with pytest.raises(InvalidParameter, match="decode"):
        Workload(route="guess")


def test_the_command_writes_report_and_picture(service: ServiceProcess, tmp_path: Path) -> None:
    report, picture = tmp_path / "report.json", tmp_path / "report.png"
    command = [sys.executable, "-m", "vqtok", "bench", service.url, "--concurrency", "1,8"]
    times = ["--duration", "0.5", "--warm-up", "0.1", "--objective", "60"]
    done = subprocess.run(
        [*command, *times, "-o", str(report), "--plot", str(picture)],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 at once" in done.stdout
    levels = json.loads(report.read_text())["levels"]
    assert [level["concurrency"] for level in levels] == [1, 8]
    with Image.open(picture) as opened:
        assert opened.format == "PNG"
    wrong = subprocess.run(
        [*command[:-2], "--rate", "fast"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)


def test_a_picture_can_be_made_of_a_level_without_answers(tmp_path: Path) -> None:
    level = summarise([Shot(0.5, 0.5, 0.6, 429, 1)], _plan(1.0), 0.1)
    report = {
        "levels": [vars(level)], "objective_ms": 100.0, "model": {"name": "m"},
        "workload": {"route": "encode", "batch": 1, "send": "file"},
    }  # fmt: skip
    plot_report(report, tmp_path / "empty.png")
    assert level.latency_ms["p50"] is None
    assert (tmp_path / "empty.png").stat().st_size > 0


def test_waiting_for_a_slow_service_counts_from_when_it_was_due() -> None:
    async def run() -> list[Shot]:
        turn = asyncio.Lock()

        async def send(request: Request) -> Reply:
            async with turn:
                await asyncio.sleep(0.02)
            return Reply(200)

        return await open_loop(send, [PING], rate=100.0, seconds=0.5, seed=1)

    shots = asyncio.run(run())
    assert max(shot.latency for shot in shots) > 0.2
    assert all(shot.sent - shot.scheduled >= 0 for shot in shots)
    again = asyncio.run(run())
    assert [shot.scheduled for shot in again] == [shot.scheduled for shot in shots]


def test_a_closed_loop_never_has_more_at_once() -> None:
    async def run() -> int:
        now = most = 0

        async def send(request: Request) -> Reply:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.005)
            now -= 1
            return Reply(200)

        await closed_loop(send, [PING], 7, 0.1)
        return most

    assert asyncio.run(run()) == 7


def test_a_summary_leaves_the_warm_up_out_and_counts_images() -> None:
    shots = [
        Shot(0.1, 0.1, 0.2, 200, 4),
        Shot(0.5, 0.6, 0.7, 200, 4),
        Shot(0.6, 0.6, 0.9, 200, 4),
        Shot(0.8, 0.8, 1.4, 200, 4),
        Shot(0.7, 0.7, 0.8, 429, 4),
        Shot(0.9, 0.9, 1.0, FAILED, 4, "closed"),
    ]
    level = summarise(shots, _plan(rate=5.0, objective=0.25), 1.0)
    assert level.requests == 5
    assert level.statuses == {"0": 1, "200": 3, "429": 1}
    assert level.reasons == {"closed": 1}
    # Answered between 0.2 and 1.0 s: the first three; the first two of them in time.
    assert level.images_per_second == pytest.approx(12 / 0.8)
    assert level.goodput == pytest.approx(8 / 0.8)
    assert level.good_share == pytest.approx(1 / 5)
    assert level.latency_ms["p50"] == pytest.approx(300)
    assert level.latency_ms["max"] == pytest.approx(600)
    assert level.late_p99_ms == pytest.approx(100)
    assert not level.is_trusted
    assert summarise(shots[2:], _plan(rate=5.0), 1.0).is_trusted
    assert not summarise(shots, _plan(concurrency=5), 0.9).is_trusted


def test_quantiles_are_values_that_were_seen() -> None:
    values = [1.0, 2.0, 3.0, 4.0]
    assert [quantile(values, share) for share in (0.0, 0.25, 0.5, 0.51, 1.0)] == [1, 1, 2, 3, 4]
    assert quantile([], 0.5) is None


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _against(handler: Handler, count: int, seconds: float = 5.0) -> list[Reply]:
    """The replies of `count` requests, one after the other, of a server that does as `handler`."""

    async def run() -> list[Reply]:
        handled: list[asyncio.Task[None]] = []

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            handled.append(asyncio.ensure_future(handler(reader, writer)))

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        connections = Connections(f"http://127.0.0.1:{port}", {"X-Own": "1"}, seconds)
        replies = [await connections.send(PING) for _ in range(count)]
        await connections.close()
        server.close()
        await asyncio.gather(*handled)
        await asyncio.sleep(0)
        return replies

    return asyncio.run(run())


def test_connections_are_used_again_and_replaced_when_they_were_closed() -> None:
    opened = 0

    async def twice_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        for _ in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"X-Own: 1" in head
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    replies = _against(twice_each, 6)
    assert [(reply.status, reply.body) for reply in replies] == [(200, b"ok")] * 6
    assert opened == 3


def test_an_answer_that_is_cut_or_does_not_come_is_none() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
        writer.close()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.close()

    async def no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ready\r\n\r\n")
        writer.close()

    for handler in (cut, hang_up, no_http):
        (reply,) = _against(handler, 1)
        assert reply.status == FAILED
        assert reply.reason
    (reply,) = _against(say_nothing, 1, seconds=0.05)
    assert (reply.status, reply.reason) == (FAILED, "no answer in 0.05 s")
    with pytest.raises(InvalidParameter, match="HOST"):
        Connections("service:8000", {}, 1.0)
