"""tls.cfg: what is read from it, and that a change keeps every byte that is not its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.edges.kamailio.tls import Note, TlsConfig, directory_of, file_name, in_directory_of, lacks

SHIPPED = (Path(__file__).parents[2] / "deploy" / "kamailio" / "tls.cfg").read_bytes()
A, B = "a" * 64, "b" * 64
NOTE = b"# rotation: version"
FILES = ("new.chain.pem", "new.key")


def changed(content: bytes, *names: str, note: Note | None = None) -> bytes:
    """With the named sections on other files."""
    tls = TlsConfig(content)
    sections = [section for name in names for section in tls.named(name)]
    return tls.with_certificates([(section, *FILES) for section in sections], note or Note(1, (A,))).content


def without_note(content: bytes) -> bytes:
    return b"".join(line for line in content.splitlines(keepends=True) if not line.startswith(NOTE))


def notes_in(content: bytes) -> list[bytes]:
    return [line for line in content.splitlines() if line.startswith(NOTE)]


def test_the_shipped_file_has_the_sections_that_its_comments_name() -> None:
    tls = TlsConfig(SHIPPED)
    assert [section.name for section in tls.sections] == [
        "server:default",
        "server:any",
        "client:default",
        "server:10.0.0.10:8443",
    ]
    (canary,) = tls.asked_for("CANARY.trunk.example.com")
    assert canary.name == "server:any"
    assert (canary.value("certificate"), canary.value("private_key")) == (
        "/etc/kamailio/tls/trunk.chain.pem",
        "/etc/kamailio/tls/trunk.key",
    )
    assert tls.note == Note()
    assert tls.content == SHIPPED


def test_a_change_touches_the_values_of_its_sections_alone() -> None:
    after = changed(SHIPPED, "server:default", "client:default")
    assert after.startswith(b"# rotation: version 1 pool " + A.encode() + b" canary -\n")
    lines, before = without_note(after).splitlines(), SHIPPED.splitlines()
    differing = [(old, new) for old, new in zip(before, lines, strict=True) if old != new]
    assert differing == 2 * [
        (
            b"certificate = /etc/kamailio/tls/trunk.chain.pem",
            b"certificate = /etc/kamailio/tls/new.chain.pem",
        ),
        (b"private_key = /etc/kamailio/tls/trunk.key", b"private_key = /etc/kamailio/tls/new.key"),
    ]


STRANGE = (
    b"# certificate = /not/this.pem \xff\xfe\r\n"
    b"[server:default]\r\n"
    b'  certificate="/with space/old.pem"   # the old one\r\n'
    b"\tprivate_key =old.key;\r\n"
    b"#private_key = /nor/this.key\r\n"
    b"[server:any]\r\n"
    b"certificate = /other.pem\r\n"
    b"[ server:default:5061 ]\r\n"
    b"no line end"
)


def test_quotes_comments_line_ends_and_bytes_that_are_no_text_stay() -> None:
    after = without_note(changed(STRANGE, "server:default"))
    assert after == STRANGE.replace(b"/with space/old.pem", b"/with space/new.chain.pem").replace(
        b"=old.key", b"=new.key"
    )


def test_the_note_is_one_line_that_moves_with_the_change() -> None:
    noted = changed(SHIPPED, note=Note(7, (A, B), B))
    assert TlsConfig(noted).note == Note(7, (A, B), B)
    again = TlsConfig(noted).with_certificates([], Note(8, (B,)))
    assert again.note == Note(8, (B,), None)
    assert len(notes_in(again.content)) == 1
    assert without_note(again.content) == SHIPPED
    moved = b"# mine\n" + noted
    assert TlsConfig(moved).with_certificates([], Note(9, (A,))).content.startswith(b"# mine\n# rotation: version 9 ")


@pytest.mark.parametrize(
    "line",
    [
        b"# rotation: version x pool - canary -",
        b"# rotation: version 1 pool " + b"g" * 64 + b" canary -",
        b"# rotation: version 1 pool " + A.encode(),
    ],
)
def test_a_note_that_cannot_be_read_tells_nothing_and_is_replaced(line: bytes) -> None:
    tls = TlsConfig(line + b"\n" + SHIPPED)
    assert tls.note == Note()
    assert notes_in(tls.with_certificates([], Note(1, (A,))).content) == [Note(1, (A,)).line().encode()]


def test_somebody_elses_words_on_rotation_stay() -> None:
    words = b"# rotation: never on a Friday\n"
    assert words in changed(words + SHIPPED, "server:default")


def test_only_what_kamailio_reads_counts_for_a_reload() -> None:
    noted = TlsConfig(changed(SHIPPED, note=Note(7, (A, B), B)))
    assert noted.digest == TlsConfig(SHIPPED).digest
    assert TlsConfig(changed(SHIPPED, "server:default")).digest != noted.digest


def test_of_a_setting_that_is_there_twice_the_last_counts_as_in_kamailio() -> None:
    content = b"[server:default]\ncertificate = /first.pem\ncertificate = /second.pem\nprivate_key = /k\n"
    (section,) = TlsConfig(content).named("server:default")
    assert section.value("certificate") == "/second.pem"
    assert b"/first.pem" in changed(content, "server:default")


def test_sections_are_found_by_address_whatever_it_is() -> None:
    tls = TlsConfig(b"[server:192.0.2.1:5071]\n[server:[2001:db8::1]:5072]\n[client:192.0.2.1:5071]\n[server:any]\n")
    assert [section.name for section in tls.named("server:*:5071")] == ["server:192.0.2.1:5071"]
    assert tls.named("server:*:507") == ()
    assert lacks(tls.sections[0]) == ("certificate", "private_key")


@pytest.mark.parametrize(
    ("path", "directory", "name"),
    [
        ("/etc/kamailio/x.pem", "/etc/kamailio/", "x.pem"),
        ("x.pem", "", "x.pem"),
        ("./x.pem", "./", "x.pem"),
        ("/", "/", None),
        (None, None, None),
    ],
)
def test_paths_are_taken_apart(path: str | None, directory: str | None, name: str | None) -> None:
    assert (directory_of(path), file_name(path)) == (directory, name)
    if path is not None:
        assert in_directory_of(path, "new") == f"{directory}new"


@given(
    before=st.binary(max_size=80).filter(lambda junk: b"[" not in junk),
    between=st.binary(max_size=80).filter(lambda junk: b"[" not in junk and b"=" not in junk),
    after=st.binary(max_size=80).filter(lambda junk: b"[" not in junk and b"=" not in junk),
)
def test_whatever_else_is_in_the_file_comes_back_to_the_byte(before: bytes, between: bytes, after: bytes) -> None:
    """There and back again is where it began."""
    section = b"\n[server:default]\ncertificate = /d/old.chain.pem\n" + between + b"\nprivate_key = /d/old.key\n"
    content = before + section + after
    there = TlsConfig(changed(content, "server:default"))
    (found,) = there.named("server:default")
    back = there.with_certificates([(found, "old.chain.pem", "old.key")], there.note).content
    assert back == there.note.line().encode() + b"\n" + content
