"""The conformance of `Files` when something goes wrong: nothing is half done, left behind or told to strangers."""

from __future__ import annotations

import resource
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from adapters.fence import acting_within
from domain.errors import (
    ConcurrentEdit,
    PermissionMissing,
    RequestRefused,
    RotatorError,
    ServerFailed,
    TooLate,
)
from tests.adapters.disk_watch import watched
from tests.adapters.file_places import KEY_PEM, KINDS, NAME, NEW, OLD, Place, place_of, unprivileged


@pytest.fixture(params=KINDS)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with place_of(request.param, tmp_path) as place:
        yield place


async def test_a_directory_that_is_not_there_is_told_as_such(place: Place) -> None:
    place.directory.rmdir()
    try:
        for act in (
            place.files.names(),
            place.files.read(NAME),
            place.files.write(NAME, NEW),
            place.files.remove(NAME),
        ):
            with pytest.raises(RequestRefused, match="there is no such directory"):
                await act
    finally:
        place.directory.mkdir()


async def test_without_permission_to_write_nothing_changes(place: Place) -> None:
    place.path.write_bytes(OLD)
    place.path.chmod(0o644)
    place.directory.chmod(0o555)
    with unprivileged():
        assert await place.files.read(NAME) == OLD
        for act in (place.files.write(NAME, NEW), place.files.remove(NAME)):
            with pytest.raises(PermissionMissing, match=f"{NAME}: not permitted"):
                await act
    place.directory.chmod(0o755)
    assert place.path.read_bytes() == OLD
    assert place.entries() == [NAME]


async def test_a_file_that_we_may_not_read_is_a_missing_permission(place: Place) -> None:
    place.path.write_bytes(OLD)
    place.path.chmod(0)
    with unprivileged(), pytest.raises(PermissionMissing):
        await place.files.read(NAME)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond 64 KiB, as on a full disk: a write ends in the middle."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("full_disk")
async def test_a_write_that_fails_in_the_middle_leaves_the_old_file_and_no_other(place: Place) -> None:
    place.path.write_bytes(b"old")
    with pytest.raises(ServerFailed):
        await place.files.write(NAME, NEW)
    assert place.path.read_bytes() == b"old"
    assert place.entries() == [NAME]


async def test_a_rename_that_fails_leaves_the_old_file_and_no_other(place: Place) -> None:
    def fail(event: str, temporary: Path) -> None:
        if event == "os.rename":
            raise OSError(5, "Input/output error")

    place.path.write_bytes(OLD)
    with watched(place.directory) as watch:
        watch.before = fail
        with pytest.raises(ServerFailed, match="Input/output error"):
            await place.files.write(NAME, NEW)
    assert place.path.read_bytes() == OLD
    assert place.entries() == [NAME]


async def test_what_crashes_left_behind_is_removed_with_the_next_write_or_removal_of_that_name(place: Place) -> None:
    for act in (place.files.write(NAME, NEW), place.files.remove(NAME), place.files.remove(NAME)):
        for name in (NAME, "other.pem"):
            (place.directory / f".{name}.0123456789abcdef.new").write_bytes(KEY_PEM)
        (place.directory / f".{NAME}.new").touch()
        await act
        assert {*place.entries()} - {NAME} == {f".{NAME}.new", ".other.pem.0123456789abcdef.new"}


async def test_a_writer_whose_temporary_file_was_taken_for_a_leftover_does_not_write(place: Place) -> None:
    def take(event: str, temporary: Path) -> None:
        if event == "os.rename":
            temporary.unlink()

    place.path.write_bytes(OLD)
    with watched(place.directory) as watch:
        watch.before = take
        with pytest.raises(ConcurrentEdit, match="another writer removed the temporary file"):
            await place.files.write(NAME, NEW)
    assert place.path.read_bytes() == OLD


# -- the fence ---------------------------------------------------------------------------------------------------------


async def test_nothing_is_written_or_removed_after_its_time(place: Place) -> None:
    place.path.write_bytes(OLD)
    with acting_within(-1.0), watched(place.directory) as watch:
        for act in (place.files.write(NAME, NEW), place.files.remove(NAME)):
            with pytest.raises(TooLate, match=NAME):
                await act
        assert await place.files.read(NAME) == OLD
    assert watch.moments == []
    assert place.entries() == [NAME]


async def test_a_writer_that_froze_before_its_rename_does_not_rename(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def second_is_late(where: str) -> None:
        asked.append(where)
        if len(asked) == 2:
            raise TooLate("the request is not sent any more", where=where)

    monkeypatch.setattr(f"adapters.files.{place.kind}.ensure_in_time", second_is_late)
    place.path.write_bytes(OLD)
    with watched(place.directory) as watch, pytest.raises(TooLate):
        await place.files.write(NAME, NEW)
    assert watch.moments[-1].size == len(NEW), "the second question came when all was written"
    assert place.path.read_bytes() == OLD
    assert place.entries() == [NAME]


# -- secrets -----------------------------------------------------------------------------------------------------------


def key_lines(text: str) -> list[str]:
    return [line for line in KEY_PEM.decode().splitlines() if not line.startswith("-----") and line in text]


async def test_no_log_line_holds_a_key(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await place.files.write(NAME, KEY_PEM)
    assert await place.files.read(NAME) == KEY_PEM
    await place.files.remove(NAME)
    assert (NAME in caplog.text) == (place.kind == "sftp"), "asyncssh tells at this level what it does"
    assert not key_lines(caplog.text)


async def test_no_error_holds_a_key_whatever_the_other_side_says(place: Place) -> None:
    def echo(event: str, temporary: Path) -> None:
        raise OSError(5, KEY_PEM.decode())

    with watched(place.directory) as watch:
        watch.before = echo
        with pytest.raises(RotatorError) as raised:
            await place.files.write(NAME, KEY_PEM)
    assert watch.moments
    assert not key_lines("".join(traceback.format_exception(raised.value)) + repr(raised.value))
    assert raised.value.__context__ is None
