"""The two gates that a request passes before it costs anything.

Gate one stands before the body: a slot, and room for the bytes. Gate two stands before the first
pixel is decoded: device time, as measured at warm-up. What a request reserved returns when it
ends, however it ends.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from service.quotas import Quotas
from vqtok.errors import Overloaded, TooLarge

LEAST_RETRY_SECONDS = 0.01

Refusal = Literal["slots", "bytes", "work", "quota", "too_large", "key", "not_ready", "draining"]


@dataclass(frozen=True)
class AdmissionLimits:
    """`seconds` is device time per runner; `body_bytes` bounds one body, `total_bytes` all."""

    requests: int
    body_bytes: int
    total_bytes: int
    seconds: float


@dataclass(frozen=True)
class Reserved:
    """What is reserved by all requests together; device seconds are of one runner."""

    requests: int
    num_bytes: int
    seconds: float


class Admission:
    """Counts what is reserved against the limits. Safe to use from several threads.

    `on_refusal` is called with the reason of every refusal. `quotas` hold each caller to a share.
    """

    def __init__(
        self,
        limits: AdmissionLimits,
        on_refusal: Callable[[Refusal], None],
        quotas: Quotas | None = None,
    ) -> None:
        self.limits = limits
        self._on_refusal = on_refusal
        self._quotas = quotas
        self._lock = threading.Lock()
        self._num_runners = 1
        self._requests = 0
        self._bytes = 0
        self._work: dict[Reservation, float] = {}
        self._latency = 0.1

    def set_runners(self, num_runners: int) -> None:
        """State how many runners share the work, once the engine is open."""
        self._num_runners = num_runners
        if self._quotas is not None:
            self._quotas.set_runners(num_runners)

    @property
    def reserved(self) -> Reserved:
        """What is reserved now; all zero when no request is being worked on."""
        with self._lock:
            return Reserved(self._requests, self._bytes, sum(self._work.values()))

    def enter(self, num_bytes: int | None, caller: str | None = None) -> "Reservation":
        """Gate one. `num_bytes` is the announced length of the body, None when it was not said:
        then the largest allowed body is reserved. `caller` is whose quota counts, if any does.

        Raises:
            TooLarge: the body is above the limit of one body.
            Overloaded: no slot or no room for the bytes now, or the caller's share is used up.
        """
        self._require_credit(caller)
        limits = self.limits
        wanted = limits.body_bytes if num_bytes is None else num_bytes
        if wanted > limits.body_bytes:
            self._on_refusal("too_large")
            raise body_too_large(limits.body_bytes)
        with self._lock:
            reason: Refusal | None = None
            if self._requests >= limits.requests:
                reason = "slots"
            elif self._bytes + wanted > limits.total_bytes:
                reason = "bytes"
            else:
                self._requests += 1
                self._bytes += wanted
            retry_after = max(LEAST_RETRY_SECONDS, self._latency / limits.requests)
        if reason is not None:
            self._on_refusal(reason)
            raise Overloaded(_FULL[reason].format(limits=limits), retry_after)
        return Reservation(self, wanted, caller)

    def expect_work(self, reservation: "Reservation", seconds: float) -> bool:
        """Reserve `seconds` of device time for a request, in place of what it had, if they fit."""
        return self._try_work(reservation, seconds) <= 0

    def require_work(self, reservation: "Reservation", seconds: float) -> None:
        """Gate two: as `expect_work`.

        Raises:
            TooLarge: the request alone is more than may ever be queued.
            Overloaded: it does not fit beside what is queued now.
        """
        excess = self._try_work(reservation, seconds)
        if excess <= 0:
            return
        if seconds > self._work_limit:
            self._on_refusal("too_large")
            raise TooLarge(
                f"This request needs about {seconds / self._num_runners:.3g} s of the model, and "
                f"no more than {self.limits.seconds:g} s may be queued (max_queue_seconds). "
                "Send fewer or smaller images at a time.",
                limit=self.limits.seconds,
                setting="max_queue_seconds",
            )
        self._on_refusal("work")
        others = self._work_limit + excess - seconds
        raise Overloaded(
            f"About {others / self._num_runners:.3g} s of work are queued, and this "
            f"request would exceed {self.limits.seconds:g} s (max_queue_seconds).",
            excess / self._num_runners,
        )

    @property
    def _work_limit(self) -> float:
        return self.limits.seconds * self._num_runners

    def _try_work(self, reservation: "Reservation", seconds: float) -> float:
        """By how much the limit would be exceeded; only what does not exceed it is reserved."""
        with self._lock:
            before = self._work.get(reservation, 0.0)
            waiting = sum(self._work.values()) - before + seconds
            # Less than before always fits, however the sum is rounded.
            excess = 0.0 if seconds <= before else waiting - self._work_limit
            if excess <= 0:
                self._work[reservation] = seconds
        if excess <= 0:
            self._charge(reservation.caller, seconds - before)
        return excess

    def _require_credit(self, caller: str | None) -> None:
        if self._quotas is None or caller is None:
            return
        try:
            self._quotas.require_credit(caller)
        except Overloaded:
            self._on_refusal("quota")
            raise

    def _charge(self, caller: str | None, seconds: float) -> None:
        if self._quotas is not None and caller is not None:
            self._quotas.charge(caller, seconds)

    def shrink(self, reservation: "Reservation", num_bytes: int) -> None:
        """Give back the bytes that turned out not to be needed."""
        with self._lock:
            self._bytes -= reservation.num_bytes - num_bytes
            reservation.num_bytes = num_bytes

    def leave(self, reservation: "Reservation", seconds_inside: float) -> None:
        """Give everything back. `seconds_inside` is how long the request took; the mean of it is
        what the next refusal's waiting time is made of.
        """
        with self._lock:
            self._requests -= 1
            self._bytes -= reservation.num_bytes
            self._work.pop(reservation, None)
            self._latency += 0.1 * (seconds_inside - self._latency)


class Reservation:
    """What one request holds. `release` may be called more than once."""

    def __init__(self, admission: Admission, num_bytes: int, caller: str | None) -> None:
        self._admission = admission
        self._released = False
        self.num_bytes = num_bytes
        self.caller = caller

    def expect_work(self, seconds: float) -> bool:
        """See `Admission.expect_work`."""
        return self._admission.expect_work(self, seconds)

    def require_work(self, seconds: float) -> None:
        """See `Admission.require_work`."""
        self._admission.require_work(self, seconds)

    def shrink(self, num_bytes: int) -> None:
        """See `Admission.shrink`."""
        if num_bytes < self.num_bytes:
            self._admission.shrink(self, num_bytes)

    def release(self, seconds_inside: float) -> None:
        """Give back everything that is held."""
        if not self._released:
            self._released = True
            self._admission.leave(self, seconds_inside)


_FULL = {
    "slots": "{limits.requests} requests are being worked on (max_requests).",
    "bytes": "The bodies being worked on fill {limits.total_bytes} bytes (max_total_body_bytes).",
}


def body_too_large(limit: int) -> TooLarge:
    """The refusal of a body above `limit` bytes."""
    return TooLarge(
        f"A body may have at most {limit} bytes (max_body_bytes). Send fewer images at a time.",
        limit=limit,
        setting="max_body_bytes",
    )
