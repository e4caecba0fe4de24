"""What a signal or update carries, read with care: it may come from any hand that reaches Temporal."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from temporalio import workflow
from temporalio.common import RawValue

with workflow.unsafe.imports_passed_through():
    from codec.encryption import WAS_PLAINTEXT

if TYPE_CHECKING:
    Sent = Any
else:
    Sent = RawValue
"""The annotation of a message: its payload arrives as it is, with the codec's mark; callers may send any object."""

Handler = TypeVar("Handler", bound=Callable[..., Any])

LONGEST_BYTES = 16 * 1024
"""Bytes of a message that are read at all: garbage must not hold the workflow's thread up."""


def one_payload(handler: Handler) -> Handler:
    """Below `@workflow.signal` on a handler of `*payloads`: tells the SDK that one is expected, so that `Sent` counts.

    The SDK looks at no annotation of `*payloads`; with a plain parameter, a signal with two payloads would wedge.
    """
    positional = [p.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD) for p in _parameters(handler)]
    handler.__signature__ = inspect.Signature(positional)  # type: ignore[attr-defined]
    return handler


def _parameters(handler: Callable[..., Any]) -> Sequence[inspect.Parameter]:
    return list(inspect.signature(handler).parameters.values())


class Received(NamedTuple):
    """The value, or a `ValueError` that says why there is none, and whether it came without payload encryption.

    The mark is the codec's and follows from the history alone, so that a replay sees the same.
    """

    value: Any
    plaintext: bool


def received(*payloads: Any) -> Received:
    """The one object of a message. None or several make it malformed, where a fixed signature would wedge."""
    if len(payloads) != 1:
        return Received(ValueError(f"{len(payloads)} payloads"), plaintext=False)
    (sent,) = payloads
    if not isinstance(sent, RawValue):
        return Received(sent, plaintext=False)
    plaintext, length = is_plaintext([sent]), len(sent.payload.data)
    if length > LONGEST_BYTES:
        return Received(ValueError(f"{length} bytes, of which at most {LONGEST_BYTES} are read"), plaintext)
    try:
        return Received(workflow.payload_converter().from_payload(sent.payload), plaintext)
    except Exception as error:
        return Received(ValueError(f"it cannot be read as JSON ({type(error).__name__})"), plaintext)


def is_plaintext(payloads: Sequence[RawValue]) -> bool:
    """True when one of them came without payload encryption."""
    return any(WAS_PLAINTEXT in sent.payload.metadata for sent in payloads)
