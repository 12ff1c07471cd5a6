"""Keys: who is let in, how keys change while the service runs, and what a key may use."""

import re
import signal
import socket
import time
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from service.keys import InvalidKeys, KeyRing, entry_of
from service.quotas import Quotas
from service.routes import WORKING_CALLS
from tests.service.load import png
from tests.service.process import ServiceProcess, counter
from vqtok import Tokenizer
from vqtok.cli import main
from vqtok.errors import InvalidParameter, KeyMissing, KeyRefused, Overloaded

PNG = {"Content-Type": "image/png"}
FREE = ["/", "/docs", "/docs/swagger-ui.css", "/openapi.json", "/health/live", "/health/ready"]
GUARDED = ["/v1/models", "/v1/models/fake", "/v1/codebook", "/v1/codebook/stats", "/metrics"]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_a_ring_knows_whose_key_it_is_and_a_name_may_have_several(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(
        f"# callers\n\n{entry_of('ann', 'old')}  # until June\n{entry_of('ann', 'new')}\n"
    )
    ring = KeyRing(f"{entry_of('bob', 'b')}, {entry_of('cy', 'ü')}", path)
    assert [ring.name_of(key) for key in ("old", "new", "b", "ü")] == ["ann", "ann", "bob", "cy"]
    assert [ring.name_of(key) for key in ("", "OLD", "old ", "\udcff")] == [None] * 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("my-secret-key", "entry 2 of"),
        ("ann:my-secret-key", "64 hex digits"),
        (f"ann smith:{'0' * 64}", "letters, digits"),
    ],
)
def test_an_entry_that_is_none_is_named_and_not_repeated(
    tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "keys").write_text(f"# first\n{text}\n")
    with pytest.raises(InvalidKeys, match=words) as caught:
        KeyRing(path=tmp_path / "keys")
    assert text not in str(caught.value)


def test_keys_that_let_nobody_in_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# nobody\n")
    with pytest.raises(InvalidKeys, match="nobody"):
        KeyRing(path=tmp_path / "empty")
    with pytest.raises(InvalidKeys, match="No such file"):
        KeyRing(path=tmp_path / "missing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidKeys, match="no text"):
        KeyRing(path=tmp_path / "binary")
    with pytest.raises(InvalidKeys, match="1 to 64"):
        entry_of("", "key")


def test_an_account_fills_at_its_share_and_refuses_while_in_debt() -> None:
    now = [0.0]
    quotas = Quotas(share=0.25, burst=8.0, clock=lambda: now[0])
    quotas.set_runners(2)
    quotas.charge("ann", 5.0)
    with pytest.raises(Overloaded) as caught:
        quotas.require_credit("ann")
    assert caught.value.retry_after_seconds == pytest.approx((5.0 - 8.0 * 0.5) / 0.5)
    quotas.require_credit("bob")
    now[0] = 2.01
    quotas.require_credit("ann")
    now[0] = 1000.0
    quotas.charge("ann", 4.01)
    with pytest.raises(Overloaded):
        quotas.require_credit("ann")


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(entry_of("ann", "key-of-ann"))
    return path


@pytest.fixture(scope="module")
def guarded(keys_file: Path) -> Generator[ServiceProcess]:
    """A service with ann's key in a file, and more among the settings."""
    others = ",".join(entry_of(name, f"key-of-{name}") for name in ("bob", "cy", "dan"))
    flags = ["--api-keys-file", str(keys_file), "--api-keys", others, "--cost", "0.01"]
    share = ["--key-share", "0.5", "--key-burst-seconds", "2"]
    origins = ["--cors-origins", "https://page.example"]
    with ServiceProcess([*flags, *share, *origins], "tests.service.fake_model") as running:
        yield running.wait_ready()


@pytest.mark.parametrize("path", [*GUARDED, *sorted(WORKING_CALLS), "/no/such/path"])
def test_everything_but_probes_and_documentation_wants_a_key(
    guarded: ServiceProcess, path: str
) -> None:
    method = "POST" if path in WORKING_CALLS else "GET"
    missing = httpx.request(method, guarded.url + path)
    assert (missing.status_code, missing.json()["code"]) == (401, "key_missing")
    assert missing.headers["www-authenticate"] == "Bearer"
    for headers in (bearer("key-of-nobody"), {"X-Api-Key": "KEY-OF-ANN"}, bearer("ü".encode())):  # type: ignore[arg-type]
        refused = httpx.request(method, guarded.url + path, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "key_refused")
    for headers in (bearer("key-of-ann"), {"x-api-key": "key-of-ann"}):
        assert httpx.request(method, guarded.url + path, headers=headers).status_code not in (
            401,
            403,
        )


@pytest.mark.parametrize("path", FREE)
def test_probes_and_documentation_are_free(guarded: ServiceProcess, path: str) -> None:
    assert httpx.get(guarded.url + path).status_code in (200, 307)


def test_who_has_no_key_is_refused_before_the_body(guarded: ServiceProcess) -> None:
    before = counter(_metrics(guarded), "vqtok_requests_refused_total", reason="key")
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/encode HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            b"Content-Length: 1000000\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")
    after = counter(_metrics(guarded), "vqtok_requests_refused_total", reason="key")
    assert after == before + 1


def test_the_client_sends_its_key(guarded: ServiceProcess) -> None:
    with Tokenizer.connect(guarded.url, api_key="key-of-ann") as tokenizer:
        assert tokenizer.info.name == "fake"
    with pytest.raises(KeyMissing):
        Tokenizer.connect(guarded.url)
    with pytest.raises(KeyRefused):
        Tokenizer.connect(guarded.url, api_key="key-of-nobody")
    with pytest.raises(InvalidParameter, match="header"):
        Tokenizer.connect(guarded.url, api_key="two\nlines")


def test_the_command_takes_its_key_from_the_environment(
    guarded: ServiceProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(png(0))
    command = ["encode", str(tmp_path / "a.png"), "-o", str(tmp_path / "t.npz")]
    monkeypatch.delenv("VQTOK_API_KEY", raising=False)
    with pytest.raises(SystemExit) as ended:
        main([*command, "--url", guarded.url])
    assert ended.value.code == 3
    monkeypatch.setenv("VQTOK_API_KEY", "key-of-bob")
    with pytest.raises(SystemExit) as ended:
        main([*command, "--url", guarded.url])
    assert ended.value.code == 0
    assert (tmp_path / "t.npz").exists()


def test_who_uses_more_than_its_share_waits_and_the_others_do_not(
    guarded: ServiceProcess,
) -> None:
    # 16 x 16 pixels at 10 ms each are 2.6 s, of an account that holds 1 s and gets 0.5 s a second.
    def post(key: str) -> httpx.Response:
        return httpx.post(
            f"{guarded.url}/v1/encode", content=png(0), headers={**PNG, **bearer(key)}
        )

    assert post("key-of-cy").status_code == 200
    refused = post("key-of-cy")
    assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
    assert 1 <= int(refused.headers["retry-after"]) <= 4
    assert "key_share" in refused.json()["detail"]
    assert post("key-of-dan").status_code == 200
    time.sleep(int(refused.headers["vqtok-retry-after-ms"]) / 1000)
    assert post("key-of-cy").status_code == 200


def test_keys_are_read_again_on_sighup_and_a_broken_file_changes_nothing(
    guarded: ServiceProcess, keys_file: Path
) -> None:
    assert _status(guarded, "key-of-dora") == 403
    keys_file.write_text(entry_of("dora", "key-of-dora"))
    _reload(guarded, r"read 4 keys")
    assert _status(guarded, "key-of-dora") == 200
    assert _status(guarded, "key-of-ann") == 403
    assert _status(guarded, "key-of-bob") == 200
    keys_file.write_text("key-of-someone-by-mistake")
    _reload(guarded, r"the keys stay as they were: entry 1 of")
    assert _status(guarded, "key-of-dora") == 200
    assert not any("by-mistake" in line for line in guarded.log)
    keys_file.write_text(entry_of("ann", "key-of-ann"))
    guarded.log.clear()
    _reload(guarded, r"read 4 keys")


def test_pages_of_the_origins_that_are_named_may_call_and_no_others(
    guarded: ServiceProcess,
) -> None:
    asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    sent = {"Access-Control-Request-Headers": "authorization,content-type,vqtok-timeout-ms"}
    preflight = httpx.options(f"{guarded.url}/v1/encode", headers={**asked, **sent})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://page.example"
    other = {**asked, **sent, "Origin": "https://other.example"}
    refused = httpx.options(f"{guarded.url}/v1/encode", headers=other)
    assert refused.status_code == 400
    answer = httpx.get(f"{guarded.url}/v1/models", headers={"Origin": "https://page.example"})
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    assert "Vqtok-Model" in answer.headers["access-control-expose-headers"]


def test_without_keys_everybody_is_let_in_but_no_page_and_sighup_is_harmless() -> None:
    with ServiceProcess([], "tests.service.fake_model") as running:
        running.wait_ready()
        _reload(running, "there are no keys")
        headers = {"Origin": "https://page.example", **bearer("any")}
        answer = httpx.get(f"{running.url}/v1/models", headers=headers)
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers


def test_metrics_may_have_a_port_of_their_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    flags = ["--metrics-port", str(port), "--api-keys", entry_of("ann", "key-of-ann")]
    with ServiceProcess(flags, "tests.service.fake_model") as running:
        running.wait_ready()
        assert "vqtok_ready 1.0" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
        own = httpx.get(f"{running.url}/metrics", headers=bearer("key-of-ann"))
        assert own.status_code == 404
        running.terminate()
        assert running.wait() == 0


def _metrics(service: ServiceProcess) -> str:
    return httpx.get(f"{service.url}/metrics", headers=bearer("key-of-ann")).text


def _status(service: ServiceProcess, key: str) -> int:
    return httpx.get(f"{service.url}/v1/models", headers=bearer(key)).status_code


def _reload(service: ServiceProcess, logged: str) -> None:
    service.signal(signal.SIGHUP)
    service.wait_for(re.compile(logged))
