"""The tokens that a model gives, counted as they come: since the start, and in two windows.

A window has a fixed number of images, and the next begins where it ends. So two windows share no
image, every one of them has the numbers that its thresholds were made for, and three in a row
are three pieces of evidence. Histograms that forget little by little have none of these: their
values follow each other slowly, and no resampling of images describes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from vqtok.statistics.alarm import AlarmState
from vqtok.statistics.divergence import ReferenceUsage
from vqtok.statistics.drift_null import DriftNull, NullAt
from vqtok.statistics.window import Row, Shape, Window

SINCE_START = "since_start"
RECENT = "recent"
LONG = "long"
WINDOWS = (SINCE_START, RECENT, LONG)
RECENT_IMAGES = 64
LONG_IMAGES = 1024


@dataclass(frozen=True, eq=False)
class DriftReference:
    """What live tokens are compared with. `null` is None in a bundle that was never calibrated;
    `source` says where the counts come from: "training" or "calibration".
    """

    usage: ReferenceUsage
    null: DriftNull | None = None
    source: str = "training"


@dataclass(frozen=True, eq=False)
class WindowState:
    """A window as it stands. `window` are the images of the last one that is complete, None before;
    of "since_start" those so far. `window_images` is how many complete it, None of "since_start";
    `num_windows` were complete, and `filling` images have come since. Without a threshold there is
    no `alarm`.
    """

    window: Window | None
    window_images: int | None = None
    num_windows: int = 0
    filling: int = 0
    alarm: AlarmState | None = None


@dataclass(eq=False)
class _Tumbling:
    """Windows of so many images, one after the other; of complete ones only the last is kept."""

    shape: Shape
    size: int
    usage: ReferenceUsage
    null: NullAt | None
    last: Window | None = None
    num_windows: int = 0
    alarm: AlarmState = field(default_factory=AlarmState)
    _filling: Window = field(init=False)

    def __post_init__(self) -> None:
        self._filling = Window(self.shape)

    @property
    def room(self) -> int:
        return self.size - self._filling.num_images

    def add(self, some: Window) -> None:
        """Some images, no more than there is room for."""
        self._filling.merge(some)
        if self.room:
            return
        self.last, self._filling = self._filling, Window(self.shape)
        self.num_windows += 1
        if self.null is not None:
            kl_bits = self.usage.kl_bits(self.last.weights)
            self.alarm = self.alarm.after(kl_bits, self.null.threshold)

    def state(self) -> WindowState:
        alarm = None if self.null is None else self.alarm
        filling = self._filling.num_images
        return WindowState(self.last, self.size, self.num_windows, filling, alarm)


class LiveWindows:
    """Images of one kind, since the start and in windows. Not safe for threads; the memory does not
    grow. `calibrated` says whether these are images that the reference's null distribution is of;
    others never raise an alarm.
    """

    def __init__(
        self, shape: Shape, reference: DriftReference, sizes: dict[str, int], *, calibrated: bool
    ) -> None:
        self._shape = shape
        self._since_start = Window(shape)
        null = reference.null if calibrated else None
        self._tumbling = {
            name: _Tumbling(shape, size, reference.usage, null.at(size) if null else None)
            for name, size in sizes.items()
        }

    def add(self, rows: Sequence[Row]) -> None:
        """Count some images.

        Raises:
            InvalidTokens: a token outside 0 .. K - 1.
        """
        start = 0
        while start < len(rows):
            # Cut where a window ends, so that each image is counted once for all of them.
            room = min(each.room for each in self._tumbling.values())
            some = Window.of(self._shape, rows[start : start + room])
            self._since_start.merge(some)
            for each in self._tumbling.values():
                each.add(some)
            start += room

    def alarms(self) -> dict[str, bool]:
        """Whether there is cause for alarm now, for each window that is complete at some time."""
        return {name: each.alarm.is_on for name, each in self._tumbling.items()}

    def states(self) -> dict[str, WindowState]:
        """Each window as it stands, by its name. What is complete never changes any more."""
        so_far = WindowState(self._since_start.copy())
        return {SINCE_START: so_far, **{n: each.state() for n, each in self._tumbling.items()}}
