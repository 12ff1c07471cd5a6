"""Limits on what one request may ask for, and errors that say which of several images they mean."""

from vqtok.errors import TooLarge, VqtokError
from vqtok.images import ImageLimits

Size = tuple[int, int]


def check_count(count: int, limit: int, *, are_all: bool = True) -> None:
    """Raise TooLarge when a request has more than `limit` items, of which more may follow."""
    if count > limit:
        raise TooLarge(
            f"The request has {_or_more(count, are_all)} items; at most {limit} are taken "
            "(max_items). Send several requests.",
            limit=limit,
            setting="max_items",
        )


def check_pixels(size: Size, limits: ImageLimits) -> None:
    """Raise TooLarge when an image of (height, width) has more than `max_pixels`."""
    if size[0] * size[1] > limits.max_pixels:
        raise TooLarge(
            f"The image has {size[0]} x {size[1]} = {size[0] * size[1]} pixels (height x width); "
            f"at most {limits.max_pixels} are taken (max_pixels).",
            limit=limits.max_pixels,
            setting="max_pixels",
        )


def check_total(pixels: int, limits: ImageLimits, *, are_all: bool = True) -> None:
    """Raise TooLarge when a request has more than `max_request_pixels`, to which more may be
    added.
    """
    if pixels > limits.max_request_pixels:
        raise TooLarge(
            f"The images of this request have {_or_more(pixels, are_all)} pixels together; at most "
            f"{limits.max_request_pixels} are taken (max_request_pixels). Send several requests.",
            limit=limits.max_request_pixels,
            setting="max_request_pixels",
        )


def check_rows(rows: int, limit: int) -> None:
    """Raise TooLarge when samples need more than `limit` rows of a learned prior."""
    if rows > limit:
        raise TooLarge(
            f"These samples need {rows} calls of the prior (samples x windows of the grid x "
            f"passes, twice with cfg_scale); at most {limit} are taken (max_prior_rows). Ask for "
            "fewer samples, a smaller grid or fewer passes.",
            limit=limit,
            setting="max_prior_rows",
        )


def named(error: VqtokError, index: int, count: int) -> VqtokError:
    """The same error saying which of several images it is about."""
    if count == 1:
        return error
    detail = f"Image {index}: {error.detail}"
    if isinstance(error, TooLarge):
        return TooLarge(detail, limit=error.limit, setting=error.setting)
    return type(error)(detail)


def _or_more(count: int, are_all: bool) -> str:
    return str(count) if are_all else f"{count} or more"
