"""Data sets from the command line: missing, damaged, downloaded, checked."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedlps.cli import main
from fedlps.data import CATALOG, idx
from fedlps.data.catalog import Entry, File
from tests.cli.commands import Refused
from tests.data.files import arrays, write
from tests.data.mirrors import CONTENT, Handler, Server


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda content: content[:-5], "truncated"),
        (lambda content: b"\0\0\x09" + content[3:], "wrong magic number"),
        (lambda content: b"\x1f\x8b" + content[2:], "corrupt gzip"),
        (lambda content: content + b"x", "trailing bytes"),
    ],
)
def test_damaged_data_is_named(refused: Refused, place: Path, damage: Callable[[bytes], bytes], expected: str) -> None:
    write(place / "set", arrays(), compressed=False)
    images = place / "set" / idx.STEMS[0]
    images.write_bytes(damage(images.read_bytes()))
    for error in (refused("run", "mnist", "data.root=set", "--out", "new"), refused("data", "check", "set")):
        assert f"set/{idx.STEMS[0]}: " in error
        assert expected in error


def test_a_missing_file_is_named(refused: Refused, place: Path) -> None:
    write(place / "set", arrays())
    (place / "set" / f"{idx.STEMS[3]}.gz").unlink()
    error = refused("run", "mnist", "data.root=set")
    assert f"data set mnist: {idx.STEMS[3]}[.gz] not found in set; run `fedlps data get mnist`" in error


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    files = tuple(File(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items())
    made = Server(("127.0.0.1", 0), Handler)
    made.requests = []
    monkeypatch.setitem(CATALOG, "made", Entry(CATALOG["mnist"].read, lambda *_: [], files, (made.mirror("good"),)))
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_data_get_downloads_and_says_where_to(server: Server, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            [
                "data",
                "get",
                "made",
                "--mirror",
                server.mirror("gone"),
                "--mirror",
                server.mirror("breaking"),
                "--to",
                "set",
            ]
        )
        == 0
    )
    assert capsys.readouterr().out.splitlines() == ["first: 200.0 kB", "second: 1.0 kB", "made is in set"]
    assert {path.name: path.read_bytes() for path in (place / "set").iterdir()} == CONTENT


def test_data_get_without_a_mirror_that_has_it(server: Server, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "get", "made", "--mirror", server.mirror("gone"), "--to", "set"]) == 2
    error = capsys.readouterr().err
    assert "first: no mirror gave it" in error
    assert error.count("\n") == 1


def test_data_check_says_what_is_there(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(place / "set", arrays())
    assert main(["data", "check", "set"]) == 0
    assert "12 training and 5 test images of 4 x 3, 3 classes" in capsys.readouterr().out
