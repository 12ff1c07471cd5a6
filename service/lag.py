"""How late the event loop is: the one number that shows work being done in the wrong place."""

import asyncio

from service.histogram import Series

PERIOD_SECONDS = 0.25


async def watch_lag(histogram: Series) -> None:
    """Observe for ever how much later than asked the loop wakes this task."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + PERIOD_SECONDS
        await asyncio.sleep(PERIOD_SECONDS)
        histogram.observe(max(0.0, loop.time() - due))
