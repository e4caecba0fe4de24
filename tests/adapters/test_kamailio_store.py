"""A node's directory: certificates and keys are known by what is in the files, and every key can be found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.edges.kamailio.store import KamailioStore, Kept, leaf_by_serial
from adapters.files.local import LocalFiles
from domain.errors import RequestRefused
from tests.adapters.trunk_leaves import TrunkLeaf, key_lines, root, trunk_leaf

A, B = trunk_leaf("A"), trunk_leaf("B")


def put(folder: Path, name: str, *texts: str) -> None:
    (folder / name).write_text("".join(texts))


def names(folder: Path) -> list[str]:
    """Hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


def key(leaf: TrunkLeaf) -> str:
    return leaf.private_key.get_secret_value()


async def kept(folder: Path, *named: str) -> list[tuple[str, str]]:
    return [(one.file, one.sha256) for one in await KamailioStore(LocalFiles(folder)).kept(named)]


async def test_leaves_are_found_in_files_with_usual_names_and_in_those_that_are_named(tmp_path: Path) -> None:
    put(tmp_path, "a.chain.pem", A.chain_pem)
    put(tmp_path, "b.crt", B.chain_pem)
    put(tmp_path, "roots.pem", root().pem)
    put(tmp_path, "broken.pem", A.chain_pem[:400])
    put(tmp_path, "unusual", A.chain_pem)
    put(tmp_path, "tls.cfg", "# nothing")
    assert await kept(tmp_path) == [("a.chain.pem", A.sha256), ("b.crt", B.sha256)]
    assert ("unusual", A.sha256) in await kept(tmp_path, "unusual")


@pytest.mark.parametrize(
    ("chain", "key_name"),
    [("a.chain.pem", "a.key"), ("a.pem", "a.key"), ("a.chain.pem", "private.pem"), ("a.pem", "a.pem")],
)
async def test_a_key_is_found_under_its_usual_name_another_one_or_inside(
    tmp_path: Path, chain: str, key_name: str
) -> None:
    put(tmp_path, chain, A.chain_pem)
    with (tmp_path / key_name).open("a") as file:
        file.write(key(A))
    put(tmp_path, "b.key", key(B))
    store = KamailioStore(LocalFiles(tmp_path))
    (one,) = [one for one in await store.kept() if one.sha256 == A.sha256]
    assert await store.key_file(one) == key_name
    assert await store.key_file(Kept("x.pem", (root().certificate,))) is None


async def test_an_upload_writes_what_is_missing_and_takes_no_name_over(tmp_path: Path) -> None:
    store = KamailioStore(LocalFiles(tmp_path))
    put(tmp_path, "b.chain.pem", B.chain_pem)
    before = (tmp_path / "b.chain.pem").stat().st_ino
    await store.write("b", B.chain_pem, B.private_key)
    assert (tmp_path / "b.chain.pem").stat().st_ino == before, "the chain was there"
    assert (tmp_path / "b.key").read_text() == key(B)
    for content in (A.chain_pem, "no certificate"):
        put(tmp_path, "c.chain.pem", content)
        with pytest.raises(RequestRefused, match="the name c is taken"):
            await store.write("c", B.chain_pem, B.private_key)
    assert not (tmp_path / "c.key").exists()


async def test_a_removal_takes_every_key_of_the_leaf_and_what_was_left_behind(tmp_path: Path) -> None:
    put(tmp_path, "b.chain.pem", B.chain_pem)
    put(tmp_path, "b.key", key(B))
    put(tmp_path, "copy-of.key", key(B))
    put(tmp_path, "again.pem", B.chain_pem, key(B))
    put(tmp_path, ".b.key.0123456789abcdef.new", key(B))
    put(tmp_path, "a.key", key(A))
    store = KamailioStore(LocalFiles(tmp_path))
    assert await store.remove(B.sha256, in_use=()) is True
    assert names(tmp_path) == ["a.key"]
    assert await store.remove(B.sha256, in_use=()) is False


async def test_an_upload_that_was_cut_off_in_its_key_leaves_nothing_after_the_removal(tmp_path: Path) -> None:
    put(tmp_path, "b.chain.pem", B.chain_pem)
    put(tmp_path, ".b.key.0123456789abcdef.new", key(B))
    assert await KamailioStore(LocalFiles(tmp_path)).remove(B.sha256, in_use=()) is True
    assert names(tmp_path) == []


async def test_a_key_that_a_section_still_needs_stays(tmp_path: Path) -> None:
    """Renewed with the same key: the old chain goes, the key does not."""
    put(tmp_path, "b.chain.pem", B.chain_pem)
    put(tmp_path, "b.key", key(B))
    await KamailioStore(LocalFiles(tmp_path)).remove(B.sha256, in_use=("b.key",))
    assert names(tmp_path) == ["b.key"]


def test_serials_are_known_in_decimal_and_in_hex_and_shared_ones_not_at_all() -> None:
    one = Kept("a.pem", (A.certificate,))
    number = A.certificate.serial_number
    leaves = leaf_by_serial([one, one, Kept("b.pem", (B.certificate,))])
    assert {leaves[text] for text in (str(number), f"{number:X}", f"{number:x}", f"0{number:X}")} == {A.sha256}
    assert leaves.get("none") is None


def test_nothing_about_a_key_is_in_what_is_shown() -> None:
    shown = repr(Kept("a.pem", (A.certificate,)))
    assert not any(line in shown for line in key_lines(A))
