import fcntl
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedlps.data import CATALOG, download, get
from fedlps.data.catalog import Entry, File
from fedlps.errors import InputError
from tests.data.mirrors import CONTENT, Handler, Server

FILES = tuple(File(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    made = Server(("127.0.0.1", 0), Handler)
    made.requests = []
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    entry = Entry(read=CATALOG["mnist"].read, missing=lambda *_: [], files=FILES, mirrors=(made.mirror("good"),))
    monkeypatch.setitem(CATALOG, "made", entry)
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def assert_complete(place: Path) -> None:
    assert {path.name: path.read_bytes() for path in place.iterdir()} == CONTENT


def refused(server: Server, place: Path, *mirrors: str) -> str:
    """The error where no mirror helps; nothing has the first file's name."""
    with pytest.raises(InputError) as caught:
        get("made", [server.mirror(mirror) for mirror in mirrors], place)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("first: no mirror gave it: ")
    for mirror in mirrors:
        assert server.mirror(mirror) in message
    assert not (place / "first").exists()
    return message


def test_downloads_every_file_and_tells_how_far_it_is(server: Server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    place = get("made", destination=tmp_path / "new" / "place", progress=lambda *news: told.append(news))
    assert place == tmp_path / "new" / "place"
    assert_complete(place)
    first = [done for name, done, total in told if name == "first" and total == 200_000]
    assert len(first) > 1
    assert first == sorted(first)
    assert first[-1] == 200_000
    assert told[-1] == ("second", 1000, 1000)


def test_default_destination_is_where_load_looks(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDLPS_DATA", str(tmp_path))
    assert get("made") == tmp_path / "made"
    assert_complete(tmp_path / "made")


def test_good_files_are_left_alone_and_bad_ones_replaced(server: Server, tmp_path: Path) -> None:
    get("made", destination=tmp_path)
    (tmp_path / "second").write_bytes(bytes(1000))
    server.requests.clear()
    told: list[tuple[str, int, int]] = []
    get("made", destination=tmp_path, progress=lambda *news: told.append(news))
    assert server.requests == [("good", "second", None)]
    assert told[0] == ("first", 200_000, 200_000)
    assert_complete(tmp_path)


def test_broken_connection_is_resumed_at_once(server: Server, tmp_path: Path) -> None:
    get("made", [server.mirror("breaking")], tmp_path)
    assert_complete(tmp_path)
    ranges = [asked for _, name, asked in server.requests if name == "first"]
    assert ranges == [None, "bytes=60000-", "bytes=120000-", "bytes=180000-"]


def test_what_an_earlier_run_left_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    (tmp_path / "first.part").write_bytes(CONTENT["first"][:12345])
    get("made", destination=tmp_path)
    assert server.requests[0] == ("good", "first", "bytes=12345-")
    assert_complete(tmp_path)


def test_a_complete_part_needs_no_request(server: Server, tmp_path: Path) -> None:
    (tmp_path / "first.part").write_bytes(CONTENT["first"])
    get("made", destination=tmp_path)
    assert [name for _, name, _ in server.requests] == ["second"]
    assert_complete(tmp_path)


@pytest.mark.parametrize("mirror", ["rangeless", "unsized"])
def test_server_that_ignores_range(server: Server, tmp_path: Path, mirror: str) -> None:
    (tmp_path / "first.part").write_bytes(b"?" * 12345)
    get("made", [server.mirror(mirror)], tmp_path)
    assert server.requests[0][2] == "bytes=12345-"
    assert_complete(tmp_path)


@pytest.mark.parametrize("left", [b"?" * 12345, b"?" * 200_000, b"?" * 300_000])
def test_a_part_of_something_else_is_started_anew(server: Server, tmp_path: Path, left: bytes) -> None:
    (tmp_path / "first.part").write_bytes(left)
    get("made", [server.mirror("altered"), server.mirror("good")], tmp_path)
    assert_complete(tmp_path)
    (tmp_path / "first").unlink()
    (tmp_path / "first.part").write_bytes(left[:12345])
    get("made", destination=tmp_path)  # one mirror is enough
    assert_complete(tmp_path)


def test_redirection(server: Server, tmp_path: Path) -> None:
    get("made", [server.mirror("redirecting").removesuffix("/")], tmp_path)
    assert_complete(tmp_path)


@pytest.mark.parametrize(
    ("mirror", "reason", "requests"),
    [
        ("gone", "HTTP 404 Not Found", 1),
        ("altered", "wrong checksum: SHA-256", 1),
        ("short", "wrong size: 199999 bytes, expected 200000", 1),
        ("endless", "wrong size: more than 200000 bytes", 1),
        ("silent", "broke off", 1),
        ("luring", "not reached: unknown url type", 1),
    ],
)
def test_bad_mirror_is_named_and_the_next_one_asked(
    server: Server, tmp_path: Path, mirror: str, reason: str, requests: int
) -> None:
    message = refused(server, tmp_path, mirror)
    assert reason in message
    assert len(server.requests) == requests
    assert list(tmp_path.iterdir()) == []
    get("made", [server.mirror(mirror), server.mirror("good")], tmp_path)
    assert_complete(tmp_path)


def test_wrong_range_is_not_believed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "first.part").write_bytes(CONTENT["first"][:12345])
    message = refused(server, tmp_path, "elsewhere")
    assert "wrong range: got 'bytes 12344-199999/200000'" in message
    assert (tmp_path / "first.part").read_bytes() == CONTENT["first"][:12345]


def test_every_mirror_has_its_reason(server: Server, tmp_path: Path) -> None:
    message = refused(server, tmp_path, "gone", "short", "altered")
    assert message.index("HTTP 404") < message.index("wrong size") < message.index("wrong checksum")


def test_unreachable_mirror(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:1/: not reached: .*refused"):
        get("made", ["http://127.0.0.1:1"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_mirror_that_keeps_breaking_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "CONNECTIONS", 2)
    assert "broke off at 120000 of 200000 bytes" in refused(server, tmp_path, "breaking")
    assert (tmp_path / "first.part").read_bytes() == CONTENT["first"][:120_000]


def test_mirror_that_never_answers(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 0.05)
    pause = threading.Event()
    monkeypatch.setattr(Handler, "serve_good", lambda *_: pause.wait(5))
    try:
        assert "timed out" in refused(server, tmp_path, "good")
    finally:
        pause.set()


def test_full_disk(server: Server, tmp_path: Path) -> None:
    (tmp_path / "first.part").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"first\.part: cannot be written: No space left on device; 200000 bytes"):
        get("made", destination=tmp_path)
    assert not (tmp_path / "first").exists()


def test_place_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be made: (File exists|Not a directory)"):
        get("made", destination=tmp_path / "file")
    (tmp_path / "first.part").mkdir()
    with pytest.raises(InputError, match="cannot be written: Is a directory"):
        get("made", destination=tmp_path)


def test_two_at_once(server: Server, tmp_path: Path) -> None:
    with (tmp_path / "first.part").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is downloading this file"):
            get("made", destination=tmp_path)


@pytest.mark.parametrize(
    ("name", "mirrors", "message"),
    [
        ("digits", None, "nothing to download"),
        ("nothing", None, "unknown data set 'nothing'"),
        ("mnist", ["file:///etc"], "mirror: got 'file:///etc', expected an address that starts with http"),
        ("mnist", [], "mirror: got none"),
    ],
)
def test_bad_arguments(name: str, mirrors: list[str] | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        get(name, mirrors, tmp_path / "place")
    assert not (tmp_path / "place").exists()
