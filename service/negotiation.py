"""Choosing the format of an answer from the header `Accept` (RFC 9110, with quality values)."""

from collections.abc import Sequence
from dataclasses import dataclass

from vqtok.errors import NotAcceptable

ANYTHING = "*/*"


@dataclass(frozen=True)
class MediaRange:
    """One element of `Accept`: "type/subtype", either part may be "*"; quality 0 refuses."""

    pattern: str
    quality: float

    def matches(self, media_type: str) -> bool:
        """Whether the range covers a media type."""
        kind, _, subtype = self.pattern.partition("/")
        own_kind, _, own_subtype = media_type.partition("/")
        return kind in ("*", own_kind) and subtype in ("*", own_subtype)

    @property
    def precision(self) -> int:
        """2 for an exact type, 1 for "image/*", 0 for "*/*"."""
        return 2 - self.pattern.count("*")


def parse_accept(header: str | None) -> list[MediaRange]:
    """The ranges of an `Accept` header; none means anything."""
    ranges = [_range(part) for part in (header or ANYTHING).split(",") if part.strip()]
    return ranges or [MediaRange(ANYTHING, 1.0)]


def choose(
    header: str | None, offers: Sequence[str], *, anything: bool = True, what: str = "the answer"
) -> str:
    """The offer that the caller likes best; of equal ones the first.

    With `anything` False the range `*/*` does not count: the caller must name a format.

    Raises:
        NotAcceptable: naming the offers.
    """
    ranges = parse_accept(header)
    if not anything:
        ranges = [each for each in ranges if each.pattern != ANYTHING]
    qualities = {offer: quality_of(offer, ranges) for offer in offers}
    best = max(offers, key=lambda offer: qualities[offer])
    if qualities[best] > 0:
        return best
    raise NotAcceptable(
        f"{what[:1].upper()}{what[1:]} can be sent as {', '.join(offers)}; name one of them in the "
        f"header Accept, which says {(header or 'nothing')[:120]!r}."
    )


def quality_of(offer: str, ranges: Sequence[MediaRange]) -> float:
    """How much the caller likes a media type: what the most precise range says, 0 without one."""
    matching = [each for each in ranges if each.matches(offer)]
    if not matching:
        return 0.0
    return max(matching, key=lambda each: each.precision).quality


def _range(text: str) -> MediaRange:
    pattern, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            quality = _number(value.strip())
    return MediaRange(pattern, quality)


def _number(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0
