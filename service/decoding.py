"""Token grids through the decoder and out as pictures; what decode and sample share."""

from collections.abc import Sequence

from service.job import Job, chunks_of
from service.pictures import Picture, PictureFormat
from service.rows import Rows
from service.tokens_in import Item
from vqtok.errors import VqtokError
from vqtok.pictures import crop
from vqtok.tokens import ImageTokens


async def decode_items(
    job: Job, items: Sequence[Item], chosen: PictureFormat
) -> list[Picture | VqtokError]:
    """Every item's picture in the chosen format, in order; items that are errors stay so.

    Raises:
        ModelFailure: the model failed on an item, unless items fail alone.
        NotAcceptable: a picture that does not fit the kind of file.
    """
    images = {i: each for i, each in enumerate(items) if isinstance(each, ImageTokens)}
    grids = {index: image.tokens for index, image in images.items()}
    chunks = await job.service.pool.run(chunks_of, grids, job.work)

    async def finish(indices: list[int], rows: Rows) -> Sequence[Picture | VqtokError]:
        sizes = [images[index].size for index in indices]
        with job.call.stage("serialize"):
            return await job.service.pool.run(_write_all, rows, sizes, chosen)

    found = await job.decode_chunks(chunks, len(items), finish)
    return [found[i] if isinstance(each, ImageTokens) else each for i, each in enumerate(items)]


def _write_all(
    rows: Rows, sizes: Sequence[tuple[int, int] | None], chosen: PictureFormat
) -> list[Picture | VqtokError]:
    return [
        row if isinstance(row, VqtokError) else chosen.write(crop(row[0], size))
        for row, size in zip(rows, sizes, strict=True)
    ]
