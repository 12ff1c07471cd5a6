"""Samples of a request: passes of its grids through the queue, many grids at a time."""

from collections.abc import Sequence

from service.job import Job
from service.passes import logits_in, packed
from service.rows import Rows
from service.work import gather_or_cancel
from vqtok.priors import Drawn, Reveal, TablePrior, Wish, begin, draw_all, result_of


async def draw(job: Job, wish: Wish) -> Drawn:
    """What a wish asks for.

    Raises:
        InvalidParameter, InvalidTokens: the prior cannot draw it. ModelFailure: the runtime failed.
    """
    prior, pool = job.model.prior, job.service.pool
    if isinstance(prior, TablePrior):
        return await pool.run(draw_all, prior, wish)
    reveals = await pool.run(begin, prior, wish)
    together = max(1, job.model.engine.max_batch_images // reveals[0].num_rows)
    parts = [reveals[i : i + together] for i in range(0, len(reveals), together)]
    await gather_or_cancel(_finish(job, part) for part in parts)
    job.work.note_times()
    return await pool.run(result_of, prior, wish, reveals)


async def _finish(job: Job, reveals: Sequence[Reveal]) -> None:
    """Draw grids of one plan, in step with each other."""

    def accept(rows: Rows) -> None:
        answers = iter(rows)
        for reveal in reveals:
            reveal.accept([logits_in(next(answers)) for _ in range(reveal.num_rows)])

    async with job.turns:
        while not reveals[0].is_done:
            asks = [ask for reveal in reveals for ask in reveal.asks()]
            await job.work.reveal(packed(asks), accept)
