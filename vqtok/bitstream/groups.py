"""In which order tokens are coded, and by which weights each of them.

A coder's order is a generator of groups: tokens that share weights, as places int64 in the array
of all tokens int32 (n, h, w, depth), seen flat. Before a group is asked for, all earlier ones must
have been filled in: a decoder's generator looks at them. Writing, reading and measuring go through
the same generator, so they cannot disagree. Groups are large: a model a token would take tens of
times as long.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vqtok.bitstream.tables import CONTEXT, POSITION, STATIC, CoderTables, Row

Tokens = NDArray[np.int32]
Groups = Iterator[tuple[Row, NDArray[np.int64]]]


def static_groups(tokens: Tokens, tables: CoderTables) -> Groups:
    """A level at a time."""
    depth = tokens.shape[3]
    for level in range(depth):
        yield Row(STATIC, level), np.arange(level, tokens.size, depth, dtype=np.int64)


def position_groups(tokens: Tokens, tables: CoderTables) -> Groups:
    """A position at a time, of all images."""
    depth = tokens.shape[3]
    an_image = tokens[0].size
    for first in range(an_image):
        number, level = divmod(first, depth)
        places = np.arange(first, tokens.size, an_image, dtype=np.int64)
        yield Row(POSITION, level, number), places


def context_groups(tokens: Tokens, tables: CoderTables) -> Groups:
    """A diagonal at a time, of all images: what lies left of it and above is known then. Within it
    the contexts in ascending order, and within a context the images.
    """
    count, height, width, depth = tokens.shape
    flat = tokens.reshape(-1)
    beyond = tables.num_clusters
    # The code -1 is the last of these: the cluster beyond the edge.
    clusters = np.append(tables.clusters, np.full((depth, 1), beyond, np.uint16), axis=1)
    firsts = np.arange(0, flat.size, height * width * depth, dtype=np.int64)[:, None]
    for diagonal in range(height + width - 1):
        low, high = max(0, diagonal - width + 1), min(height, diagonal + 1)
        rows = np.arange(low, high, dtype=np.int64)
        cells = (rows * width + diagonal - rows) * depth
        has_left = np.tile(rows < diagonal, count)
        has_above = np.tile(rows > 0, count)
        for level in range(depth):
            places = (firsts + cells + level).reshape(-1)
            left = np.where(has_left, flat[places - depth], -1)
            above = np.where(has_above, flat[places - width * depth], -1)
            contexts = clusters[level, left].astype(np.int64) * (beyond + 1)
            contexts += clusters[level, above]
            order = np.argsort(contexts, kind="stable")
            places, contexts = places[order], contexts[order]
            starts = [0, *(np.flatnonzero(np.diff(contexts)) + 1).tolist(), len(places)]
            for start, end in pairwise(starts):
                yield Row(CONTEXT, level, int(contexts[start])), places[start:end]
