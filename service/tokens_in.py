"""Tokens on their way in: read, checked against the model, and measured. Blocking: for the pool."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from service.limits import check_count, check_pixels, check_total, named
from vqtok.bitstream import CODERS, PRIOR, BitstreamReader
from vqtok.errors import (
    CodebookMismatch,
    InvalidParameter,
    InvalidTokens,
    UnknownModel,
    VqtokError,
)
from vqtok.images import ImageLimits
from vqtok.manifest import Manifest
from vqtok.tokens import ImageTokens, ItemError, TokenBatch
from vqtok.wire import WIRE_FORMATS, DecodeOptions, NpyHeader
from vqtok.wire.bitstream_format import MEDIA_TYPE as BITSTREAM
from vqtok.wire.bitstream_format import counted_headers, labels_of


@dataclass(frozen=True)
class TokenRules:
    """What tokens are held against. `codebook_id` is what the request says outside its body."""

    manifest: Manifest
    limits: ImageLimits
    max_items: int
    per_item: bool
    require_ids: bool
    codebook_id: str | None
    reading: DecodeOptions


Item = ImageTokens | VqtokError


def read_tokens(media_type: str, body: bytes, rules: TokenRules) -> list[Item]:
    """The items of a request, checked; those that do not fit as errors when items fail alone.

    Raises:
        MalformedBody, InvalidTokens, InvalidParameter: they do not read or fit.
        CodebookMismatch: they are of another codebook. UnknownModel: of another model.
        TableMismatch: a bitstream that was coded with other tables.
        TooLarge: too many items or pixels.
    """
    if media_type == BITSTREAM:
        check_stream(body, rules)
    reading = replace(rules.reading, max_items=rules.max_items)
    batch = WIRE_FORMATS[media_type].decode_tokens(body, reading)
    check_ids(batch, rules)
    check_count(len(batch), rules.max_items)
    items: list[Item] = []
    for index, item in enumerate(batch.items):
        try:
            items.append(_checked(item, rules))
        except VqtokError as error:
            complaint = named(error, index, len(batch))
            if not rules.per_item:
                raise complaint from error
            items.append(complaint)
    sizes = [picture_size(rules.manifest, i.grid) for i in items if isinstance(i, ImageTokens)]
    check_total(sum(height * width for height, width in sizes), rules.limits)
    return items


def pixels_of_array(header: NpyHeader, rules: TokenRules) -> tuple[int, tuple[int, ...]]:
    """The number of grids that an npy body will hold and their shape, from its header.

    Raises:
        InvalidTokens: floats, or no grids. TooLarge: too many items or pixels.
    """
    shape = header.shape
    if header.dtype.kind not in "iu":
        raise InvalidTokens(f"Tokens must be integers, not {header.dtype}.")
    if len(shape) < 2 or 0 in shape:
        raise InvalidTokens(f"Tokens of shape {shape} are not (N, h, w) or (N, h, w, depth).")
    check_count(shape[0], rules.max_items)
    grid = rules.reading.grid or (*shape[1:], 1)
    whole = picture_size(rules.manifest, grid)
    check_pixels(whole, rules.limits)
    check_total(shape[0] * whole[0] * whole[1], rules.limits)
    return shape[0], grid


def check_stream(body: bytes, rules: TokenRules) -> None:
    """Hold a bitstream's headers against the model and the limits, before anything is decoded.

    Raises:
        MalformedBody, BitstreamUnsupported: it is not one that can be read here.
        CodebookMismatch: of another codebook. TooLarge: too many items or pixels.
        InvalidTokens: a codebook of another size or depth.
        InvalidParameter: coded by the learned prior.
    """
    reader, manifest = BitstreamReader(body), rules.manifest
    check_ids(labels_of(reader.header), rules)
    stated = (reader.header.codebook_size, reader.header.depth)
    if stated != (manifest.codebook_size, manifest.depth):
        raise InvalidTokens(
            f"The bitstream is of {stated[0]} codes and depth {stated[1]}, and the codebook here "
            f"has {manifest.codebook_size} and {manifest.depth}."
        )
    if reader.header.coder == CODERS[PRIOR].number:
        raise InvalidParameter(
            "The bitstream is coded by a learned prior on one runtime and processor, and no "
            "service reads such a one. Turn it into tokens where it was written "
            "(`vqtok decompress`), or compress with another coder."
        )
    pixels = 0
    for count, grid in counted_headers(reader, rules.max_items):
        height, width = picture_size(manifest, grid)
        check_pixels((height, width), rules.limits)
        pixels += count * height * width
        check_total(pixels, rules.limits)


def check_ids(batch: TokenBatch, rules: TokenRules) -> None:
    """Refuse tokens that this model's decoder does not understand.

    Raises:
        CodebookMismatch: naming both ids. UnknownModel: the tokens name another model and no id.
        InvalidParameter: `require_ids`, and there is none.
    """
    manifest = rules.manifest
    given = [each for each in (batch.codebook_id, rules.codebook_id) if each is not None]
    for each in given:
        if not manifest.codebook_id.matches(each):
            raise CodebookMismatch(
                f"The tokens are of codebook {each[:12]!r}, and the codebook here is "
                f"{manifest.codebook_id.short!r} ({manifest.full_name}). Decode them with the "
                "model that made them."
            )
    if given:
        return
    if rules.require_ids:
        raise InvalidParameter(
            "require_ids=true, and the tokens carry no codebook_id. Send it in the JSON body or "
            "the header Vqtok-Codebook-Id."
        )
    if batch.model is not None and batch.model not in (manifest.name, manifest.full_name):
        raise UnknownModel(
            f"The tokens name the model {batch.model[:80]!r}, and {manifest.full_name!r} is "
            "served. Send their codebook_id if its decoder is the same."
        )


def picture_size(manifest: Manifest, grid: Sequence[int]) -> tuple[int, int]:
    """(height, width) of the picture that a grid decodes to."""
    factor = manifest.image.factor
    return grid[0] * factor, grid[1] * factor


def _checked(item: ImageTokens | ItemError, rules: TokenRules) -> ImageTokens:
    manifest = rules.manifest
    if isinstance(item, ItemError):
        raise InvalidTokens("The item is an error and holds no tokens.")
    checked = item.checked(codebook_size=manifest.codebook_size, depth=manifest.depth)
    whole = picture_size(manifest, checked.grid)
    check_pixels(whole, rules.limits)
    if checked.size is not None:
        _check_size(checked.size, whole)
    return replace(checked, margin=None)


def _check_size(size: tuple[int, int], whole: tuple[int, int]) -> None:
    if size[0] > whole[0] or size[1] > whole[1]:
        raise InvalidParameter(
            f"A size of {size[0]}x{size[1]} does not fit a grid that decodes to "
            f"{whole[0]}x{whole[1]} (height x width)."
        )
