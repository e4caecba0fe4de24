"""What an activity's failure says in history: its own type, a readable text, no private key."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from activities.failures import TEXT_LIMIT, FailureInterceptor
from domain.errors import RequestRefused, ServerFailed

KEY = "-----BEGIN PRIVATE KEY-----\nMC4secretsecret\n-----END PRIVATE KEY-----"


class _Raises(ActivityInboundInterceptor):
    def __init__(self, error: Exception) -> None:
        self._error = error

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        raise self._error


async def _failure(error: Exception) -> ApplicationError:
    interceptor = FailureInterceptor().intercept_activity(_Raises(error))
    run: Callable[..., Awaitable[Any]] = interceptor.execute_activity
    given = ExecuteActivityInput(fn=lambda: None, args=(), executor=None, headers={})
    with pytest.raises(ApplicationError) as failed:
        await ActivityEnvironment().run(run, given)
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__ or failed.value is error
    return failed.value


async def test_an_exception_that_nobody_foresaw_is_cut_cleaned_and_can_be_retried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        failure = await _failure(KeyError("x" * 5_000_000 + KEY))
    assert failure.type == "KeyError"
    assert failure.message.startswith("unexpected KeyError: 'xxx")
    assert len(failure.message) == TEXT_LIMIT
    assert not failure.non_retryable
    assert "in execute_activity" in caplog.text, "the log says where it happened"
    assert len(caplog.text) < 4 * TEXT_LIMIT


@pytest.mark.parametrize("error", [ValueError(KEY), RequestRefused("refused", seen=KEY), RuntimeError("k: " + KEY)])
async def test_no_private_key_in_an_exception_reaches_history_or_the_log(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        failure = await _failure(error)
    assert "[private key removed]" in failure.message
    for text in (failure.message, repr(failure), caplog.text):
        assert "secret" not in text


async def test_a_platforms_five_megabytes_are_cut_and_what_to_do_is_kept() -> None:
    failure = await _failure(ServerFailed("failed", where="[platforms.eu]", seen="5" * 5_000_000, action="look there"))
    assert failure.type == "ServerFailed"
    assert failure.message.endswith("do: look there")
    assert len(failure.message) < TEXT_LIMIT


async def test_a_failure_of_temporals_own_passes_as_it_is() -> None:
    error = ApplicationError("nothing new", type="NothingNew")
    assert await _failure(error) is error
