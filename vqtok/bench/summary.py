"""What a run of load amounts to."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vqtok.bench.loops import Shot

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
CURVE_POINTS = 200
LATE_SECONDS = 0.002
BUSY = 0.85
OK = 200


@dataclass(frozen=True)
class Plan:
    """How a level of load was made: `rate` requests a second, or `concurrency` callers.

    `objective` is the latency, in seconds, below which an answer counts as good.
    """

    rate: float | None
    concurrency: int | None
    seconds: float
    warm_up: float
    objective: float

    @property
    def label(self) -> str:
        """In words."""
        return f"{self.rate:g}/s" if self.rate is not None else f"{self.concurrency} at once"


@dataclass(frozen=True)
class Level:
    """One level of load, without its warm-up. Latencies are of answers with status 200, in
    milliseconds, from when the request was to be sent; null where there were none.

    goodput: images a second in answers within the objective; good_share: of all requests.
    late_p99_ms: how late the generator itself sent; sender_busy: its share of a core, which an open
    loop uses up for precision. Where the first is high in an open loop, or the second in a closed
    one, it is the generator that was measured (`is_trusted` false).
    """

    load: str
    rate: float | None
    concurrency: int | None
    seconds: float
    requests: int
    statuses: Mapping[str, int]
    reasons: Mapping[str, int]
    images_per_second: float
    goodput: float
    good_share: float
    latency_ms: Mapping[str, float | None]
    curve_ms: Sequence[float]
    late_p99_ms: float | None
    sender_busy: float
    is_trusted: bool


def summarise(shots: Sequence[Shot], plan: Plan, sender_busy: float) -> Level:
    """The level of load that these shots were, warm-up left out."""
    counted = [shot for shot in shots if shot.scheduled >= plan.warm_up]
    window = plan.seconds - plan.warm_up
    answered = [shot for shot in counted if shot.status == OK]
    good = [shot for shot in answered if shot.latency <= plan.objective]
    latencies = sorted(shot.latency * 1000 for shot in answered)
    late = quantile(sorted(shot.sent - shot.scheduled for shot in counted), 0.99)
    # By when they were answered: of what is still to come after the window nothing is sustained.
    inside = [s for s in shots if s.status == OK and plan.warm_up <= s.done <= plan.seconds]
    return Level(
        load=plan.label,
        rate=plan.rate,
        concurrency=plan.concurrency,
        seconds=window,
        requests=len(counted),
        statuses={str(k): n for k, n in sorted(Counter(s.status for s in counted).items())},
        reasons=dict(Counter(s.reason for s in counted if s.reason).most_common(5)),
        images_per_second=_images(inside) / window,
        goodput=_images([s for s in inside if s.latency <= plan.objective]) / window,
        good_share=len(good) / len(counted) if counted else 0.0,
        latency_ms={f"p{p:g}": quantile(latencies, p / 100) for p in PERCENTILES}
        | {"max": latencies[-1] if latencies else None},
        curve_ms=_curve(latencies),
        late_p99_ms=None if late is None else late * 1000,
        sender_busy=sender_busy,
        is_trusted=sender_busy <= BUSY if plan.rate is None else (late or 0.0) <= LATE_SECONDS,
    )


def _curve(latencies: Sequence[float]) -> list[float]:
    points = (quantile(latencies, index / CURVE_POINTS) for index in range(CURVE_POINTS + 1))
    return [point for point in points if point is not None]


def _images(shots: Sequence[Shot]) -> int:
    return sum(shot.num_images for shot in shots)


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of the values do not exceed; None of nothing."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
