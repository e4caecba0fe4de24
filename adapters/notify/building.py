"""The notifier of a profile."""

from __future__ import annotations

from adapters.notify.base import Notifier
from adapters.notify.pagerduty import PagerDutyNotifier
from adapters.notify.slack import SlackNotifier
from adapters.notify.smtp import SmtpNotifier
from adapters.notify.webhook import WebhookNotifier
from settings import NotifyProfile, PagerDutyProfile, SlackProfile, SmtpProfile, WebhookProfile


def notifier_of(name: str, profile: NotifyProfile) -> Notifier:
    """By the profile's kind."""
    match profile:
        case WebhookProfile():
            return WebhookNotifier(name, profile)
        case SlackProfile():
            return SlackNotifier(name, profile)
        case PagerDutyProfile():
            return PagerDutyNotifier(name, profile)
        case SmtpProfile():
            return SmtpNotifier(name, profile)
