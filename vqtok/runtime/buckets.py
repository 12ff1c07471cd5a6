"""Which batch sizes to run when only a few are prepared, and each has a measured cost."""

from collections.abc import Mapping


def bucket_ladder(max_batch: int) -> tuple[int, ...]:
    """1, 2, 4, … and `max_batch` itself."""
    ladder = [1]
    while ladder[-1] * 2 < max_batch:
        ladder.append(ladder[-1] * 2)
    return tuple(ladder) if max_batch <= 1 else (*ladder, max_batch)


def plan_buckets(num_items: int, seconds: Mapping[int, float]) -> tuple[int, ...]:
    """Buckets, largest first, that together hold `num_items` at the least measured cost.

    `seconds` maps bucket size to the time of one run. Padding to the next bucket and cutting in
    two or more are both weighed; of equal plans the one with fewer runs is taken.
    """
    if num_items < 1 or not seconds:
        raise ValueError("there must be at least one item and one bucket")
    best: list[tuple[float, int, tuple[int, ...]]] = [(0.0, 0, ())]
    for count in range(1, num_items + 1):
        options: list[tuple[float, int, tuple[int, ...]]] = []
        for size, cost in seconds.items():
            rest = best[max(0, count - size)]
            options.append((rest[0] + cost, rest[1] + 1, (*rest[2], size)))
        best.append(min(options, key=lambda option: option[:2]))
    return tuple(sorted(best[num_items][2], reverse=True))
