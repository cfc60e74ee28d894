"""Downloads from a local web server that misbehaves in a different way in each test."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from nephros.data.download import cache_dir, download, download_file, show_download_progress
from nephros.data.medmnist import MEDMNIST
from nephros.data.npz.opening import open_npz
from nephros.errors import FileError, InvalidArgument, NephrosError, UnknownName
from tests.conftest import squares_dataset, write_npz

module = importlib.import_module("nephros.data.download")

BODY = hashlib.shake_128(b"cells").digest(300_000)
MD5 = hashlib.md5(BODY).hexdigest()
OTHER = bytes(300_000)


class RequestHandler(BaseHTTPRequestHandler):
    """Lets the server's script respond to one request."""

    server: FlakyServer

    def do_GET(self) -> None:
        self.first_byte = int(self.headers.get("Range", "bytes=0-")[6:-1])
        number = len(self.server.requests)
        self.server.requests.append((self.path, self.first_byte))
        script = self.server.script
        script[min(number, len(script) - 1)](self)

    def reply(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        """Send `body`, announced as `length` bytes where that is given."""
        self.server.body_sizes.append(len(body))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Discard the server's log."""


Respond = Callable[[RequestHandler], None]


class FlakyServer(ThreadingHTTPServer):
    """A web server that responds to the n-th request with the n-th function of `script`, and to later ones with the last."""

    daemon_threads = False  # so that closing the server waits for its threads

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), RequestHandler)
        self.script: list[Respond] = [serve_file()]
        self.requests: list[tuple[str, int]] = []
        """Path and first byte of every request."""
        self.body_sizes: list[int] = []
        """Bytes of every body."""

    def url(self, path: str = "/cells.npz") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    @property
    def first_bytes(self) -> list[int]:
        return [start for _, start in self.requests]


def serve_file(body: bytes = BODY) -> Respond:
    """Serve the file and its ranges correctly."""
    return close_after(len(body), body)


def close_after(after: int, body: bytes = BODY) -> Respond:
    """Announce all bytes from the requested one, and close the connection after `after` of them."""

    def respond(request: RequestHandler) -> None:
        rest = body[request.first_byte :]
        if not rest:
            request.reply(416, Content_Range=f"bytes */{len(body)}")
        elif request.first_byte:
            span = f"bytes {request.first_byte}-{len(body) - 1}/{len(body)}"
            request.reply(206, rest[:after], len(rest), Content_Range=span)
        else:
            request.reply(200, rest[:after], len(rest))

    return respond


def reset_after(after: int) -> Respond:
    """As `close_after`, but reset the connection."""

    def respond(request: RequestHandler) -> None:
        close_after(after)(request)
        request.wfile.flush()
        time.sleep(0.5)  # a reset overtakes bytes that the other side hasn't read yet
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.connection.close()

    return respond


def reply_with(status: int, body: bytes = b"", length: int | None = None, **headers: str) -> Respond:
    """Send the same response whatever range is requested."""
    return lambda request: request.reply(status, body, length, **headers)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with FlakyServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "cells.npz"


def partial_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def write_partial(target: Path, content: bytes) -> None:
    target.parent.mkdir()
    partial_path(target).write_bytes(content)


def failed_download_message(target: Path, *urls: str, retries: int = 2) -> str:
    """Check that a download fails and leaves no file, and return the error's message."""
    with pytest.raises(NephrosError) as exc_info:
        download_file(urls, target, MD5, retries=retries, backoff=0, timeout=5)
    assert not target.exists()
    return str(exc_info.value)


def assert_downloads(target: Path, *urls: str, retries: int = 2) -> None:
    """Download, and check that the file is complete and has nothing but the lock beside it."""
    assert download_file(urls, target, MD5, retries=retries, backoff=0, timeout=5) == target
    assert target.read_bytes() == BODY
    assert {path.name for path in target.parent.iterdir()} == {"cells.npz", ".cells.npz.lock", ".cells.npz.sha256"}


def test_a_complete_file_arrives_and_progress_is_reported(site: FlakyServer, target: Path) -> None:
    progress_calls: list[tuple[int, int | None]] = []
    download_file(
        [site.url()], target, MD5, progress=lambda n_bytes, total: progress_calls.append((n_bytes, total)), backoff=0
    )
    assert target.read_bytes() == BODY
    assert progress_calls[-1] == (300_000, 300_000)
    assert len(progress_calls) > 3
    assert [n_bytes for n_bytes, _ in progress_calls] == sorted({n_bytes for n_bytes, _ in progress_calls})


def test_an_existing_file_is_not_downloaded_again(site: FlakyServer, target: Path) -> None:
    assert_downloads(target, site.url())
    assert_downloads(target, site.url())
    assert len(site.requests) == 1


def test_an_existing_file_leaves_its_folder_unchanged(site: FlakyServer, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(BODY)
    download_file([site.url()], target, MD5)
    assert list(target.parent.iterdir()) == [target]  # no lock file: the cache may be read-only
    assert site.requests == []


def test_another_file_at_the_target_is_kept(site: FlakyServer, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"another file")
    with pytest.raises(FileError, match=r"cells\.npz exists"):
        download_file([site.url()], target, MD5, backoff=0)
    assert target.read_bytes() == b"another file"
    assert site.requests == []


@pytest.mark.parametrize("break_after", [close_after, reset_after])
def test_a_broken_download_resumes_where_it_broke(
    site: FlakyServer, target: Path, break_after: Callable[[int], Respond]
) -> None:
    site.script = [break_after(65_536), serve_file()]
    assert_downloads(target, site.url())
    assert site.first_bytes == [0, 65_536]
    assert site.body_sizes == [65_536, 300_000 - 65_536]


def test_a_later_run_resumes_and_reports_the_full_length(site: FlakyServer, target: Path) -> None:
    site.script = [close_after(100_000), serve_file()]
    assert "broke off after 100,000 of 300,000 bytes" in failed_download_message(target, site.url(), retries=0)
    progress_calls: list[tuple[int, int | None]] = []
    download_file(
        [site.url()], target, MD5, progress=lambda n_bytes, total: progress_calls.append((n_bytes, total)), backoff=0
    )
    assert target.read_bytes() == BODY
    assert site.body_sizes == [100_000, 200_000]
    assert progress_calls[0][0] > 100_000
    assert progress_calls[-1] == (300_000, 300_000)


def test_tries_are_counted_again_after_progress(site: FlakyServer, target: Path) -> None:
    site.script = [close_after(10_000)]
    assert_downloads(target, site.url(), retries=1)
    assert len(site.requests) == 30


def test_the_rest_of_a_short_range_is_requested(site: FlakyServer, target: Path) -> None:
    pieces = [
        reply_with(206, BODY[at : at + 100_000], Content_Range=f"bytes {at}-{at + 99_999}/300000")
        for at in (1000, 101_000)
    ]
    write_partial(target, BODY[:1000])
    site.script = [*pieces, serve_file()]
    assert_downloads(target, site.url())
    assert site.first_bytes == [1000, 101_000, 201_000]


def test_a_server_without_ranges_sends_the_file_again(site: FlakyServer, target: Path) -> None:
    site.script = [close_after(100_000), reply_with(200, BODY)]
    assert_downloads(target, site.url())
    assert site.body_sizes == [100_000, 300_000]


def test_a_wrong_range_starts_the_download_over(site: FlakyServer, target: Path) -> None:
    write_partial(target, BODY[:1000])
    site.script = [reply_with(206, BODY[500:], Content_Range="bytes 500-299999/300000"), serve_file()]
    assert_downloads(target, site.url())
    assert site.first_bytes == [1000, 0]


def test_a_complete_partial_file_is_only_renamed(site: FlakyServer, target: Path) -> None:
    write_partial(target, BODY)
    assert_downloads(target, site.url())
    assert site.first_bytes == [300_000]
    assert site.body_sizes == [0]


@pytest.mark.parametrize("length", [5_000, 300_000, 400_000])
def test_a_wrong_partial_file_is_discarded(site: FlakyServer, target: Path, length: int) -> None:
    write_partial(target, bytes(length))
    assert_downloads(target, site.url())
    assert site.first_bytes == [length, 0]


def test_starting_over_resets_the_count_of_tries(site: FlakyServer, target: Path) -> None:
    write_partial(target, bytes(290_000))
    site.script = [serve_file(), close_after(60_000)]
    assert_downloads(target, site.url(), retries=1)
    assert site.first_bytes == [290_000, 0, 60_000, 120_000, 180_000, 240_000]


def test_a_file_that_changed_between_two_tries_is_downloaded_again(site: FlakyServer, target: Path) -> None:
    site.script = [close_after(100_000, OTHER), serve_file()]
    assert "not the published one" in failed_download_message(target, site.url())
    assert_downloads(target, site.url())
    assert site.first_bytes == [0, 100_000, 0]


def test_an_overstated_length_is_detected(site: FlakyServer, target: Path) -> None:
    site.script = [reply_with(200, BODY, 300_010)]
    assert "broke off after 300,000 of 300,010 bytes" in failed_download_message(target, site.url())
    assert len(site.requests) == 3


def test_an_understated_length_is_detected(site: FlakyServer, target: Path) -> None:
    site.script = [reply_with(200, BODY, 299_990)]
    assert "not the published one" in failed_download_message(target, site.url())
    assert not partial_path(target).exists()


def test_a_wrong_file_is_refused_and_removed(site: FlakyServer, target: Path) -> None:
    site.script = [serve_file(OTHER)]
    message = failed_download_message(target, site.url())
    assert "127.0.0.1" in message
    assert "MD5 differs" in message
    assert "\n" not in message
    assert len(site.requests) == 1
    assert not partial_path(target).exists()


def test_the_second_address_is_tried_after_a_wrong_file_at_the_first(site: FlakyServer, target: Path) -> None:
    site.script = [serve_file(OTHER), serve_file()]
    assert_downloads(target, site.url("/a"), site.url("/b"))
    assert site.requests == [("/a", 0), ("/b", 0)]


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_tried_again(site: FlakyServer, target: Path, status: int) -> None:
    busy = reply_with(status, Retry_After="0")
    site.script = [busy, busy, serve_file()]
    assert_downloads(target, site.url())
    assert len(site.requests) == 3


def test_tries_at_a_busy_server_are_limited(site: FlakyServer, target: Path) -> None:
    site.script = [reply_with(503)]
    assert "503 Service Unavailable" in failed_download_message(target, site.url(), retries=4)
    assert len(site.requests) == 5


@pytest.mark.parametrize(
    ("retry_after", "waits"),
    [
        ("7", [7.0, 7.0]),
        ("Thu, 01 Jan 1970 00:16:50 GMT", [10.0, 10.0]),
        ("Thu, 01 Jan 1970 00:00:00 GMT", [2.0, 4.0]),
        ("soon", [2.0, 4.0]),
        ("0", [2.0, 4.0]),
    ],
)
def test_waits_follow_retry_after_or_double(
    site: FlakyServer, target: Path, monkeypatch: pytest.MonkeyPatch, retry_after: str, waits: list[float]
) -> None:
    sleeps: list[float] = []
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=sleeps.append, time=lambda: 1000.0))
    busy = reply_with(503, Retry_After=retry_after)
    site.script = [busy, busy, serve_file()]
    download_file([site.url()], target, MD5, backoff=2.0)
    assert sleeps == waits


def test_the_next_address_is_tried_instead_of_waiting_an_hour(site: FlakyServer, target: Path) -> None:
    site.script = [reply_with(503, Retry_After="3600"), serve_file()]
    assert_downloads(target, site.url("/a"), site.url("/b"))
    assert site.requests == [("/a", 0), ("/b", 0)]


def test_a_missing_file_is_not_requested_twice(site: FlakyServer, target: Path) -> None:
    site.script = [reply_with(404)]
    message = failed_download_message(target, site.url())
    assert re.search(r"cells\.npz: 127\.0\.0\.1:\d+ \D* 404 Not Found\. ", message)
    assert len(site.requests) == 1


def test_the_next_address_is_tried_after_a_refused_connection(site: FlakyServer, target: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: every connection is refused
        dead_url = f"http://127.0.0.1:{closed.getsockname()[1]}/cells.npz"
        assert_downloads(target, dead_url, site.url())
        target.unlink()
        assert "can't be reached ([Errno" in failed_download_message(target, dead_url)


def test_the_next_address_resumes_where_the_first_broke(site: FlakyServer, target: Path) -> None:
    site.script = [close_after(100_000), reply_with(404), serve_file()]
    assert_downloads(target, site.url("/a"), site.url("/b"))
    assert site.requests == [("/a", 0), ("/a", 100_000), ("/b", 100_000)]


def test_a_redirect_keeps_the_range(site: FlakyServer, target: Path) -> None:
    write_partial(target, BODY[:1000])
    site.script = [reply_with(302, Location="/elsewhere"), serve_file()]
    assert_downloads(target, site.url())
    assert site.requests == [("/cells.npz", 1000), ("/elsewhere", 1000)]


def test_a_silent_server_times_out(site: FlakyServer, target: Path) -> None:
    timed_out = threading.Event()
    site.script = [lambda request: assert_true(timed_out.wait(10))]
    with pytest.raises(NephrosError, match="timed out"):
        download_file([site.url()], target, MD5, retries=0, timeout=0.1)
    timed_out.set()


def assert_true(value: bool) -> None:
    assert value


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_reported(site: FlakyServer, target: Path) -> None:
    target.parent.mkdir()
    partial_path(target).symlink_to("/dev/full")
    assert "disk is full" in failed_download_message(target, site.url())
    assert len(site.requests) == 1


def test_a_folder_that_can_not_be_created_is_reported(site: FlakyServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"cells\.npz: (File exists|Not a directory)\."):
        download_file([site.url()], tmp_path / "file" / "cells.npz", MD5)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "zenodo.org/cells.npz"])
def test_only_http_addresses_are_accepted(target: Path, url: str) -> None:
    with pytest.raises(InvalidArgument) as exc_info:
        download_file([url], target, MD5)
    assert (exc_info.value.parameter, exc_info.value.value) == ("urls", url)


def test_no_address_is_reported(target: Path) -> None:
    assert "no address" in failed_download_message(target)


def test_two_threads_download_a_file_once(site: FlakyServer, target: Path) -> None:
    barrier = threading.Barrier(2)

    def serve_slowly(request: RequestHandler) -> None:
        time.sleep(0.2)  # long enough for the other thread's request, if there were no lock
        serve_file()(request)

    def run() -> None:
        barrier.wait()
        download_file([site.url()], target, MD5, backoff=0)

    site.script = [serve_slowly]
    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == BODY
    assert len(site.requests) == 1


def test_two_processes_download_a_file_once(site: FlakyServer, target: Path) -> None:
    started = threading.Event()

    def serve_slowly(request: RequestHandler) -> None:
        assert started.wait(30)
        time.sleep(0.2)
        serve_file()(request)

    site.script = [serve_slowly]
    code = (
        "import sys; from pathlib import Path; from nephros.data.download import download_file\n"
        "print('ready', flush=True); download_file([sys.argv[1]], Path(sys.argv[2]), sys.argv[3])"
    )
    command = [sys.executable, "-c", code, site.url(), str(target), MD5]
    first, second = (subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2))
    with first, second:
        assert [process.stdout.readline() for process in (first, second) if process.stdout] == ["ready\n"] * 2
        started.set()
        assert [first.wait(30), second.wait(30)] == [0, 0]
    assert target.read_bytes() == BODY
    assert len(site.requests) == 1


def test_download_names_the_file_and_checks_the_published_md5(site: FlakyServer, tmp_path: Path) -> None:
    with pytest.raises(NephrosError, match=r"Can't download tissuemnist_64\.npz: .* not the published one"):
        download("tissuemnist", 64, tmp_path, [site.url()], backoff=0)
    with pytest.raises(UnknownName, match="'tissuemnist'"):
        download("tissuemnits", 28, tmp_path)
    with pytest.raises(InvalidArgument) as exc_info:
        download("tissuemnist", 32, tmp_path)
    assert (exc_info.value.parameter, exc_info.value.value) == ("size", 32)


def test_download_goes_to_the_cache_from_the_published_addresses(
    site: FlakyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = MEDMNIST["chestmnist"]
    monkeypatch.setitem(entry.md5, 28, MD5)
    monkeypatch.setattr(type(entry), "urls", lambda self, size: (site.url(f"/{self.filename(size)}"),))
    monkeypatch.setenv("NEPHROS_CACHE", str(tmp_path / "cache"))
    assert download("chestmnist") == tmp_path / "cache" / "chestmnist.npz"
    assert (tmp_path / "cache" / "chestmnist.npz").read_bytes() == BODY
    assert site.requests == [("/chestmnist.npz", 0)]


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NEPHROS_CACHE", "~/mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("NEPHROS_CACHE")
    assert cache_dir() == tmp_path / "xdg" / "nephros"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_dir() == tmp_path / ".cache" / "nephros"


def test_progress_off_a_terminal_is_logged_when_the_file_is_complete(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "nephros")
    with show_download_progress("TissueMNIST") as progress:
        for n_bytes in range(1_000_000, 125_000_001, 1_000_000):
            progress(n_bytes, 125_000_000)
    assert caplog.messages == ["TissueMNIST: 125.0 of 125.0 MB"]


def test_progress_messages_are_seconds_apart(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level("INFO", "nephros")
    clock = iter(range(1000))
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 2.0 * next(clock)))
    with show_download_progress("TissueMNIST") as progress:
        for n_megabytes in range(10):
            progress(n_megabytes * 1_000_000, None)
    assert 1 < len(caplog.messages) < 5
    assert re.fullmatch(r"TissueMNIST: \d\.0 MB", caplog.messages[0])


def test_progress_on_a_terminal_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with show_download_progress("TissueMNIST") as progress:
        progress(50_000_000, 125_000_000)
        progress(125_000_000, 125_000_000)
    stderr = capsys.readouterr().err
    assert "TissueMNIST" in stderr
    assert "125.0/125.0 MB" in stderr


def test_the_sha256_of_a_download_is_kept_and_checked_at_every_opening(site: FlakyServer, target: Path) -> None:
    data = write_npz(target.parent.parent / "source.npz", squares_dataset(n=80)).read_bytes()
    md5, sha256 = hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest()
    site.script = [serve_file(data)]
    download_file([site.url()], target, md5)
    record = target.with_name(".cells.npz.sha256")
    assert record.read_text() == f"{sha256}  cells.npz\n"
    assert open_npz(target).provenance.sha256 == sha256
    write_npz(target, squares_dataset(n=84))
    with pytest.raises(FileError) as caught:
        open_npz(target)
    assert caught.value.path == target
    assert str(record) in str(caught.value)
    record.unlink()
    assert len(open_npz(target).train) == 84


def test_a_file_with_the_md5_but_another_sha256_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "cells.npz"
    target.write_bytes(BODY)
    record = target.with_name(".cells.npz.sha256")
    record.write_text(hashlib.sha256(BODY).hexdigest() + "  cells.npz\n")
    assert download_file([], target, MD5) == target
    for text in ("0" * 64 + "  cells.npz\n", "", "hello", "\0" * 64):
        record.write_text(text)
        with pytest.raises(FileError):
            download_file([], target, MD5)


@pytest.mark.skipif(os.name == "nt", reason="Windows opens no folders")
def test_folders_are_flushed_after_files_are_renamed(
    site: FlakyServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    rename, flush = os.replace, os.fsync

    def recorded_rename(source: str, target: str) -> None:
        events.append(Path(target).name)
        rename(source, target)

    def recorded_flush(fd: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        flush(fd)

    monkeypatch.setattr("nephros.files.os.replace", recorded_rename)
    monkeypatch.setattr("nephros.files.os.fsync", recorded_flush)
    download_file([site.url()], target, MD5)
    assert events[-5:] == ["file", ".cells.npz.sha256", "folder", "cells.npz", "folder"]
