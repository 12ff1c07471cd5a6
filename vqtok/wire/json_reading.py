"""JSON from strangers: parsed once, checked key by key, and never trusted to be small or
sensible.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from vqtok.errors import InvalidTokens, MalformedBody, TooLarge
from vqtok.tokens import ItemError

MAX_VALUES = 4_194_304
"""Values in one JSON body; a parsed one takes some 40 bytes. More tokens travel as
application/x-npy.
"""

MAX_RANK = 3
ERROR_KEYS = ("code", "detail")

JsonObject = dict[str, Any]


def parse_object(body: bytes, *, limited: bool = True) -> JsonObject:
    """The JSON object that a body is.

    Raises:
        MalformedBody: no JSON, nested too deeply, or another type than an object.
        TooLarge: `limited`, and more values than `MAX_VALUES`.
    """
    if limited and body.count(b",") >= MAX_VALUES:
        raise TooLarge(
            f"The JSON body has more than {MAX_VALUES} values: send application/x-npy,"
            " or several requests.",
            limit=MAX_VALUES,
        )
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"The body is not JSON: {error}.") from error
    return as_object(document, "The body")


def as_object(value: Any, name: str) -> JsonObject:
    """The value, which must be an object.

    Raises:
        MalformedBody: it is something else.
    """
    if not isinstance(value, dict):
        raise MalformedBody(f"{name} must be a JSON object, not {kind_of(value)}.")
    return cast(JsonObject, value)


def as_list(value: Any, name: str, most: int | None = None) -> list[Any]:
    """The value, which must be an array with something in it, of `most` entries where it is given.

    Raises:
        MalformedBody: it is something else, or empty.
        TooLarge: more entries than `most`, the setting `max_items` of a service.
    """
    if not isinstance(value, list):
        raise MalformedBody(f"{name} must be a JSON array, not {kind_of(value)}.")
    if not value:
        raise MalformedBody(f"{name} is empty.")
    entries = cast(list[Any], value)
    if most is not None and len(entries) > most:
        raise TooLarge(
            f"The request has {len(entries)} {name}; at most {most} are taken (max_items). "
            "Send several requests.",
            limit=most,
            setting="max_items",
        )
    return entries


def as_text(document: JsonObject, key: str) -> str | None:
    """A string of the object, or None where it is null or missing.

    Raises:
        MalformedBody: it is something else.
    """
    value = document.get(key)
    if value is not None and not isinstance(value, str):
        raise MalformedBody(f"{key} must be a string, not {kind_of(value)}.")
    return value


def require_number(value: Any, name: str) -> None:
    """Look at a number that nothing here uses; it may be null.

    Raises:
        MalformedBody: it is something else.
    """
    if value is not None and type(value) not in (int, float):
        raise MalformedBody(f"{name} must be a number, not {kind_of(value)}.")


def only_known(document: JsonObject, known: Iterable[str], name: str) -> None:
    """Refuse keys that nothing would read: most are misspelt.

    Raises:
        MalformedBody: naming the first such key, and those that are known.
    """
    unknown = [key for key in document if key not in set(known)]
    if unknown:
        raise MalformedBody(f"{name} has no key {unknown[0][:40]!r}; it has {', '.join(known)}.")


def no_repeated_keys(body: bytes, strings: int) -> None:
    """Refuse an object with a key twice, of which a parser keeps the last and drops the other
    unseen.

    `strings` is the number of strings, keys among them, that were found in the parsed document:
    as many pairs of quotation marks as the body has, if nothing was dropped.

    Raises:
        MalformedBody: a key is repeated.
    """
    # A pattern of regular expressions would hold up the process for seconds on a body of escapes.
    bare = body.replace(rb"\\", b"")
    if bare.count(b'"') - bare.count(rb"\"") != 2 * strings:
        raise MalformedBody("The JSON body has an object in which a key is repeated.")


def count_strings(objects: Sequence[JsonObject]) -> int:
    """Keys and strings of the objects, not of what lies within them."""
    return sum(
        len(each) + sum(isinstance(value, str) for value in each.values()) for each in objects
    )


def error_from_json(entry: Any, name: str, *, strict: bool = False) -> ItemError:
    """An item that failed; `strict` refuses keys that no answer has.

    Raises:
        MalformedBody: no such object.
    """
    entry = as_object(entry, name)
    error = as_object(entry.get("error"), f"{name}.error")
    if strict:
        only_known(entry, ("error",), f"{name}, which failed,")
        only_known(error, ERROR_KEYS, f"{name}.error")
    return ItemError(as_text(error, "code") or "unknown", as_text(error, "detail") or "")


def integers(value: Any, name: str) -> NDArray[np.int64]:
    """An array of integers, one to three levels deep and not ragged, as int64.

    Raises:
        InvalidTokens: anything else: booleans, numbers with a point or an exponent, null, ragged
        or empty arrays.
    """
    level = _integer_list(value, name)
    shape = [len(level)]
    while level and isinstance(level[0], list):
        if len(shape) == MAX_RANK:
            raise InvalidTokens(f"{name} is nested more than {MAX_RANK} levels deep.")
        if set(map(type, level)) != {list} or len(set(map(len, level))) != 1:
            raise InvalidTokens(f"{name} is ragged: all rows must be of one length.")
        shape.append(len(cast(list[Any], level[0])))
        level = list(itertools.chain.from_iterable(level))
    if not level:
        raise InvalidTokens(f"{name} is empty.")
    for wrong in set(map(type, level)) - {int}:
        kind = TYPE_NAMES.get(wrong, "something else")
        raise InvalidTokens(f"{name} must be integers, and one of them is {kind}.")
    try:
        return np.array(level, dtype=np.int64).reshape(shape)
    except OverflowError as error:
        raise InvalidTokens(f"{name} has an integer that is beyond any codebook.") from error


def _integer_list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidTokens(f"{name} must be an array of integers, not {kind_of(value)}.")
    return cast(list[Any], value)


TYPE_NAMES: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number with a point, with an exponent or above 64 bits",
    type(None): "null",
}


def kind_of(value: Any) -> str:
    """What a parsed value is called in JSON, with its article."""
    return TYPE_NAMES.get(value.__class__, "something else")
