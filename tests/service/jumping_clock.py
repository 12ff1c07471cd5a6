"""`python -m tests.service.jumping_clock`: the fake model on a machine whose wall clock jumps.

Every reading of the wall clock is off by up to a day, to either side, as when a clock is set. The
monotonic clock goes on as clocks of that kind do.
"""

import random
import sys
import time

from tests.service.fake_model import main

DAY = 86_400.0

_read, _jumps = time.time, random.Random(0)


def _jumping() -> float:
    return _read() + _jumps.uniform(-DAY, DAY)


if __name__ == "__main__":
    time.time = _jumping
    sys.exit(main())
