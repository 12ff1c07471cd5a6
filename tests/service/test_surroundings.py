"""What goes wrong around the service: no room for its log, a clock that jumps, a process that is
killed, thousands of silent connections, no descriptors left, and neighbours on the same processor.
"""

import http.client
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.service.load import png
from tests.service.process import ROOT, ServiceProcess

FAKE = "tests.service.fake_model"
PNG = {"Content-Type": "image/png"}
IDLE_CONNECTIONS = 5_000
READY_SECONDS = 10.0
IDLE_SECONDS = 2


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_ready(port: int, seconds: float = 60.0) -> float:
    """How long it took until requests are taken."""
    started = time.monotonic()
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200:
                return time.monotonic() - started
        except httpx.TransportError:
            pass
        assert time.monotonic() < started + seconds, "not ready"
        time.sleep(0.02)


def encode(port: int, seed: int = 0) -> httpx.Response:
    """The answer to a small image."""
    url = f"http://127.0.0.1:{port}/v1/encode"
    return httpx.post(url, content=png(seed), headers=PNG, timeout=30)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_under_the_log_costs_the_log_and_nothing_else() -> None:
    port = free_port()
    command = [sys.executable, "-m", FAKE, "--port", str(port), "--log-level", "debug"]
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen(command, cwd=ROOT, stderr=full, stdout=full)
    wait_ready(port)
    for seed in range(20):
        assert encode(port, seed).status_code == 200
    process.send_signal(signal.SIGHUP)
    assert httpx.get(f"http://127.0.0.1:{port}/health/live").status_code == 200
    process.terminate()
    assert process.wait(20) == 0


@pytest.mark.slow
def test_a_log_that_nobody_reads_any_more_costs_nothing_else() -> None:
    port = free_port()
    command = [sys.executable, "-m", FAKE, "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    wait_ready(port)
    assert process.stderr is not None
    process.stderr.close()
    for _ in range(3):
        process.send_signal(signal.SIGHUP)
        assert encode(port).status_code == 200
    process.terminate()
    assert process.wait(20) == 0


@pytest.mark.slow
def test_a_wall_clock_that_jumps_is_not_noticed() -> None:
    flags = ["--delay", "0.1", "--request-timeout", "5", "--body-timeout", "1"]
    with ServiceProcess(flags, "tests.service.jumping_clock") as service:
        service.wait_ready()
        answers = [encode(service.port, seed) for seed in range(10)]
        assert [answer.status_code for answer in answers] == [200] * 10
        slow = httpx.post(
            f"{service.url}/v1/encode",
            content=png(0),
            headers={**PNG, "Vqtok-Timeout-Ms": "50"},
        )
        assert slow.status_code == 504
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
            started = time.monotonic()
            connection.sendall(b"POST /v1/encode HTTP/1.1\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
            assert 0.9 < time.monotonic() - started < 4
        service.terminate()
        assert service.wait() == 0


@contextmanager
def supervised(bundle: Path) -> Generator[tuple[subprocess.Popen[bytes], int]]:
    """A shell that starts the service again whenever it ends, as a supervisor does; its port."""
    port = free_port()
    serve = f"{sys.executable} -m service --port {port} --device cpu --bundle {bundle}"
    script = f"while true; do {serve} & echo $!; wait $!; done"
    supervisor = subprocess.Popen(
        ["/bin/sh", "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield supervisor, port
    finally:
        os.killpg(supervisor.pid, signal.SIGKILL)
        supervisor.wait(10)


@pytest.mark.slow
def test_a_killed_process_is_ready_again_within_ten_seconds_under_a_supervisor(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with supervised(bundle) as (supervisor, port):
        assert supervisor.stdout is not None
        for _ in range(2):
            pid = int(supervisor.stdout.readline())
            wait_ready(port)
            before = encode(port, 1)
            os.kill(pid, signal.SIGKILL)
            took = _until_back(port)
            with capsys.disabled():
                print(f"\nready {took:.1f} s after SIGKILL")  # noqa: T201
            assert took < READY_SECONDS
            assert encode(port, 1).json() == before.json()
        supervisor.stdout.close()


def _until_back(port: int) -> float:
    """Seconds until the port answers again; the old process may still be seen at first."""
    started = time.monotonic()
    with pytest.raises(httpx.TransportError):  # noqa: PT012 - it may take several
        while time.monotonic() < started + 5:
            httpx.get(f"http://127.0.0.1:{port}/health/live")
    wait_ready(port)
    return time.monotonic() - started


def _open_many(stack: ExitStack, port: int, count: int) -> list[socket.socket]:
    return [
        stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        for _ in range(count)
    ]


@pytest.mark.slow
def test_thousands_of_silent_connections_disturb_nobody(
    capsys: pytest.CaptureFixture[str],
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(IDLE_CONNECTIONS, hard - 1_000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with ServiceProcess([], FAKE) as service, ExitStack() as stack:
            service.wait_ready()
            connections = _open_many(stack, service.port, count)
            for half in connections[: count // 2]:
                half.sendall(b"POST /v1/encode HTTP/1.1\r\nHost: x\r\nX-Half: ")
            times = [_timed(service.port) for _ in range(20)]
            assert max(times) < 2.0
            assert httpx.get(f"{service.url}/health/live").status_code == 200
            memory = service.peak_memory() / 2**20
            with capsys.disabled():
                print(  # noqa: T201
                    f"\n{count} silent connections: the slowest of {len(times)} requests took "
                    f"{max(times):.3f} s, peak memory {memory:.0f} MiB"
                )
            assert memory < 600
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert count >= IDLE_CONNECTIONS, f"the limit of open files allows only {count} connections"


def _timed(port: int) -> float:
    started = time.monotonic()
    assert encode(port).status_code == 200
    return time.monotonic() - started


@pytest.mark.slow
def test_without_descriptors_it_waits_and_goes_on_when_there_are_some_again() -> None:
    limit = 128
    port = free_port()
    flags = ["--port", str(port), "--keep-alive-seconds", "2", "--body-timeout", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", FAKE, *flags],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
    )
    wait_ready(port)
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    kept.request("GET", "/health/live")
    assert kept.getresponse().read()
    with ExitStack() as stack:
        _open_many(stack, port, 2 * limit)
        kept.request("POST", "/v1/encode", png(0), PNG)
        answer = kept.getresponse()
        assert (answer.status, bool(answer.read())) == (200, True)
        kept.close()
    wait_ready(port, 20)
    assert encode(port).status_code == 200
    process.terminate()
    assert process.wait(20) == 0


def test_an_idle_process_leaves_the_processor_to_others() -> None:
    with ServiceProcess([], FAKE) as service:
        service.wait_ready()
        before = _times_awake(service.pid)
        time.sleep(IDLE_SECONDS)
        assert 0 < _times_awake(service.pid) - before < 8 * IDLE_SECONDS


def _times_awake(pid: int) -> int:
    """How often the main thread has gone to sleep again by itself."""
    status = Path(f"/proc/{pid}/status").read_text()
    (times,) = re.findall(r"^voluntary_ctxt_switches:\s+(\d+)$", status, re.M)
    return int(times)
