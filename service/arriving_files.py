"""Image files of a multipart body, planned as soon as all bytes of one have arrived."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from service.body import BodyReader
from service.intake import FIELD, Chunk, ImageOptions
from service.job import Job
from service.multipart import PartsReader
from service.planning import Planner


@dataclass(eq=False)
class ArrivingFiles:
    """Files of a body that `parts` reads. `num_bytes` counts those of the files in chunks."""

    reader: BodyReader
    parts: PartsReader
    planner: Planner
    job: Job
    num_bytes: int = 0
    _waiting: list[bytes] = field(default_factory=list[bytes])

    @staticmethod
    def of(
        reader: BodyReader, content_type: str, options: ImageOptions, job: Job
    ) -> "ArrivingFiles":
        """The files of a body of which nothing has been looked at.

        Raises:
            MalformedBody: the content type states no boundary.
        """
        parts = PartsReader(content_type, FIELD)
        return ArrivingFiles(reader, parts, Planner(options, job.work), job)

    async def next(self, num_bytes: int) -> list[Chunk]:
        """Chunks of the files that are complete with the next bytes; often none.

        Raises:
            TooLarge, BodyTimeout, CallerLeft: as `BodyReader.piece`. VqtokError: as `look`.
        """
        return await self.look(await self.reader.some(num_bytes))

    async def look(self, pieces: Sequence[bytes]) -> list[Chunk]:
        """As `next`, with bytes that have been read.

        Raises:
            MalformedBody: no multipart body of images. VqtokError: as `Planner.take`.
        """
        with self.reader.pause(), self.job.call.stage("decode"):
            return await self.job.service.pool.run(self._look, pieces)

    def _look(self, pieces: Sequence[bytes]) -> list[Chunk]:
        are_all = self.reader.is_complete
        for piece in pieces:
            self._waiting += self.parts.feed(piece)
        if are_all:
            self.parts.end()
        # An error names an image by its number unless there is one only.
        if self.parts.num_begun < 2 and not are_all:
            return []
        files, self._waiting = self._waiting, []
        self.num_bytes += sum(map(len, files))
        return self.planner.take(files, self.parts.num_begun, are_all=are_all)
