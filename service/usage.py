"""The tokens that pass, counted in bunches: to count those of one small image would take a tenth of
what the model takes for it.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from vqtok.manifest import Manifest
from vqtok.statistics import DriftReference, LiveWindows, Shape, WindowState
from vqtok.statistics.live import LONG, LONG_IMAGES, RECENT, RECENT_IMAGES
from vqtok.statistics.window import Stack

BUNCH_TOKENS = 8192

NATIVE = "native"
OTHER = "other"
GRIDS = (NATIVE, OTHER)
"""Images of the native grid, by which the reference was made; and all others, which only stand
beside them."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WindowSizes:
    """Images of a window."""

    recent: int = RECENT_IMAGES
    long: int = LONG_IMAGES


class PassingTokens:
    """Tokens and margins on their way into the windows. Safe for several threads; it keeps fewer
    than `BUNCH_TOKENS` tokens and what was last added.
    """

    def __init__(
        self, manifest: Manifest, reference: DriftReference, sizes: WindowSizes | None = None
    ) -> None:
        shape = Shape.of(manifest)
        sizes = sizes or WindowSizes()
        named = {RECENT: sizes.recent, LONG: sizes.long}
        self._windows = {
            grid: LiveWindows(shape, reference, named, calibrated=grid == NATIVE) for grid in GRIDS
        }
        self._model = manifest.full_name
        self._grid = manifest.grid
        self._lock = threading.Lock()
        self._waiting: list[Stack] = []
        self._num_waiting = 0
        self._alarms = self._alarms_now()

    def add(self, stacks: Sequence[Stack]) -> None:
        """What the encoder gave for some images: tokens (n, h, w[, depth]), margins (n, h, w) and
        what else it gives.
        """
        with self._lock:
            self._waiting += stacks
            for stack in stacks:
                self._num_waiting += stack[0].size
            if self._num_waiting >= BUNCH_TOKENS:
                self._settle()

    def states(self) -> dict[str, dict[str, WindowState]]:
        """For "native" and "other" grids each window as it stands, with everything in it that has
        been added.
        """
        with self._lock:
            self._settle()
            return {grid: windows.states() for grid, windows in self._windows.items()}

    def _settle(self) -> None:
        waiting, self._waiting, self._num_waiting = self._waiting, [], 0
        if not waiting:
            return
        native = [stack for stack in waiting if stack[0].shape[1:] == self._grid]
        self._windows[NATIVE].add(native)
        if len(native) < len(waiting):
            others = [stack for stack in waiting if stack[0].shape[1:] != self._grid]
            self._windows[OTHER].add(others)
        self._log_alarms()

    def _alarms_now(self) -> dict[str, bool]:
        return self._windows[NATIVE].alarms()

    def _log_alarms(self) -> None:
        now = self._alarms_now()
        for window, is_on in now.items():
            if is_on and not self._alarms[window]:
                log.warning("drift: images are not like those of %s (%s)", self._model, window)
            elif self._alarms[window] and not is_on:
                log.info("drift of images for %s has ended (%s)", self._model, window)
        self._alarms = now
