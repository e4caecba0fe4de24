"""Kamailio's tls.cfg as text: sections, the lines in them that a rotation changes, and the note that it keeps there.

Only the values of `certificate` and `private_key` in the sections that the settings name are ever changed, and one
comment line; every other byte stays (Kamailio's tls module, "TLS config file").
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

CERTIFICATE: Final = "certificate"
PRIVATE_KEY: Final = "private_key"

_NOTE: Final = re.compile(r"^# rotation: version .*?(?=\r?\n|\Z)", re.M)
_NOTED: Final = re.compile(
    r"# rotation: version (\d{1,18}) pool ((?:[0-9a-f]{64})(?:,[0-9a-f]{64})*|-) canary ([0-9a-f]{64}|-)"
)
_LINE: Final = re.compile(r"[^\n]*\n|[^\n]+")
_HEADER: Final = re.compile(r"[ \t]*\[[ \t]*([^\]\s]+)[ \t]*\]")
_SETTING: Final = re.compile(r"""[ \t]*(\w+)[ \t]*=[ \t]*(?:"([^"\r\n]*)"|([^\s"#;]+))""")


@dataclass(frozen=True)
class Note:
    """What a rotation notes in the file: leaves by SHA-256, the preferred one first, and the canary's if it is set."""

    version: int = 0
    pool: tuple[str, ...] = ()
    canary: str | None = None

    def line(self) -> str:
        """The comment, without its line end."""
        return f"# rotation: version {self.version} pool {','.join(self.pool) or '-'} canary {self.canary or '-'}"


@dataclass(frozen=True)
class Value:
    """Where a setting's value stands in the text."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Section:
    """One `[server:…]` or `[client:…]` with its settings; of one that is set twice the last counts, as in Kamailio."""

    name: str
    settings: Mapping[str, Value]

    def value(self, setting: str) -> str | None:
        """The setting's value without quotes, None when the section does not have it."""
        found = self.settings.get(setting)
        return None if found is None else found.text


class TlsConfig:
    """The file as it is. Bytes that are no UTF-8 survive a change too."""

    def __init__(self, content: bytes) -> None:
        self._text = content.decode("utf-8", "surrogateescape")
        self.sections = tuple(_sections(self._text))

    @property
    def content(self) -> bytes:
        """The file's bytes."""
        return self._text.encode("utf-8", "surrogateescape")

    @property
    def note(self) -> Note:
        """The rotation's note; an empty one when there is none that can be read."""
        line = _NOTE.search(self._text)
        noted = None if line is None else _NOTED.fullmatch(line[0])
        if noted is None:
            return Note()
        pool = () if noted[2] == "-" else tuple(noted[2].split(","))
        return Note(int(noted[1]), pool, None if noted[3] == "-" else noted[3])

    @property
    def digest(self) -> str:
        """Hex SHA-256 of what Kamailio makes of the file: the note does not count, so that it needs no reload."""
        lines = (line[0] for line in _LINE.finditer(self._text) if not _NOTE.match(line[0]))
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def named(self, pattern: str) -> tuple[Section, ...]:
        """The sections of that name, `*` standing for an address; several when the file has several."""
        return tuple(section for section in self.sections if fnmatchcase(section.name, pattern.replace("[", "[[]")))

    def asked_for(self, server_name: str) -> tuple[Section, ...]:
        """The server sections that are chosen by that SNI."""
        return tuple(
            section
            for section in self.sections
            if section.name.startswith("server:")
            and (section.value("server_name") or "").lower() == server_name.lower()
        )

    def with_certificates(self, changes: Sequence[tuple[Section, str, str]], note: Note) -> TlsConfig:
        """The file with (section, certificate, key) by file name – directories stay as they are – and the new note.

        Raises `KeyError` for a section without these settings, which `lacks` tells beforehand.
        """
        values = [
            (section.settings[setting], name)
            for section, certificate, key in changes
            for setting, name in ((CERTIFICATE, certificate), (PRIVATE_KEY, key))
        ]
        text = self._text
        for value, name in sorted(values, key=lambda change: change[0].start, reverse=True):
            text = text[: value.start] + in_directory_of(value.text, name) + text[value.end :]
        return TlsConfig(_with_note(text, note.line()).encode("utf-8", "surrogateescape"))


def lacks(section: Section) -> tuple[str, ...]:
    """The settings that a rotation changes and the section does not have."""
    return tuple(setting for setting in (CERTIFICATE, PRIVATE_KEY) if section.value(setting) is None)


def file_name(path: str | None) -> str | None:
    """The last part of a path in the file."""
    return None if path is None else path.rpartition("/")[2] or None


def directory_of(path: str | None) -> str | None:
    """All of a path but its last part, with the slash."""
    return None if path is None else path.removesuffix(file_name(path) or "")


def in_directory_of(path: str, name: str) -> str:
    """Another file beside the one of that path."""
    return f"{directory_of(path)}{name}"


def _with_note(text: str, line: str) -> str:
    if _NOTE.search(text):
        return _NOTE.sub(lambda _: line, text, count=1)
    return f"{line}\n{text}"


def _sections(text: str) -> list[Section]:
    found: list[tuple[str, dict[str, Value]]] = []
    for line in _LINE.finditer(text):
        header = _HEADER.match(line[0])
        if header is not None:
            found.append((header[1], {}))
            continue
        setting = _SETTING.match(line[0])
        if setting is not None and found:
            group = 2 if setting[2] is not None else 3
            start, end = setting.span(group)
            found[-1][1][setting[1].lower()] = Value(setting[group], line.start() + start, line.start() + end)
    return [Section(name, settings) for name, settings in found]
