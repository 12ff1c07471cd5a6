"""Samples over HTTP from a learned prior: the same as in this process, in any company."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from tests.service.process import ServiceProcess
from tests.vqtok.tiny_bundle import write_tiny_bundle
from vqtok.bundle import Bundle
from vqtok.priors import Drawn, checked_wish, draw_all
from vqtok.runtime.onnx import prior_of
from vqtok.tokenizer import Tokenizer

JSON = {"Accept": "application/json"}
WISHES: list[dict[str, Any]] = [
    {"n": 9, "seed": 4},
    {"n": 3, "seed": 4, "label": "lines"},
    {"n": 2, "seed": 1, "label": 0, "cfg_scale": 1.5, "temperature": 0.8},
    {"n": 2, "seed": 2**64 - 1, "top_k": 5, "top_p": 0.9},
    {"n": 1, "seed": 5, "passes": 7},
    {"n": 2, "seed": 6, "grid": [3, 11]},
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles"), prior=True))


@pytest.fixture(scope="module")
def client(bundle: Bundle) -> Generator[httpx.Client]:
    with ServiceProcess(["--bundle", str(bundle.folder), "--device", "cpu"]) as running:
        running.wait_ready()
        with httpx.Client(base_url=running.url, timeout=60) as opened:
            yield opened


def drawn_here(bundle: Bundle, wish: dict[str, Any]) -> Drawn:
    options = {name: value for name, value in wish.items() if name not in ("tokens", "n")}
    if "tokens" in wish:
        options["known"] = wish["tokens"]
    prior = prior_of(bundle, bundle.reference, "cpu")
    return draw_all(prior, checked_wish(wish.get("n", 1), **options))


def assert_same(answer: httpx.Response, drawn: Drawn) -> None:
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["windowed"] == drawn.windowed
    for item, grid, bits, used in zip(
        document["items"], drawn.tokens, drawn.bits, drawn.drawn_bits, strict=True
    ):
        assert item["tokens"] == grid.tolist()
        assert item["bits"] == pytest.approx(bits, rel=1e-12)
        assert item["drawn_bits"] == pytest.approx(used, rel=1e-12)


@pytest.mark.parametrize("wish", WISHES, ids=lambda wish: "-".join(wish))
def test_the_service_draws_what_is_drawn_in_process(
    client: httpx.Client, bundle: Bundle, wish: dict[str, Any]
) -> None:
    answer = client.post("/v1/sample", json=wish, headers=JSON)
    assert_same(answer, drawn_here(bundle, wish))
    assert answer.json()["prior"] == answer.headers["vqtok-prior"] == "masked"
    assert answer.json()["seed"] == wish["seed"]


def test_many_requests_at_once_draw_what_each_draws_alone(
    client: httpx.Client, bundle: Bundle
) -> None:
    wishes = [{**wish, "seed": seed} for seed in range(6) for wish in WISHES]
    with ThreadPoolExecutor(12) as pool:
        answers = list(
            pool.map(lambda wish: client.post("/v1/sample", json=wish, headers=JSON), wishes)
        )
    for answer, wish in zip(answers, wishes, strict=True):
        assert_same(answer, drawn_here(bundle, wish))


def test_what_is_known_stays_and_the_rest_is_painted_in(
    client: httpx.Client, bundle: Bundle
) -> None:
    known = np.arange(64).reshape(8, 8) % 32
    mask = np.arange(64).reshape(8, 8) % 3 > 0
    wish = {"n": 4, "seed": 3, "tokens": known.tolist(), "mask": mask.tolist()}
    answer = client.post("/v1/sample", json=wish, headers=JSON)
    assert_same(answer, drawn_here(bundle, wish))
    for item in answer.json()["items"]:
        assert (np.array(item["tokens"])[mask] == known[mask]).all()


def test_a_picture_is_that_of_the_tokens(client: httpx.Client) -> None:
    wish = {"seed": 8, "grid": [2, 5], "label": "dots"}
    tokens = client.post("/v1/sample", json=wish, headers=JSON)
    picture = client.post("/v1/sample", json=wish)
    assert picture.headers["content-type"] == "image/png"
    assert picture.headers["vqtok-bits"] == f"{tokens.json()['items'][0]['bits']:.2f}"
    decoded = client.post(
        "/v1/decode", content=tokens.content, headers={"Content-Type": "application/json"}
    )
    assert decoded.content == picture.content


def test_the_seed_that_the_service_drew_gives_the_same_again(client: httpx.Client) -> None:
    first = client.post("/v1/sample", json={"n": 2}, headers=JSON)
    seed = first.json()["seed"]
    assert str(seed) == first.headers["vqtok-seed"]
    again = client.post("/v1/sample", json={"n": 2, "seed": seed}, headers=JSON)
    assert again.json() == first.json()


def test_the_client_and_the_bundle_give_the_same_samples(
    client: httpx.Client, bundle: Bundle
) -> None:
    mask = np.eye(8, dtype=bool)
    known = np.full((8, 8), 5)
    with (
        Tokenizer.open(bundle.folder, "cpu") as local,
        Tokenizer.connect(str(client.base_url)) as remote,
    ):
        one, two = (
            each.sample(3, seed=9, label="lines", cfg_scale=0.5, known=known, mask=mask)
            for each in (local, remote)
        )
    assert np.array_equal(np.stack(one.images), np.stack(two.images))
    assert np.allclose(one.bits, two.bits, rtol=1e-12)
    assert np.allclose(one.drawn_bits, two.drawn_bits, rtol=1e-12)


SQUARE = [[0] * 8] * 8


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"label": "owls"}, 422, "dots, lines"),
        ({"label": 2}, 422, "0 .. 1"),
        ({"label": True}, 422, "label"),
        ({"cfg_scale": 1}, 422, "needs a label"),
        ({"top_p": 0}, 422, "top_p"),
        ({"top_k": 1.5}, 422, "top_k"),
        ({"n": True}, 422, "n is a number"),
        ({"passes": 0}, 422, "passes"),
        ({"grid": [8]}, 422, "positive numbers"),
        ({"grid": "8x8"}, 422, "grid"),
        ({"grid": [100000, 100000]}, 413, "pixels"),
        ({"grid": [1000, 1000]}, 413, "124002 calls of the prior"),
        ({"tokens": SQUARE}, 422, "mask"),
        ({"tokens": SQUARE, "mask": SQUARE}, 422, "true and false"),
        ({"tokens": [[0]], "mask": [[True]]}, 422, "shape"),
        ({"tokens": [["a"]], "mask": [[True]]}, 422, "integers"),
        ({"tokens": [[0, 1], [0]], "mask": [[True]]}, 422, "ragged"),
        ({"tokens": SQUARE, "mask": [[True], [True, False]]}, 422, "equal length"),
        ({"tokens": [[32] * 8] * 8, "mask": [[True] * 8] * 8}, 422, "0 .. 31"),
        ({"sead": 1}, 400, "no key 'sead'"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(
    client: httpx.Client, body: dict[str, Any], status: int, words: str
) -> None:
    answer = client.post("/v1/sample", json=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]


def test_more_calls_of_a_learned_prior_than_are_taken_are_refused_before_they_are_planned(
    bundle: Bundle,
) -> None:
    """The prior of the bundle takes two passes."""
    flags = ["--bundle", str(bundle.folder), "--device", "cpu", "--max-prior-rows", "18"]
    guided = {"label": 0, "cfg_scale": 1}
    with ServiceProcess(flags) as running, httpx.Client(base_url=running.url) as own:
        running.wait_ready()
        for taken in ({"n": 9}, {"n": 4, **guided}, {"n": 18, "passes": 1}, {"grid": [12, 16]}):
            assert own.post("/v1/sample", json=taken, headers=JSON).status_code == 200
        for rows, wish in (
            (20, {"n": 10}),
            (20, {"n": 5, **guided}),
            (21, {"n": 3, "passes": 7}),
            (30, {"grid": [16, 24]}),
        ):
            answer = own.post("/v1/sample", json=wish, headers=JSON)
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (413, "too_large")
            assert (problem["limit"], problem["setting"]) == (18, "max_prior_rows")
            assert f"need {rows} calls" in problem["detail"]
            assert "decode" not in answer.headers["server-timing"]


def test_a_table_is_not_held_to_the_calls_of_a_learned_prior() -> None:
    flags = ["--max-prior-rows", "1"]
    with ServiceProcess(flags, "tests.service.fake_model") as running:
        running.wait_ready()
        answer = httpx.post(f"{running.url}/v1/sample", json={"n": 5}, headers=JSON)
    assert answer.status_code == 200
