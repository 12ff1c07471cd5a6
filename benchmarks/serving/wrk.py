"""Load by wrk, which takes less of a processor than the servers that it asks."""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SCRIPT = """\
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
file:close()
wrk.method = "POST"
wrk.headers["Content-Type"] = "{content_type}"
wrk.headers["Accept"] = "{accept}"
{headers}
done = function(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %d %d %d %d\\n", summary.requests, summary.duration,
    summary.errors.status, summary.errors.connect + summary.errors.read + summary.errors.write
    + summary.errors.timeout, latency:percentile(50), latency:percentile(99), latency.max))
end
"""


DRAINED = """\
local ffi = require("ffi")
ffi.cdef("typedef struct {{ long seconds, nanoseconds; }} moment;")
ffi.cdef("int clock_gettime(int clock, moment *found);")
local moment, ends = ffi.new("moment"), nil
delay = function()
  ffi.C.clock_gettime(1, moment)
  local now = tonumber(moment.seconds) + tonumber(moment.nanoseconds) / 1e9
  ends = ends or now + {seconds}
  return now < ends and 0 or 3600000
end
"""
DRAIN_SECONDS = 1


@dataclass(frozen=True)
class Body:
    """What is posted, to `path`, with `headers` beside the two types."""

    path: str
    content_type: str
    accept: str
    data: bytes
    num_images: int = 1
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Burst:
    """What wrk saw: requests that were answered with 2xx in `seconds`, latencies in seconds."""

    requests: int
    seconds: float
    refused: int
    broken: int
    p50: float
    p99: float
    longest: float


def burst(
    url: str, body: Body, *, connections: int, seconds: int, core: int, drained: bool = False
) -> Burst:
    """Post for so long from so many connections, on one core. At the end `connections` requests
    are under way: they are left alone, or waited for and counted too if `drained`.

    Raises:
        RuntimeError: wrk says something else than its result.
    """
    lasts = seconds + DRAIN_SECONDS if drained else seconds
    with tempfile.TemporaryDirectory() as folder:
        data, script = Path(folder, "body"), Path(folder, "post.lua")
        data.write_bytes(body.data)
        script.write_text(
            SCRIPT.format(
                body=data,
                content_type=body.content_type,
                accept=body.accept,
                headers="\n".join(f'wrk.headers["{k}"] = "{v}"' for k, v in body.headers.items()),
            )
            + (DRAINED.format(seconds=seconds) if drained else "")
        )
        load = ["-t1", f"-c{connections}", f"-d{lasts}s", "--timeout", "30s"]
        done = subprocess.run(
            ["taskset", "-c", str(core), "wrk", *load, "-s", str(script), url + body.path],
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r"RESULT ([\d ]+)", done.stdout)
    if found is None:
        raise RuntimeError(f"wrk: {done.stdout} {done.stderr}")
    count, micro, refused, broken, p50, p99, longest = map(int, found[1].split())
    times = (p50 / 1e6, p99 / 1e6, longest / 1e6)
    return Burst(count - refused, micro / 1e6, refused, broken, *times)
