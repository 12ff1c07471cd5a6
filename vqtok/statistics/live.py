"""The tokens that a model gives, counted as they come: since the start, and in two windows.

A window has a fixed number of images, and the next begins where it ends. So two windows share no
image, every one of them has the numbers that its thresholds were made for, and three in a row
are three pieces of evidence. Histograms that forget little by little have none of these: their
values follow each other slowly, and no resampling of images describes them.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from vqtok.statistics.alarm import AlarmState
from vqtok.statistics.divergence import ReferenceUsage
from vqtok.statistics.drift_null import DriftNull, NullAt
from vqtok.statistics.window import Shape, Stack, Window

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
    filling: Window
    last: Window | None = None
    num_windows: int = 0
    alarm: AlarmState = field(default_factory=AlarmState)

    @property
    def room(self) -> int:
        return self.size - self.filling.num_images

    def turn(self) -> Window | None:
        """The window that is filling, if it is complete; the next begins."""
        if self.room:
            return None
        complete, self.last, self.filling = self.filling, self.filling, Window(self.shape)
        self.num_windows += 1
        if self.null is not None:
            kl_bits = self.usage.kl_bits(complete.weights)
            self.alarm = self.alarm.after(kl_bits, self.null.threshold)
        return complete

    def state(self) -> WindowState:
        alarm = None if self.null is None else self.alarm
        filling = self.filling.num_images
        return WindowState(self.last, self.size, self.num_windows, filling, alarm)


class LiveWindows:
    """Images of one kind, since the start and in windows of `sizes`, each of which is a multiple of
    the one before. Not safe for threads; the memory does not grow. `calibrated` says whether these
    are images that the reference's null distribution is of; others never raise an alarm.
    """

    def __init__(
        self, shape: Shape, reference: DriftReference, sizes: dict[str, int], *, calibrated: bool
    ) -> None:
        null = reference.null if calibrated else None
        self._complete = Window(shape)
        self._tumbling = {
            name: _Tumbling(
                shape, size, reference.usage, null.at(size) if null else None, Window(shape)
            )
            for name, size in sizes.items()
        }
        self._shortest, *self._longer = self._tumbling.values()

    def add(self, stacks: Sequence[Stack]) -> None:
        """Count some images.

        Raises:
            InvalidTokens: a token outside 0 .. K - 1.
        """
        waiting = deque(stacks)
        while waiting:
            self._shortest.filling.count(_taken(waiting, self._shortest.room))
            complete = self._shortest.turn()
            # Longer windows take whole shorter ones, so that each image is counted once.
            if complete is not None:
                self._complete.merge(complete)
                for each in self._longer:
                    each.filling.merge(complete)
                    each.turn()

    def alarms(self) -> dict[str, bool]:
        """Whether there is cause for alarm now, for each window that is complete at some time."""
        return {name: each.alarm.is_on for name, each in self._tumbling.items()}

    def states(self) -> dict[str, WindowState]:
        """Each window as it stands, by its name. What is handed out never changes any more."""
        so_far = self._complete.copy()
        so_far.merge(self._shortest.filling)
        # Images stay in the shortest window until it is complete, and count for the others too.
        waiting = self._shortest.filling.num_images
        states = {SINCE_START: WindowState(so_far)}
        for name, each in self._tumbling.items():
            state = each.state()
            longer = each is not self._shortest
            states[name] = replace(state, filling=state.filling + waiting) if longer else state
        return states


def _taken(waiting: deque[Stack], most: int) -> list[Stack]:
    """The first `most` images, taken away from those that wait."""
    taken: list[Stack] = []
    while waiting and most:
        stack = waiting.popleft()
        if len(stack[0]) > most:
            waiting.appendleft([column[most:] for column in stack])
            stack = [column[:most] for column in stack]
        taken.append(stack)
        most -= len(stack[0])
    return taken
