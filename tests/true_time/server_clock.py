"""The clock of these tests: the Temporal server's, which skips over every wait."""

from __future__ import annotations

from datetime import datetime

from temporalio import activity


def server_time() -> datetime:
    """When this attempt of an activity started, by the server. Works inside an activity only."""
    return activity.info().started_time
