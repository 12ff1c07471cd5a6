"""How much of the device each caller may use over time."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from vqtok.errors import Overloaded


@dataclass
class _Account:
    seconds: float
    filled_at: float


class Quotas:
    """An account of device seconds for each name, which fills at `share` of what the device has
    and holds at most `burst` seconds' worth. Safe to use from several threads.

    A request is charged when its work is known, and may overdraw the account once. Whoever is in
    debt is refused before its body is read, until time has paid the debt.
    """

    def __init__(
        self, share: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._share = share
        self._burst = burst
        self._clock = clock
        self._num_runners = 1
        self._accounts: dict[str, _Account] = {}
        self._lock = threading.Lock()

    def set_runners(self, num_runners: int) -> None:
        """State how many seconds of work the device does in a second."""
        self._num_runners = num_runners

    def require_credit(self, name: str) -> None:
        """Raise Overloaded, with the time until the debt is paid, for a name in debt."""
        with self._lock:
            debt = -self._account(name).seconds
        if debt > 0:
            wait = debt / self._rate
            raise Overloaded(
                f"{name} has used more than its share of the device ({self._share:g} of it, "
                f"key_share). Try again in {wait:.3g} s.",
                wait,
            )

    def charge(self, name: str, seconds: float) -> None:
        """Take device seconds from a name's account."""
        with self._lock:
            self._account(name).seconds -= seconds

    @property
    def _rate(self) -> float:
        return self._share * self._num_runners

    def _account(self, name: str) -> _Account:
        now, full = self._clock(), self._burst * self._rate
        account = self._accounts.setdefault(name, _Account(full, now))
        account.seconds = min(full, account.seconds + self._rate * (now - account.filled_at))
        account.filled_at = now
        return account
