"""E-mail, sent to a real SMTP server: in clear on this host, with STARTTLS, with a login, and refused in every way."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from pydantic import ValidationError

from adapters.notify.base import Severity
from adapters.notify.smtp import SmtpNotifier
from domain.errors import CredentialsRefused, RequestRefused, ServerFailed, SettingsInvalid, TlsUntrusted, Unreachable
from lab.ports import LOOPBACK, free_port
from settings import SmtpProfile
from tests.adapters.notices import LINK, NOTICE
from tests.lab.small_ca import Authority


class Mailbox:
    """Keeps what arrives; `refuses` is the answer to every message instead, `strangers` are mailboxes it has not."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.refuses: str | None = None
        self.strangers: set[str] = set()
        self.to_strangers = "550 no such user here"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.strangers:
            return self.to_strangers
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.refuses is None:
            self.envelopes.append(envelope)
        return self.refuses or "250 taken"

    def messages(self) -> list[EmailMessage]:
        parsed = [message_from_bytes(cast(bytes, e.content), policy=policy.default) for e in self.envelopes]
        return cast(list[EmailMessage], parsed)


@pytest.fixture
def mailbox() -> Mailbox:
    """An empty one."""
    return Mailbox()


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """The server's context, and the CA bundle that knows its certificate."""
    ca = Authority("mail root")
    identity = ca.identity("localhost")
    chain, key, roots = (tmp_path / name for name in ("chain.pem", "key.pem", "roots.pem"))
    chain.write_text(identity.chain_pem)
    key.write_text(identity.key_pem)
    roots.write_text(ca.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context, roots


def login(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
    return AuthResult(
        success=isinstance(data, LoginPassword) and (data.login, data.password) == (b"rotator", b"pa55"), handled=False
    )


@pytest.fixture
def server(mailbox: Mailbox, tls: tuple[ssl.SSLContext, Path]) -> Iterator[Controller]:
    """A server that takes mail in clear and offers STARTTLS; after that it takes logins."""
    context, _ = tls
    controller = Controller(
        mailbox, hostname=LOOPBACK, port=free_port(), tls_context=context, authenticator=login, auth_require_tls=True
    )
    controller.start()
    yield controller
    controller.stop()


def notifier(server: Controller, **changes: Any) -> SmtpNotifier:
    profile = {
        "kind": "smtp",
        "host": LOOPBACK,
        "port": server.port,
        "security": "none",
        "sender": "rotator@example.com",
        "to": ["noc@example.com", "pki@example.com"],
        **changes,
    }
    return SmtpNotifier("mail", SmtpProfile.model_validate(profile))


async def test_a_notice_is_a_message_that_can_be_read_at_night(server: Controller, mailbox: Mailbox) -> None:
    await notifier(server).send(NOTICE, LINK)
    [message] = mailbox.messages()
    assert mailbox.envelopes[0].rcpt_tos == ["noc@example.com", "pki@example.com"]
    assert message["From"] == "rotator@example.com"
    assert message["To"] == "noc@example.com, pki@example.com"
    subject = " ".join(message["Subject"].split())  # an encoded word may begin with another space (RFC 2047)
    assert subject == "[CRITICAL] rotation-eu SOAK: eu-1: 91.20 % of handshakes succeeded – below 98 %"
    assert message["Importance"] == "high"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime == NOTICE.sent_at
    assert message.get_content().splitlines() == [
        "eu-1: 91.20 % of handshakes succeeded – below 98 %",
        "",
        "What to do: nothing: the rotation turns back",
        "",
        LINK,
        "",
        "Trunks: eu-1.example.com, us-1.example.com",
        "Rotation: rotation-eu",
        "Phase: SOAK",
        "unknown_ca: 44",
        "attempts: 500",
        "Kind: breach",
    ]


async def test_a_repetition_has_the_same_message_id_and_another_notice_another(
    server: Controller, mailbox: Mailbox
) -> None:
    mail = notifier(server)
    for notice in (NOTICE, NOTICE, NOTICE.model_copy(update={"id": "rotation-eu/breach/2"})):
        await mail.send(notice)
    first, again, other = (message["Message-ID"] for message in mailbox.messages())
    assert first == again != other
    assert first.endswith("@example.com>")


async def test_nothing_in_a_notice_becomes_a_header(server: Controller, mailbox: Mailbox) -> None:
    summary = "a\r\nBcc: all@example.com\r\n\r\nbody " + "x" * 5000
    await notifier(server).send(NOTICE.model_copy(update={"summary": summary, "severity": Severity.INFO}))
    [message] = mailbox.messages()
    assert message["Bcc"] is None
    assert message["Importance"] is None
    assert "Bcc: all@example.com" in message["Subject"]
    assert len(message["Subject"]) <= 200


async def test_starttls_is_verified_and_the_login_comes_after_it(
    server: Controller, mailbox: Mailbox, tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, roots = tls
    monkeypatch.setenv("TEST_SMTP_PASSWORD", "pa55")
    secured: dict[str, Any] = {"security": "starttls", "host": "localhost", "user": "rotator"}
    secured["password"] = {"env": "TEST_SMTP_PASSWORD"}
    await notifier(server, **secured, ca_file=str(roots)).send(NOTICE)
    assert len(mailbox.envelopes) == 1
    with pytest.raises(TlsUntrusted, match=r"\[notify.mail\] localhost:\d+: .*not trusted"):
        await notifier(server, **secured).send(NOTICE)
    monkeypatch.setenv("TEST_SMTP_PASSWORD", "wr0ng")
    with pytest.raises(CredentialsRefused) as refused:
        await notifier(server, **secured, ca_file=str(roots)).send(NOTICE)
    assert "wr0ng" not in str(refused.value)
    assert len(mailbox.envelopes) == 1


async def test_tls_from_the_first_byte_is_verified_too(
    mailbox: Mailbox, tls: tuple[ssl.SSLContext, Path], tmp_path: Path
) -> None:
    context, roots = tls
    controller = Controller(mailbox, hostname=LOOPBACK, port=free_port(), ssl_context=context)
    controller.start()
    try:
        await notifier(controller, security="tls", host="localhost", ca_file=str(roots)).send(NOTICE)
        assert len(mailbox.envelopes) == 1
        with pytest.raises(TlsUntrusted):
            await notifier(controller, security="tls", host="localhost").send(NOTICE)
    finally:
        controller.stop()


@pytest.mark.parametrize(
    ("answer", "expected"), [("451 greylisted, try again", ServerFailed), ("554 spam", RequestRefused)]
)
async def test_later_is_tried_again_and_never_is_not(
    server: Controller, mailbox: Mailbox, answer: str, expected: type[Exception]
) -> None:
    mailbox.refuses = answer
    with pytest.raises(expected, match=answer[4:]):
        await notifier(server).send(NOTICE)
    assert ServerFailed.retryable
    assert not RequestRefused.retryable


@pytest.mark.parametrize("strangers", [{"pki@example.com"}, {"noc@example.com", "pki@example.com"}])
async def test_a_mailbox_that_is_not_there_is_named(server: Controller, mailbox: Mailbox, strangers: set[str]) -> None:
    mailbox.strangers = strangers
    with pytest.raises(RequestRefused, match=r"pki@example\.com: 550 no such user"):
        await notifier(server).send(NOTICE)


async def test_greylisting_is_tried_again(server: Controller, mailbox: Mailbox) -> None:
    mailbox.strangers, mailbox.to_strangers = {"noc@example.com", "pki@example.com"}, "450 greylisted"
    with pytest.raises(ServerFailed, match="greylisted"):
        await notifier(server).send(NOTICE)


async def test_a_ca_file_that_cannot_be_read_is_the_settings_fault(server: Controller, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"notify\.mail\.ca_file"):
        await notifier(server, security="starttls", ca_file=str(tmp_path / "none.pem")).send(NOTICE)


async def test_a_server_that_is_not_there_or_offers_no_tls_is_told_apart(mailbox: Mailbox) -> None:
    controller = Controller(mailbox, hostname=LOOPBACK, port=free_port())
    controller.start()
    try:
        with pytest.raises(RequestRefused, match="does not offer"):
            await notifier(controller, security="starttls").send(NOTICE)
    finally:
        controller.stop()
    with pytest.raises(Unreachable):
        await notifier(controller).send(NOTICE)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"security": "none", "host": "mail.example.com"}, "for a server on this host"),
        ({"user": "rotator"}, "user and password come together"),
        ({"to": ["Noc <noc@example.com>"]}, "to"),
        ({"to": []}, "to"),
        ({"sender": "rotator@example.com\nBcc: x@example.com"}, "sender"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any], words: str) -> None:
    profile = {"kind": "smtp", "host": LOOPBACK, "sender": "a@example.com", "to": ["b@example.com"], **wrong}
    with pytest.raises(ValidationError, match=words):
        SmtpProfile.model_validate(profile)
