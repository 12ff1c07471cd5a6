"""Images of an npy body in groups, each as soon as its bytes have arrived."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.body import BodyReader
from vqtok.errors import MalformedBody
from vqtok.wire import NpyHeader


@dataclass(eq=False)
class ArrivingImages:
    """uint8 images (N, H, W, 3) of which `prefix` has arrived, with `header`; `group` of them at a
    time.
    """

    reader: BodyReader
    header: NpyHeader
    prefix: bytes
    group: int

    async def groups(self) -> AsyncGenerator[NDArray[np.uint8]]:
        """Arrays (n, H, W, 3), n at most `group`, in order.

        Raises:
            MalformedBody: the body is shorter or longer than its header states.
            TooLarge, BodyTimeout, CallerLeft: as `BodyReader.piece`.
        """
        num_images, *shape = self.header.shape
        left = memoryview(self.prefix)[self.header.data_offset :]
        for start in range(0, num_images, self.group):
            images = np.empty((min(self.group, num_images - start), *shape), np.uint8)
            wanted = images.data.cast("B")
            while wanted:
                if not left:
                    left = await self._next()
                num_bytes = min(len(left), len(wanted))
                wanted[:num_bytes] = left[:num_bytes]
                wanted, left = wanted[num_bytes:], left[num_bytes:]
            with self.reader.pause():
                yield images
        while not left and not self.reader.is_complete:
            left = memoryview(await self.reader.piece())
        if left:
            raise self._mismatch()

    async def _next(self) -> memoryview:
        if self.reader.is_complete:
            raise self._mismatch()
        return memoryview(await self.reader.piece())

    def _mismatch(self) -> MalformedBody:
        more = "" if self.reader.is_complete else " or more"
        return MalformedBody(
            f"The npy header states {self.header.file_bytes} bytes (dtype {self.header.dtype}, "
            f"shape {self.header.shape}), {self.reader.num_bytes}{more} arrived."
        )
