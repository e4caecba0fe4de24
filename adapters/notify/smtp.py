"""Notices and alerts by e-mail. A second message of the same notice has the same Message-ID."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import format_datetime

from adapters.fence import ensure_in_time
from adapters.notify.base import Notice, facts_of
from domain.errors import (
    CredentialsRefused,
    RequestRefused,
    RotatorError,
    ServerFailed,
    SettingsInvalid,
    TlsUntrusted,
    Unreachable,
)
from domain.texts import readable
from settings import SmtpProfile

LONGEST_SUBJECT = 200

Refusals = dict[str, tuple[int, bytes]]
"""Mailbox → what the server said of it."""


class SmtpNotifier:
    """One mail server and those it writes to. Implements `adapters.notify.base.Notifier`."""

    def __init__(self, profile_name: str, profile: SmtpProfile) -> None:
        self.profile = profile_name
        self._settings = profile
        self._where = f"[notify.{profile_name}] {profile.host}:{profile.port}"

    async def send(self, notice: Notice, link: str | None = None) -> None:
        """Hands the message to the server. Where it knows some of them only, those get it, and the others are named.

        Raises `SettingsInvalid` (`ca_file`), `Unreachable`, `TlsUntrusted`, `CredentialsRefused`, `ServerFailed` (4yz:
        later) and `RequestRefused` (5yz: never; RFC 5321, 4.2.1).
        """
        settings = self._settings
        password = None
        if settings.password is not None:
            password = settings.password.read(f"notify.{self.profile}.password").get_secret_value()
        context = self._context()
        ensure_in_time(self._where)
        failure: RotatorError
        try:
            async with asyncio.timeout(settings.timeout.total_seconds()):
                refused = await asyncio.to_thread(
                    self._hand_over, message_of(notice, link, settings), password, context
                )
        except (smtplib.SMTPException, OSError) as error:
            failure = self._failure(error)
        else:
            if not refused:
                return
            failure = self._nobody(refused)
        raise failure

    async def close(self) -> None:
        """Every message has a connection of its own."""

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._settings.ca_file)
        except OSError as error:
            problem = str(error)
        where = f"notify.{self.profile}.ca_file"
        raise SettingsInvalid("the CA file cannot be used", where=where, seen=f"{self._settings.ca_file}: {problem}")

    def _hand_over(self, message: EmailMessage, password: str | None, context: ssl.SSLContext) -> Refusals:
        settings = self._settings
        timeout_s = settings.timeout.total_seconds()
        connection = (
            smtplib.SMTP_SSL(settings.host, settings.port, timeout=timeout_s, context=context)
            if settings.security == "tls"
            else smtplib.SMTP(settings.host, settings.port, timeout=timeout_s)
        )
        try:
            if settings.security == "starttls":
                connection.starttls(context=context)
            if settings.user is not None and password is not None:
                connection.login(settings.user, password)
            refused = connection.send_message(message)
            with contextlib.suppress(smtplib.SMTPException, OSError):
                connection.quit()  # the message is taken, whatever comes of this
            return refused
        finally:
            connection.close()  # without a QUIT after a failure: a broken handshake would leave nobody to answer it

    def _nobody(self, refused: Refusals) -> RotatorError:
        seen = "; ".join(f"{mailbox}: {code} {_text(words)}" for mailbox, (code, words) in refused.items())
        what = "the mail server does not know everybody whom the settings name"
        return RequestRefused(what, where=self._where, seen=seen, action="correct to")

    def _failure(self, error: Exception) -> RotatorError:
        where, seen = self._where, str(error) or type(error).__name__
        match error:
            case smtplib.SMTPRecipientsRefused() if all(400 <= code < 500 for code, _ in error.recipients.values()):
                return ServerFailed("the mail server takes no message now", where=where, seen=seen)
            case smtplib.SMTPRecipientsRefused():
                return self._nobody(error.recipients)
            case smtplib.SMTPNotSupportedError():
                what = "the mail server does not offer what the settings ask for"
                return RequestRefused(what, where=where, seen=seen, action="correct security, user, or port")
            case smtplib.SMTPResponseException():
                return self._answered(error)
            case ssl.SSLError():
                what = "the mail server's certificate is not trusted"
                return TlsUntrusted(what, where=where, seen=seen, action="set ca_file, or host to the name in it")
            case _:
                return Unreachable("the mail server does not answer", where=where, seen=seen)

    def _answered(self, error: smtplib.SMTPResponseException) -> RotatorError:
        where, seen = self._where, f"{error.smtp_code} {_text(error.smtp_error)}"
        if isinstance(error, smtplib.SMTPAuthenticationError):
            what = "the mail server refuses user or password"
            return CredentialsRefused(what, where=where, seen=seen, action="correct them")
        if 400 <= error.smtp_code < 500:
            return ServerFailed("the mail server takes no message now", where=where, seen=seen)
        return RequestRefused("the mail server refuses the message", where=where, seen=seen, action="see its log")


def _text(words: bytes | str) -> str:
    return words.decode(errors="replace") if isinstance(words, bytes) else words


def message_of(notice: Notice, link: str | None, settings: SmtpProfile) -> EmailMessage:
    """Plain text that can be read on a telephone at night: what, what to do, where to look, figures."""
    message = EmailMessage()
    subject = f"[{notice.severity.value.upper()}] {notice.rotation} {notice.phase}: {notice.summary}"
    message["Subject"] = readable(" ".join(subject.split()), LONGEST_SUBJECT)
    message["From"], message["To"] = settings.sender, ", ".join(settings.to)
    message["Date"] = format_datetime(notice.sent_at)
    message["Message-ID"] = message_id(notice, settings.sender)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    if notice.severity == "critical":
        message["Importance"] = "high"
    lines = [notice.summary, ""]
    if notice.action:
        lines += [f"What to do: {notice.action}", ""]
    if link is not None:
        lines += [link, ""]
    lines += [f"{name}: {value}" for name, value in [*facts_of(notice), ("Kind", notice.kind)]]
    message.set_content("\n".join(lines) + "\n")
    return message


def message_id(notice: Notice, sender: str) -> str:
    """The same for the same notice; ids have characters that a Message-ID may not have."""
    return f"<{hashlib.sha256(notice.id.encode()).hexdigest()[:32]}@{sender.rpartition('@')[2]}>"
