"""Strict reading of requests: a field, query parameter or type that the contract does not name is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

_IANA_SUITE = re.compile(r"TLS_[A-Z0-9]+(_[A-Z0-9]+)*")


class FieldRefused(ValueError):
    """The request does not follow the contract; the text names the field, never its value."""


@dataclass(frozen=True)
class Field:
    """One field of a JSON object: what it must be, in a check and in words."""

    accepts: Callable[[Any], bool]
    expected: str
    required: bool = True


def optional(field: Field) -> Field:
    """The same field, which may be left out."""
    return Field(field.accepts, field.expected, required=False)


def nullable(field: Field) -> Field:
    """The same field, which may be null."""
    return Field(lambda value: value is None or field.accepts(value), f"{field.expected} or null", field.required)


def exactly(*values: object) -> Field:
    """One of these values, of the same type."""
    words = " or ".join(json.dumps(value) for value in values)
    return Field(lambda value: any(type(value) is type(one) and value == one for one in values), words)


def whole_number(low: int, high: int) -> Field:
    """An integer from `low` to `high`; true and false are no numbers."""
    return Field(
        lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
        f"an integer from {low} to {high}",
    )


def list_of(item: Field, *, at_least: int = 0) -> Field:
    """A list without duplicates."""
    return Field(
        lambda value: (
            isinstance(value, list)
            and len(value) >= at_least
            and all(item.accepts(one) for one in value)
            and all(one not in value[:index] for index, one in enumerate(value))
        ),
        f"a list of at least {at_least} different values, each {item.expected}",
    )


def shaped(fields: Mapping[str, Field]) -> Field:
    """An object with exactly these fields."""

    def accepts(value: object) -> bool:
        try:
            check_object(value, fields)
        except FieldRefused:
            return False
        return True

    return Field(accepts, "an object with " + ", ".join(fields))


TEXT = Field(lambda value: isinstance(value, str) and 0 < len(value) <= 255, "a string of 1 to 255 characters")
PEM = Field(lambda value: isinstance(value, str) and 0 < len(value) <= 65536, "a PEM string")
FLAG = Field(lambda value: isinstance(value, bool), "true or false")
NULL = Field(lambda value: value is None, "null")
CIPHER_SUITE = Field(
    lambda value: isinstance(value, str) and _IANA_SUITE.fullmatch(value) is not None,
    "an IANA cipher suite name",
)


def check_object(value: object, fields: Mapping[str, Field]) -> dict[str, Any]:
    """`value` as an object that has the required fields, no others than `fields`, each as expected.

    Raises `FieldRefused`.
    """
    if not isinstance(value, dict):
        raise FieldRefused("the body is not a JSON object")
    for name in value:
        if name not in fields:
            raise FieldRefused(f"unknown field {name!r}")
    for name, field in fields.items():
        if name not in value:
            if field.required:
                raise FieldRefused(f"field {name!r} is missing")
        elif not field.accepts(value[name]):
            raise FieldRefused(f"field {name!r} must be {field.expected}")
    return value


async def read_object(request: Request, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The request's JSON body as an object with these fields. Raises `FieldRefused`."""
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != "application/json":
        raise FieldRefused("Content-Type must be application/json")
    try:
        body = json.loads(await request.body(), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        if isinstance(error, FieldRefused):
            raise
        raise FieldRefused("the body is not JSON") from None
    return check_object(body, fields)


async def no_body(request: Request) -> None:
    """Raises `FieldRefused` when a request that takes no body has one."""
    if await request.body():
        raise FieldRefused("this request takes no body")


def read_query(request: Request, *names: str) -> dict[str, str]:
    """The query parameters, each at most once and among `names`. Raises `FieldRefused`."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in names:
            raise FieldRefused(f"unknown query parameter {name!r}")
        if name in found:
            raise FieldRefused(f"query parameter {name!r} is given twice")
        found[name] = value
    return found


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FieldRefused("the body names a field twice")
    return found
