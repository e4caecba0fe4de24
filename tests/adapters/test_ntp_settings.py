"""The section `[ntp]` of the settings: forms of a server, and errors that say what is wrong."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from domain.errors import SettingsInvalid
from settings import Settings, host_and_port, load_settings

CODEC = '[codec]\ncurrent = "k"\nkeys.k = { env = "KEY" }\n'


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("SIP_ROTATE_SETTINGS", "")

    def loaded(section: str) -> Settings:
        (tmp_path / "settings.toml").write_text(f"{CODEC}{section}")
        return load_settings(tmp_path / "settings.toml")

    return loaded


@pytest.mark.parametrize(
    ("server", "found"),
    [
        ("ntp1.example.com", ("ntp1.example.com", 123)),
        ("192.0.2.1:1123", ("192.0.2.1", 1123)),
        ("2001:db8::1", ("2001:db8::1", 123)),
        ("[2001:db8::1]", ("2001:db8::1", 123)),
        ("[2001:db8::1]:1123", ("2001:db8::1", 1123)),
    ],
)
def test_a_server_is_a_host_with_a_port_or_without(server: str, found: tuple[str, int]) -> None:
    assert host_and_port(server) == found


@pytest.mark.parametrize(
    "server",
    ["", "a b", "host:", "host:0", "host:65536", "host:ntp", "http://host", "[host]:123", "[2001:db8::1", "1:2:3"],
)
def test_anything_else_is_refused(server: str) -> None:
    with pytest.raises(ValueError, match="must"):
        host_and_port(server)


def test_the_section_may_be_left_out_and_has_defaults(load: object) -> None:
    assert callable(load)
    assert load("").ntp is None
    ntp = load('[ntp]\nservers = ["ntp1.example.com", "ntp2.example.com:1123"]\n').ntp
    assert (ntp.timeout, ntp.limits.warn_above, ntp.limits.refuse_above) == (
        timedelta(seconds=2),
        timedelta(seconds=90),
        timedelta(minutes=5),
    )


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("servers = []", "ntp.servers"),
        ("", "ntp.servers"),
        ('servers = ["a", "host:99999"]', r"ntp.servers\[1\] .*port must lie between 1 and 65535"),
        ('servers = ["http://a"]', r"ntp.servers\[0\] .*must be host, host:port"),
        ('servers = ["a", "a:123"]', "names a server twice"),
        ('servers = ["a"]\nwarn_above = "10m"', "warn_above must not be longer than refuse_above"),
        ('servers = ["a"]\nwarn_above = "0s"', "ntp.warn_above"),
        ('servers = ["a"]\ntimeout = "5s"', "ntp.timeout"),
        ('servers = ["a"]\nserver = "b"', "did you mean 'servers'"),
    ],
)
def test_an_error_names_the_field_and_what_it_must_be(load: object, section: str, words: str) -> None:
    assert callable(load)
    with pytest.raises(SettingsInvalid, match=words):
        load(f"[ntp]\n{section}\n")
