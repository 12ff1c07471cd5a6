"""Files of tokens give back what was written, and say what is wrong with what was not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vqtok.errors import InvalidInput, InvalidTokens, NotAcceptable
from vqtok.token_files import read_tokens, require_token_file, write_tokens
from vqtok.tokens import ImageTokens, ItemError, TokenBatch

RNG = np.random.default_rng(0)


def batch_of(*shapes: tuple[int, ...], **labels: str) -> TokenBatch:
    items = tuple(
        ImageTokens(RNG.integers(0, 900, shape).astype(np.uint16), (3 * shape[0], shape[1]))
        for shape in shapes
    )
    ids = {name: labels.get(name) for name in ("model", "codebook_id", "tokenizer_id")}
    return TokenBatch(**ids, preprocess=labels.get("preprocess"), items=items)


def assert_same(one: TokenBatch, other: TokenBatch) -> None:
    for a, b in zip(one.images, other.images, strict=True):
        assert a.size == b.size
        assert np.array_equal(a.tokens, b.tokens)


@pytest.mark.parametrize(
    "shapes",
    [[(8, 8)], [(8, 8)] * 3, [(8, 8), (1, 5), (7, 2)], [(4, 4, 3)] * 2, [(4, 4, 3), (1, 2, 3)]],
)
def test_an_npz_gives_back_tokens_sizes_names_and_ids(
    tmp_path: Path, shapes: list[tuple[int, ...]]
) -> None:
    batch = batch_of(
        *shapes, model="m@1", codebook_id="ab" * 32, tokenizer_id="cd" * 32, preprocess="pad"
    )
    names = [f"näme {i}" for i in range(len(shapes))]
    write_tokens(tmp_path / "x.npz", batch, names)
    read, read_names = read_tokens(tmp_path / "x.npz")
    assert_same(read, batch)
    assert read_names == names
    assert (read.model, read.codebook_id, read.tokenizer_id, read.preprocess) == (
        batch.model,
        batch.codebook_id,
        batch.tokenizer_id,
        batch.preprocess,
    )


def test_what_a_batch_does_not_know_stays_unknown(tmp_path: Path) -> None:
    batch = TokenBatch(None, None, None, None, (ImageTokens(np.zeros((2, 2), np.uint16)),))
    write_tokens(tmp_path / "x.npz", batch)
    read, names = read_tokens(tmp_path / "x.npz")
    assert read.codebook_id is None
    assert read.images[0].size is None
    assert names == ["00000"]


def test_json_carries_mixed_grids_and_npy_equal_ones(tmp_path: Path) -> None:
    mixed = batch_of((2, 3), (4, 1))
    write_tokens(tmp_path / "x.json", mixed)
    assert_same(read_tokens(tmp_path / "x.json")[0], mixed)
    with pytest.raises(NotAcceptable):
        write_tokens(tmp_path / "x.npy", mixed)
    write_tokens(tmp_path / "x.npy", batch_of((2, 3), (2, 3)))
    assert len(read_tokens(tmp_path / "x.npy")[0]) == 2


def test_a_batch_with_a_failed_item_is_not_written(tmp_path: Path) -> None:
    batch = TokenBatch(None, None, None, None, (ItemError("broken_image", "It is broken."),))
    with pytest.raises(InvalidInput, match="It is broken"):
        write_tokens(tmp_path / "x.npz", batch)
    assert not list(tmp_path.iterdir())


def spoilt(folder: Path, **changes: Any) -> Path:
    """An npz with arrays changed, or left out where None."""
    write_tokens(folder / "x.npz", batch_of((2, 2), (3, 1)))
    with np.load(folder / "x.npz") as archive:
        arrays = {**archive, **changes}
    np.savez(folder / "y.npz", **{k: v for k, v in arrays.items() if v is not None})
    return folder / "y.npz"


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": None},
        {"grids": None},
        {"model": None},
        {"grids": np.array([[2, 2], [3, 2]])},
        {"grids": np.array([[2, 2]])},
        {"grids": np.array([[2, 2], [-3, 1]])},
        {"grids": np.array(4)},
        {"sizes": np.array([[2, 2]])},
        {"sizes": np.array([1, 2])},
        {"tokens": np.zeros(3, np.uint16)},
    ],
    ids=range(10),
)
def test_an_npz_that_does_not_add_up_is_no_file_of_tokens(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(InvalidTokens, match=r"y\.npz is no file of tokens"):
        read_tokens(spoilt(tmp_path, **changes))


def test_any_damage_to_an_npz_is_an_error_that_names_it(tmp_path: Path) -> None:
    batch = batch_of((2, 2), (3, 1), model="m@1")
    write_tokens(tmp_path / "x.npz", batch)
    data = (tmp_path / "x.npz").read_bytes()
    path = tmp_path / "y.npz"
    refused: list[str] = []
    for place in range(len(data)):
        flip = 1 + place % 255
        path.write_bytes(data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :])
        try:
            assert_same(read_tokens(path)[0], batch)
        except InvalidTokens as error:
            refused.append(error.detail)
    assert all(detail.startswith("y.npz is no file of tokens: ") for detail in refused)
    assert len(refused) > len(data) // 2


@pytest.mark.parametrize("end", range(0, 1400, 50))
def test_an_npz_that_is_cut_short_is_refused(tmp_path: Path, end: int) -> None:
    path = spoilt(tmp_path)
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(InvalidTokens, match=r"y\.npz is no file of tokens"):
        read_tokens(path)


@pytest.mark.parametrize("data", [b"", b"rubbish", b"PK\x03\x04"])
@pytest.mark.parametrize("suffix", [".npz", ".npy", ".json", ".txt"])
def test_rubbish_is_refused(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(data)
    with pytest.raises(InvalidInput):
        read_tokens(path)


def test_a_file_that_cannot_be_written_is_known_beforehand(tmp_path: Path) -> None:
    require_token_file(tmp_path / "x.npz")
    with pytest.raises(InvalidTokens, match=r"x\.txt"):
        require_token_file(tmp_path / "x.txt")
    with pytest.raises(InvalidInput, match="there is no folder"):
        require_token_file(tmp_path / "no" / "x.npz")
