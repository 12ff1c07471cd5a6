"""Coder tables: counts that are right, choices that held-out tokens like, and nothing lost."""

import dataclasses
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import training.reference
from training.bits import bits_sentence
from training.code_clusters import CLUSTERINGS, Neighbours
from training.coder_tables import count_contexts, estimate_tables
from training.data import Part
from training.reference import count_tokens
from training.refresh import refresh_reference
from vqtok.bitstream import CoderTables, Coding, bits_per_image
from vqtok.bundle import Bundle
from vqtok.runtime.engine import Engine

CODES, GRID = 24, (5, 6)


def field_of(seed: int, count: int, depth: int) -> NDArray[np.int64]:
    """Tokens (count, 5, 6, depth) in four kinds of equal neighbours: kind k has the codes
    k, k + 4, k + 8, …; a token is of the kind of its left or its upper neighbour, nearly always.
    """
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 4, (count, *GRID, depth))
    for row in range(GRID[0]):
        for column in range(1, GRID[1]):
            use = rng.random((count, depth)) < 0.9
            kinds[:, row, column] = np.where(use, kinds[:, row, column - 1], kinds[:, row, column])
    return kinds + 4 * rng.integers(0, CODES // 4, kinds.shape)


def tables_of(depth: int = 1) -> tuple[CoderTables, NDArray[np.int64]]:
    tokens = field_of(0, 2000, depth)
    counts = np.stack([(tokens == code).sum(axis=0) for code in range(CODES)], -1).astype(np.uint32)
    table = np.random.default_rng(2).standard_normal((depth, CODES, 3)).astype(np.float32)
    if depth == 1:
        counts, table = counts[:, :, 0], table[0]
    shaped = tokens if depth > 1 else tokens[..., 0]
    held_out = field_of(1, 500, depth) if depth > 1 else field_of(1, 500, depth)[..., 0]
    return estimate_tables(counts, shaped, held_out, table), shaped


@pytest.mark.parametrize("depth", [1, 2])
def test_contexts_save_what_neighbours_tell(depth: int) -> None:
    """H(kind | left kind) + log2 6 = 0.503 + 2.585 bits inside a row, log2 24 at its beginning."""
    tables, _ = tables_of(depth)
    tokens = field_of(3, 400, depth)
    grids = list(tokens if depth > 1 else tokens[..., 0])
    rates = bits_per_image(grids, Coding(CODES, depth, tables))
    stay = 0.9 + 0.1 / 4
    inside = -stay * np.log2(stay) - 3 * 0.025 * np.log2(0.025) + np.log2(6)
    entropy = depth * 5 * (5 * inside + np.log2(24))
    context = np.mean([each["context"].bits or 0 for each in rates])
    assert entropy - 1 < context < 1.02 * entropy
    assert np.mean([each["static"].bits or 0 for each in rates]) > 1.3 * context


def test_clusters_by_neighbours_find_the_kinds() -> None:
    tokens = field_of(0, 2000, 1)[..., 0]
    neighbours = Neighbours.of(tokens, CODES)
    codebook = np.zeros((CODES, 2), np.float32)
    clusters = CLUSTERINGS["neighbours"](4, codebook, neighbours)
    kinds = [set(clusters[kind::4].tolist()) for kind in range(4)]
    assert [len(kind) for kind in kinds] == [1, 1, 1, 1]
    assert len(set.union(*kinds)) == 4
    by_code = CLUSTERINGS["codebook"](3, np.repeat(np.eye(3), 8, 0).astype(np.float32), neighbours)
    assert len(set(by_code.tolist())) == 3


def test_contexts_are_counted_one_by_one() -> None:
    tokens = field_of(0, 7, 1)[..., 0]
    clusters = np.arange(CODES) % 3
    expected = np.zeros((16, CODES), int)
    for image in tokens:
        for (row, column), code in np.ndenumerate(image):
            left = clusters[image[row, column - 1]] if column else 3
            above = clusters[image[row - 1, column]] if row else 3
            expected[left * 4 + above, code] += 1
    assert np.array_equal(count_contexts(tokens, clusters, 3, CODES), expected)


def test_a_large_data_set_is_counted_whole_and_kept_in_part(
    engine: Engine, cifar: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Part(cifar, 0, 230)
    whole = count_tokens(engine, 16, part)
    monkeypatch.setattr(training.reference, "KEPT_TOKENS", 64 * 80)
    counted = count_tokens(engine, 16, part)
    assert np.array_equal(counted.position_counts, whole.position_counts)
    assert np.array_equal(counted.tokens, whole.tokens[::3])


def test_an_exported_bundle_has_tables_and_says_what_they_save(bundle: Bundle) -> None:
    tables = CoderTables.of(bundle.reference)
    assert tables is not None
    assert set(tables.ids) == {"static", "position", "context"}
    assert int(tables.context_counts.sum()) == 96 * 64
    bits = bundle.manifest.metrics["bits"]
    assert (bits["images"], bits["pixels"], bits["fixed"]) == (24, 1024, 256)
    assert bits["context"] < 256
    assert bits_sentence(bundle.manifest) in bundle.read("card.md").decode()


def test_a_reference_measured_anew_is_the_same_and_nothing_else_changes(
    bundle: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle.folder, folder)
    bare = dataclasses.replace(
        bundle.reference,
        coder_clusters=None,
        coder_context_counts=None,
        coder_smoothing=None,
    ).to_npz()
    digest = hashlib.sha256(bare).hexdigest()
    (folder / "reference.npz").write_bytes(bare)
    manifest = (folder / "manifest.json").read_text()
    manifest = manifest.replace(bundle.manifest.digests["reference.npz"], digest)
    (folder / "manifest.json").write_text(manifest)
    assert CoderTables.of(Bundle.open(folder).reference) is None
    written = refresh_reference(folder)
    for name in bundle.manifest.digests:
        assert (folder / name).read_bytes() == bundle.read(name), name
    assert written == bundle.manifest
    assert refresh_reference(folder).digests == written.digests
