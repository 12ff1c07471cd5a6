"""The plain service with a clock at its model, whose file is BENCH_CLOCK.

uvicorn benchmarks.serving.plain.counted:app
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.plain import app as plain
from benchmarks.serving.session_clock import SessionClock


class CountedSession:
    """A session whose calls are counted."""

    def __init__(self, session: Any, clock: SessionClock) -> None:
        self._session = session
        self._clock = clock

    def run(self, outputs: Sequence[str], feed: Mapping[str, Any]) -> Any:
        """As the session's."""
        with self._clock.counting():
            return self._session.run(outputs, feed)


plain.session = CountedSession(plain.session, SessionClock(Path(os.environ["BENCH_CLOCK"])))
app = plain.app
