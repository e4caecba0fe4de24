"""What went wrong, for the person at the terminal: one line that says what to do, and the exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from codec.encryption import PayloadUnreadable
from desk.exit_codes import ExitCode
from desk.processes import ChildFailed
from domain.errors import PlanInvalid, RotatorError, SettingsInvalid, Unreachable


class Refused(RotatorError):
    """What was asked for is not possible now: no such rotation, a gate that does not wait, one that runs already."""

    retryable = False


_CODES: tuple[tuple[type[RotatorError], ExitCode], ...] = (
    (PlanInvalid, ExitCode.USAGE),
    (SettingsInvalid, ExitCode.USAGE),
    (Refused, ExitCode.REFUSED),
    (Unreachable, ExitCode.UNREACHABLE),
    (PayloadUnreadable, ExitCode.UNREACHABLE),
)

_SILENT = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})


def no_namespace(error: RPCError) -> bool:
    """True when it is the namespace that Temporal does not know."""
    return error.status is RPCStatusCode.NOT_FOUND and "namespace" in error.message.lower()


def code_of(error: Exception) -> ExitCode:
    """The exit code of an error."""
    if isinstance(error, RPCError):
        gone = error.status in _SILENT or no_namespace(error)
        return ExitCode.UNREACHABLE if gone else ExitCode.UNEXPECTED
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.UNEXPECTED)


def text_of(error: Exception) -> str:
    """The error for people."""
    if isinstance(error, RPCError):
        if error.status in _SILENT:
            return f"Temporal does not answer: {error.message}; do: see that it runs at TEMPORAL_ADDRESS"
        if no_namespace(error):
            return f"Temporal: {error.message}; do: create the namespace, or set TEMPORAL_NAMESPACE"
        return f"Temporal says {error.status.name}: {error.message}"
    if isinstance(error, WorkflowFailureError):
        return f"the workflow failed: {innermost(error)}"
    if isinstance(error, RotatorError | ChildFailed):
        return str(error)
    return f"{type(error).__name__}: {error}"


def innermost(error: BaseException) -> str:
    """The first cause of a Temporal failure, without the layers around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error.message if isinstance(error, ApplicationError) else str(error)


@contextmanager
def explained(errors: Console) -> Iterator[None]:
    """Prints a failure to `errors` and leaves with its exit code; unexpected ones keep their type in the text."""
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except Exception as error:
        errors.print(f"[bold red]error:[/] {escape(text_of(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(code_of(error)) from error
