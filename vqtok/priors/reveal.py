"""One grid in the making: which tokens are known, what to ask the prior next, what was drawn."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqtok.priors.choice import BITS, SamplingRule, choose
from vqtok.priors.windows import OUTSIDE, Pass


@dataclass(frozen=True, eq=False)
class Ask:
    """A row for `Prior.logits`: tokens (N,), a label, positions (P,), all int32."""

    tokens: NDArray[np.int32]
    label: int
    positions: NDArray[np.int32]


class Reveal:
    """`tokens` int32 (num,) are K where not drawn yet. `bits` is the code length of what was drawn
    under the model itself, given the label; `drawn_bits`, under the distribution it was drawn from.

    Ask and accept by turns, until it `is_done`.
    """

    def __init__(
        self,
        passes: list[Pass],
        tokens: NDArray[np.int32],
        uniforms: NDArray[np.float64],
        rule: SamplingRule,
        labels: tuple[int, ...],
        unknown: int,
    ) -> None:
        """labels: what the prior is asked with; with guidance the label, and the one for none."""
        self.tokens, self.bits, self.drawn_bits = tokens, 0.0, 0.0
        self._passes, self._next = passes, 0
        self._uniforms, self._rule = uniforms, rule
        self._labels, self._unknown = labels, unknown

    @property
    def num_rows(self) -> int:
        """Rows of the prior that a pass takes: 1, with guidance 2."""
        return len(self._labels)

    @property
    def is_done(self) -> bool:
        return self._next == len(self._passes)

    def asks(self) -> list[Ask]:
        """What to ask the prior now: one row, and with guidance a second without the label."""
        places = self._passes[self._next].places
        tokens = np.where(places == OUTSIDE, self._unknown, self.tokens[places])
        positions = self._passes[self._next].positions.astype(np.int32)
        return [Ask(tokens.astype(np.int32), label, positions) for label in self._labels]

    def accept(self, answers: list[NDArray[np.floating]]) -> None:
        """Draw from the logits (P, K) of each of the asks."""
        now = self._passes[self._next]
        targets = now.places[now.positions]
        logits, *rest = (each[: len(targets)] for each in answers)
        chosen = choose(self._rule, logits, rest[0] if rest else None, self._uniforms[targets])
        self.tokens[targets] = chosen.codes
        self.bits -= chosen.model_nats * BITS
        self.drawn_bits -= chosen.rule_nats * BITS
        self._next += 1
