"""Ids name meaning: they follow the numbers, and nothing else."""

import numpy as np
import pytest

from vqtok.identity import ContentId, codebook_id, tokenizer_id

WEIGHTS = {"b": np.ones((2, 3), np.float32), "a": np.zeros(4, np.float32)}
TABLE = np.arange(8, dtype=np.float32).reshape(4, 2)
BASE = codebook_id(WEIGHTS, TABLE, 1)


def test_an_id_is_a_sha256_with_a_short_form() -> None:
    assert len(BASE) == 64
    assert BASE.short == BASE[:12]


def test_order_layout_and_byte_order_in_memory_do_not_matter() -> None:
    reordered = dict(reversed(WEIGHTS.items()))
    swapped = {name: array.astype(">f4") for name, array in reordered.items()}
    fortran = np.asfortranarray(TABLE)
    assert codebook_id(swapped, fortran, 1) == BASE


@pytest.mark.parametrize(
    "other",
    [
        codebook_id({**WEIGHTS, "a": np.array([0, 0, 0, 1e-7], np.float32)}, TABLE, 1),
        codebook_id({**WEIGHTS, "a": np.zeros((2, 2), np.float32)}, TABLE, 1),
        codebook_id({**WEIGHTS, "a": np.zeros(4, np.int32)}, TABLE, 1),
        codebook_id({"b": WEIGHTS["b"], "c": WEIGHTS["a"]}, TABLE, 1),
        codebook_id({"b": WEIGHTS["b"]}, TABLE, 1),
        codebook_id(WEIGHTS, TABLE[::-1], 1),
        codebook_id(WEIGHTS, TABLE, 2),
        codebook_id(WEIGHTS, TABLE, 1, "column"),
    ],
)
def test_weights_names_shapes_table_depth_and_order_matter(other: str) -> None:
    assert other != BASE


def test_the_tokenizer_id_follows_weights_rule_and_precision() -> None:
    ids = {
        tokenizer_id(WEIGHTS, {"rule": "vq"}, "fp32"),
        tokenizer_id(WEIGHTS, {"rule": "gmvq"}, "fp32"),
        tokenizer_id(WEIGHTS, {"rule": "vq"}, "fp16"),
        tokenizer_id({"a": WEIGHTS["a"]}, {"rule": "vq"}, "fp32"),
        BASE,
    }
    assert len(ids) == 5
    rule = {"rule": "vq", "centred": True}
    backwards = dict(reversed(rule.items()))
    assert tokenizer_id({}, rule, "fp32") == tokenizer_id({}, backwards, "fp32")


def test_an_id_of_today_is_the_id_of_tomorrow() -> None:
    """Tokens at rest carry these ids: a change of the recipe would orphan them."""
    assert BASE == "d61c92aa08f88bd61569ea57f7723c180e92111b62ced77b1868c3ec199a8a05"


def test_an_abbreviation_of_twelve_digits_or_more_matches() -> None:
    full = ContentId("ab" * 32)
    assert full.matches(full)
    assert full.matches("AB" * 6)
    assert not full.matches("ab" * 5)
    assert not full.matches("cd" * 32)
