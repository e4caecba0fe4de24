"""Property tests run beside others on busy machines: no deadline for one example."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("domain", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("domain")
