"""Levels of load one after the other, against one service."""

import asyncio
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import vqtok
from vqtok.bench.connections import Connections, Request
from vqtok.bench.loops import closed_loop, open_loop
from vqtok.bench.summary import OK, Level, Plan, summarise
from vqtok.bench.workload import Workload, make_requests
from vqtok.errors import RemoteError
from vqtok.tokenizer import Tokenizer

EXCERPT = 300


def run_bench(
    url: str,
    workload: Workload,
    plans: Sequence[Plan],
    *,
    api_key: str | None = None,
    timeout: float = 30.0,
    on_level: Callable[[Level], None] = lambda level: None,
) -> dict[str, Any]:
    """The report: what was asked for, of whom, and a `Level` for each plan. `on_level` is told of
    each when it is done.

    Raises:
        RemoteError: the service does not answer the first request with 200.
    """
    with Tokenizer.connect(url, api_key=api_key) as tokenizer:
        info = tokenizer.info
        requests = make_requests(workload, tokenizer)
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    connections = Connections(url, headers, timeout)
    levels = asyncio.run(_levels(connections, requests, plans, on_level))
    described = {**asdict(workload), "files": len(workload.files)}
    return {
        "vqtok": vqtok.__version__,
        "url": url,
        "model": {"name": info.name, "tokenizer_id": info.tokenizer_id},
        "workload": described,
        "request_bytes": sum(len(r.body) for r in requests) // len(requests),
        "objective_ms": plans[0].objective * 1000,
        "levels": [asdict(level) for level in levels],
    }


async def _levels(
    connections: Connections,
    requests: Sequence[Request],
    plans: Sequence[Plan],
    on_level: Callable[[Level], None],
) -> list[Level]:
    levels: list[Level] = []
    try:
        await _require_answer(connections, requests[0])
        for number, plan in enumerate(plans):
            levels.append(await _level(connections, requests, plan, seed=number))
            on_level(levels[-1])
    finally:
        await connections.close()
    return levels


async def _require_answer(connections: Connections, request: Request) -> None:
    reply = await connections.send(request)
    if reply.status != OK:
        reason = reply.reason or reply.body[:EXCERPT].decode(errors="replace")
        raise RemoteError(f"{request.path} answered {reply.status or 'nothing'}: {reason}")


async def _level(
    connections: Connections, requests: Sequence[Request], plan: Plan, seed: int
) -> Level:
    before, started = _processor_seconds(), time.perf_counter()
    if plan.rate is not None:
        shots = await open_loop(connections.send, requests, plan.rate, plan.seconds, seed)
    else:
        shots = await closed_loop(connections.send, requests, plan.concurrency or 1, plan.seconds)
    busy = (_processor_seconds() - before) / (time.perf_counter() - started)
    return summarise(shots, plan, busy)


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
