"""Downloads of published files, which arrive complete and with the published MD5 or not at all.

Bytes go to ``.NAME.part`` beside the target, so that a broken download resumes, also in a later process. Only the published
MD5 decides whether they are the file: a resumed download of a file that has changed since, or of somebody else's partial file,
fails that check and starts over. The SHA-256 of a file that passed it is kept in ``.NAME.sha256``, and each opening of the file
compares the two: MD5 alone does not hold against a file that was made to have it.
"""

from __future__ import annotations

import contextlib
import email.utils
import errno
import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nephros.console import shows_bars
from nephros.data.medmnist import get_info
from nephros.errors import FileError, InvalidArgument, NephrosError
from nephros.files import checked_sha256, file_digest, file_lock, record_sha256, replace_file

logger = logging.getLogger(__name__)

DownloadProgress = Callable[[int, int | None], None]
"""Called with the bytes on disk so far and the file's length in bytes, None where the server doesn't tell it."""

CHUNK_BYTES = 1 << 16
"""Bytes read at a time."""

MAX_RETRY_WAIT_S = 120.0
"""Seconds; where a server asks for a longer wait, the next address is tried."""

_REPORT_INTERVAL_S = 5.0


def cache_dir() -> Path:
    """Return the folder for downloads: NEPHROS_CACHE, else XDG_CACHE_HOME/nephros, else ~/.cache/nephros."""
    if override := os.environ.get("NEPHROS_CACHE"):
        return Path(override).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nephros"


def download(
    key: str,
    size: int = 28,
    folder: Path | str | None = None,
    urls: Sequence[str] | None = None,
    *,
    progress: DownloadProgress | None = None,
    retries: int = 5,
    backoff: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Download a MedMNIST data set, unless it is there already, and return its path.

    Args:
        key: name of the data set, such as ``tissuemnist``.
        size: pixels per side, one of 28, 64, 128 and 224.
        folder: where the file goes; None takes the cache folder.
        urls: addresses to try in order, in place of the published ones.
        progress: see `download_file`, as for the arguments below.
        retries: further tries per address.
        backoff: seconds before the first of them.
        timeout: longest silence of the server, in seconds.

    Raises:
        UnknownName: MedMNIST has no such data set.
        InvalidArgument: the data set is not published at this size, or an address is not http or https.
        NephrosError: no address serves the file.
        FileError: another file is in the target's place, or the disk is full or can't be written.
    """
    info = get_info(key)
    target = (Path(folder) if folder is not None else cache_dir()) / info.filename(size)
    mirrors = info.urls(size) if urls is None else urls
    return download_file(
        mirrors, target, info.md5[size], progress=progress, retries=retries, backoff=backoff, timeout=timeout
    )


def download_file(
    urls: Sequence[str],
    target: Path,
    md5: str,
    *,
    progress: DownloadProgress | None = None,
    retries: int = 5,
    backoff: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Download a file with a known MD5 from the first address that serves it, and return its path.

    Args:
        urls: http or https addresses, in the order to try.
        target: where the file goes. A target that has the MD5 already is returned at once; one that has not is a file of the
            user's, which stays as it is.
        md5: MD5 of the file, in hexadecimal.
        progress: called whenever bytes have arrived.
        retries: further tries per address, counted again whenever more bytes have arrived.
        backoff: seconds before the first of them, doubled for each that follows, unless the server asks for another wait.
        timeout: longest silence of the server, in seconds.

    Raises:
        InvalidArgument: an address is not http or https.
        NephrosError: no address serves the file.
        FileError: another file is in the target's place, or the disk is full or can't be written.
    """
    for url in urls:
        if urlsplit(url).scheme not in ("http", "https"):
            raise InvalidArgument("urls", url, "an http or https address")
    if _is_downloaded(target, md5):
        return target
    partial = target.with_name(f".{target.name}.part")
    with _translate_disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(target.with_name(f".{target.name}.lock")):
            if _is_downloaded(target, md5):  # another process downloaded it while this one waited
                return target
            failures = []
            for url in urls:
                try:
                    _download_from_mirror(partial, url, md5, progress, retries, backoff, timeout)
                except _MirrorFailed as error:
                    failures.append(f"{urlsplit(url).netloc} {error}")
                else:
                    record_sha256(target, file_digest(partial))
                    replace_file(partial, target)
                    return target
    raise NephrosError(
        f"Can't download {target.name}: {'; '.join(dict.fromkeys(failures)) or 'there is no address'}. "
        f"Try again later, or put the file at {target} yourself."
    )


class _MirrorFailed(Exception):
    """An address does not serve the file. The message continues a sentence that begins with the host name."""


class _RetryableFailure(Exception):
    """A try failed and another may succeed, after `retry_after_s` seconds where the server asks for a wait."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


def _is_downloaded(target: Path, md5: str) -> bool:
    with _translate_disk_errors(target):
        if not target.exists():
            return False
        if file_digest(target, "md5") == md5:
            checked_sha256(target)
            return True
    raise FileError(
        target, f"{target} exists and is not the published file (its MD5 differs); move it, or choose another folder."
    )


def _download_from_mirror(
    partial: Path, url: str, md5: str, progress: DownloadProgress | None, retries: int, backoff: float, timeout: float
) -> None:
    """Complete `partial` from one address, over as many connections as it takes, or raise _MirrorFailed."""
    max_size = _file_size(partial)
    had_partial = max_size > 0
    n_failures = 0
    while True:
        try:
            _transfer(partial, url, progress, timeout)
        except _RetryableFailure as error:
            if _file_size(partial) > max_size:
                max_size, n_failures = _file_size(partial), 0
            if n_failures >= retries or error.retry_after_s > MAX_RETRY_WAIT_S:
                raise _MirrorFailed(str(error)) from error
            time.sleep(max(error.retry_after_s, min(backoff * 2**n_failures, MAX_RETRY_WAIT_S)))
            n_failures += 1
            continue
        if file_digest(partial, "md5") == md5:
            return
        partial.unlink()
        if not had_partial:
            raise _MirrorFailed("serves a file that is not the published one (its MD5 differs)")
        max_size, n_failures, had_partial = 0, 0, False


def _transfer(partial: Path, url: str, progress: DownloadProgress | None, timeout: float) -> None:
    """Download what `partial` lacks; raise _RetryableFailure where less arrives than the server announced."""
    n_bytes = _file_size(partial)
    response = _open_url(url, n_bytes, timeout)
    if response is None:
        return
    with response:
        if response.status != 206:
            n_bytes = 0  # the server ignores ranges and sends the file from its beginning
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {n_bytes}-"):
            partial.unlink(missing_ok=True)  # asking from zero leaves the server nothing to get wrong
            raise _RetryableFailure("sends another part of the file than was requested")
        total = _total_bytes(response.headers, n_bytes)
        with open(partial, "ab" if n_bytes else "wb") as file:
            for chunk in _iter_chunks(response):
                file.write(chunk)
                n_bytes += len(chunk)
                if progress is not None:
                    progress(n_bytes, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and n_bytes != total:
        raise _RetryableFailure(f"broke off after {n_bytes:,} of {total:,} bytes")


def _open_url(url: str, first_byte: int, timeout: float) -> Any:
    """Return the response to a request for the bytes from `first_byte`, or None where the file ends there."""
    headers = {"User-Agent": "nephros"} | ({"Range": f"bytes={first_byte}-"} if first_byte else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and first_byte:
            return None
        reason = f"responds with {error.code} {error.reason}"
        if error.code in (408, 429) or error.code >= 500:
            raise _RetryableFailure(reason, _retry_after_s(error.headers)) from error
        raise _MirrorFailed(reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise _RetryableFailure(f"can't be reached ({getattr(error, 'reason', error)})") from error
    return response


def _iter_chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the body in chunks. A broken connection and a full disk both raise OSError; this turns the former into a retry."""
    while True:
        try:
            chunk = response.read(CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _RetryableFailure(f"broke off ({error})") from error
        if not chunk:
            return
        yield chunk


def _total_bytes(headers: Any, first_byte: int) -> int | None:
    """Return the length of the whole file in bytes, or None where the server doesn't announce it."""
    if match := re.search(r"/(\d+)$", headers.get("Content-Range", "")):
        return int(match[1])
    length = headers.get("Content-Length", "")
    return first_byte + int(length) if length.isdecimal() else None


def _retry_after_s(headers: Any) -> float:
    """Return the wait that Retry-After asks for, as a number of seconds or a date; 0 where it is absent or malformed."""
    value = headers.get("Retry-After", "0").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _file_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextlib.contextmanager
def _translate_disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FileError(
                target, f"The disk is full: free some space for {target} and run again; what has arrived is kept."
            ) from error
        raise FileError(target, f"Can't use {target}: {error.strerror or error}.") from error


@contextlib.contextmanager
def show_download_progress(description: str) -> Iterator[DownloadProgress]:
    """Yield a progress callback: a bar where stderr is a terminal, else a log message every few seconds."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not shows_bars(console):
        yield _LoggedProgress(description)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = None

        def update(n_bytes: int, total: int | None) -> None:
            nonlocal task
            if task is None:  # no bar at all for a file that is there already
                task = bar.add_task(description, total=total)
            bar.update(task, completed=n_bytes, total=total)

        yield update


class _LoggedProgress:
    """Progress as log messages, some seconds apart, and a last one when the file is complete."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.next_report = time.monotonic() + _REPORT_INTERVAL_S

    def __call__(self, n_bytes: int, total: int | None) -> None:
        if time.monotonic() >= self.next_report or n_bytes == total:
            self.next_report = time.monotonic() + _REPORT_INTERVAL_S
            total_text = f" of {total / 1e6:.1f}" if total is not None else ""
            logger.info("%s: %.1f%s MB", self.description, n_bytes / 1e6, total_text)
