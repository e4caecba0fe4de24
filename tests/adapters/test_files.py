"""The conformance of `Files`: a local directory and one behind a real SFTP server keep the same promises."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from domain.errors import PermissionMissing, RequestRefused
from tests.adapters.disk_watch import watched
from tests.adapters.file_places import KEY_PEM, KINDS, NAME, NEW, NOBODY, OLD, Place, place_of, root_only, unprivileged
from tests.adapters.sftp_host import mode_of


@pytest.fixture(params=KINDS)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with place_of(request.param, tmp_path) as place:
        yield place


@pytest.fixture
def careless_umask() -> Iterator[None]:
    """A umask that takes nothing away: only what the adapter says counts."""
    before = os.umask(0)
    yield
    os.umask(before)


# -- reading and writing -----------------------------------------------------------------------------------------------


async def test_what_is_written_is_read_listed_and_removed(place: Place) -> None:
    assert await place.files.names() == ()
    assert await place.files.read(NAME) is None
    assert await place.files.remove(NAME) is False
    await place.files.write(NAME, OLD)
    await place.files.write("a.cfg", b"")
    assert await place.files.read(NAME) == OLD
    assert await place.files.read("a.cfg") == b""
    assert await place.files.names() == ("a.cfg", NAME)
    assert await place.files.remove(NAME) is True
    assert await place.files.names() == ("a.cfg",)
    assert place.entries() == ["a.cfg"]


async def test_the_place_is_named_as_people_know_it(place: Place) -> None:
    assert place.files.where.startswith(f"{place.kind}:")
    assert place.files.where.endswith(str(place.directory))


async def test_only_regular_and_visible_files_are_listed(place: Place) -> None:
    (place.directory / "folder").mkdir()
    (place.directory / ".hidden").touch()
    (place.directory / f".{NAME}.0123456789abcdef.new").touch()
    (place.directory / "link").symlink_to(".hidden")
    (place.directory / "file").touch()
    assert await place.files.names() == ("file",)


async def test_a_reader_sees_the_old_content_or_the_new_and_never_a_part(place: Place) -> None:
    place.path.write_bytes(OLD)
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.add(place.path.read_bytes())

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for content in [NEW, OLD] * 10:
            await place.files.write(NAME, content)
    finally:
        over.set()
        reader.join()
    assert seen == {OLD, NEW}


async def test_the_content_is_on_the_disk_before_the_file_has_its_name(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, int, bool]] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        there = os.fstat(descriptor)
        synced.append((there.st_ino, there.st_size, place.path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    await place.files.write(NAME, NEW)
    assert synced[0] == (place.path.stat().st_ino, len(NEW), False)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/etc/passwd", "../a", ".hidden", "a\0b", "a\nb", "x" * 201, "ö" * 101]
)
async def test_a_name_that_is_no_plain_file_name_is_refused(place: Place, name: str) -> None:
    for act in (place.files.read(name), place.files.write(name, b"x"), place.files.remove(name)):
        with pytest.raises(ValueError, match="plain file name"):
            await act
    assert place.entries() == []


async def test_the_longest_name_has_room_for_its_temporary_file(place: Place) -> None:
    await place.files.write("x" * 200, b"content")
    assert place.entries() == ["x" * 200]


async def test_a_link_is_read_through_and_never_replaced(place: Place, tmp_path: Path) -> None:
    (tmp_path / "operators.pem").write_bytes(OLD)
    place.path.symlink_to(tmp_path / "operators.pem")
    assert await place.files.read(NAME) == OLD
    for act in (place.files.write(NAME, NEW), place.files.remove(NAME)):
        with pytest.raises(RequestRefused, match="not a regular file"):
            await act
    assert place.path.is_symlink()
    assert (tmp_path / "operators.pem").read_bytes() == OLD


async def test_a_directory_with_the_name_is_refused(place: Place) -> None:
    place.path.mkdir()
    for act in (place.files.read(NAME), place.files.write(NAME, NEW), place.files.remove(NAME)):
        with pytest.raises(RequestRefused, match=f"{NAME}: this is not a regular file"):
            await act


async def test_what_is_too_long_for_a_certificate_is_refused(place: Place) -> None:
    with pytest.raises(RequestRefused, match="too long; seen: 4194305 bytes"):
        await place.files.write(NAME, bytes(4 * 1024 * 1024 + 1))
    with place.path.open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(RequestRefused, match="too long; seen: 1000000000 bytes"):
        await place.files.read(NAME)


# -- owner and mode ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("careless_umask")
async def test_nobody_else_can_read_the_temporary_file_at_any_moment(place: Place) -> None:
    with watched(place.directory) as watch:
        await place.files.write(NAME, KEY_PEM)
    assert [moment.event for moment in watch.moments] == ["os.chmod", "os.chmod", "os.rename"]
    assert {moment.mode for moment in watch.moments} == {0o600}
    assert watch.moments[0].size == 0
    assert watch.moments[-1].size == len(KEY_PEM)
    assert mode_of(place.path) == 0o600


@root_only
@pytest.mark.usefixtures("careless_umask")
async def test_owner_group_and_mode_of_an_existing_file_are_kept_and_set_in_a_safe_order(place: Place) -> None:
    place.path.write_bytes(OLD)
    os.chown(place.path, 4242, 4243)
    place.path.chmod(0o640)
    with watched(place.directory) as watch:
        await place.files.write(NAME, NEW)
    there = place.path.stat()
    assert (there.st_uid, there.st_gid, mode_of(place.path)) == (4242, 4243, 0o640)
    steps = [(moment.event, moment.mode, moment.uid, moment.size) for moment in watch.moments]
    assert steps == [
        ("os.chmod", 0o600, 0, 0),
        ("os.chown", 0o600, 0, 0),
        ("os.chmod", 0o600, 4242, len(NEW)),
        ("os.rename", 0o640, 4242, len(NEW)),
    ]


@root_only
async def test_a_new_file_belongs_to_the_directorys_owner(place: Place) -> None:
    os.chown(place.directory, 4242, 4243)
    await place.files.write(NAME, NEW)
    assert (place.path.stat().st_uid, mode_of(place.path)) == (4242, 0o600)


async def test_a_private_key_loses_its_permissions_for_others_and_a_configuration_keeps_them(place: Place) -> None:
    for name, content, mode in ((NAME, KEY_PEM, 0o640), ("tls.cfg", b"[server:default]\n", 0o644)):
        path = place.directory / name
        path.touch()
        path.chmod(0o644)
        await place.files.write(name, content)
        assert mode_of(path) == mode


@root_only
async def test_where_the_owner_cannot_be_kept_nothing_is_written(place: Place) -> None:
    place.path.write_bytes(OLD)
    place.path.chmod(0o644)
    os.chown(place.directory, NOBODY, NOBODY)
    with unprivileged(), pytest.raises(PermissionMissing, match="own the files in it"):
        await place.files.write(NAME, NEW)
    assert place.path.read_bytes() == OLD
    assert place.entries() == [NAME]
    with unprivileged():
        await place.files.write("own.pem", NEW)
    assert (place.directory / "own.pem").stat().st_uid == NOBODY
