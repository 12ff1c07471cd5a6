"""What a manifest says of a learned prior."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vqtok.fields import Fields

PRIOR_FILE = "prior.onnx"


@dataclass(frozen=True, kw_only=True)
class PriorSpec:
    """How `prior.onnx` is used.

    `kind` is its name among the priors, `schedule` that of its `groups`: the number of the group in
    which each position of the native grid is revealed, raster order, depth last. `order` lists the
    positions as they are revealed one by one, for schedules of other numbers of passes.
    `any_order`: whether any tokens may be known beforehand. `labels` names the classes.
    `parameters` counts the network's weights; `provenance` says how it was trained, and what bits
    it takes.
    """

    kind: str
    schedule: str
    groups: tuple[int, ...]
    order: tuple[int, ...]
    any_order: bool
    labels: tuple[str, ...] = ()
    parameters: int = 0
    provenance: dict[str, Any] = field(default_factory=dict[str, Any])

    def fits(self, grid: Sequence[int]) -> bool:
        """Whether every position of the grid has a group and a place in the order, and no group is
        empty.
        """
        used, size = set(self.groups), math.prod(grid)
        is_whole = len(self.groups) == size and sorted(self.order) == list(range(size))
        return is_whole and used == set(range(len(used)))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @staticmethod
    def read(fields: Fields) -> "PriorSpec":
        """From a manifest. Raises BundleCorrupt naming a field that is missing or wrong."""
        return PriorSpec(
            kind=fields.text("kind"),
            schedule=fields.text("schedule"),
            groups=fields.counts("groups", least=0),
            order=fields.counts("order", least=0),
            any_order=fields.flag("any_order"),
            labels=fields.texts("labels"),
            parameters=fields.count("parameters", least=0),
            provenance=fields.mapping("provenance"),
        )
