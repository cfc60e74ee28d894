"""Fetch a published file: it arrives whole, with the published MD5, or not at all.

Bytes go to ``.NAME.part`` beside the target, so that a broken download resumes, in a later process too. The published
MD5 alone decides whether they are the file: a resume over a file that has changed since, or over somebody else's
leftovers, fails that check and starts over from zero.
"""

from __future__ import annotations

import contextlib
import email.utils
import errno
import http.client
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nephros.data.medmnist import get_info
from nephros.errors import NephrosError
from nephros.files import file_digest, file_lock

DownloadProgress = Callable[[int, int | None], None]
"""Called with the bytes on disk so far and the file's length in bytes, None where the server doesn't tell."""

CHUNK_BYTES = 1 << 16
"""Bytes read at a time."""

MAX_RETRY_WAIT_S = 120.0
"""Seconds; a server that asks for more is passed over for the next address."""


def cache_dir() -> Path:
    """Return where downloads live: NEPHROS_CACHE, else XDG_CACHE_HOME/nephros, else ~/.cache/nephros."""
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
    """Return the path of a MedMNIST file, fetched into `folder` (default: the cache) unless it is there already.

    `size` is the images' edge length in pixels, `urls` replaces the published addresses; the rest as for `fetch`.
    Raises UserError for an unknown set or size, and as `fetch` does.
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
    """Download the file whose hexadecimal MD5 is `md5` to `target`, from the first of `urls` that serves it.

    Each address gets `retries` further tries, counted anew whenever more bytes have arrived: after `backoff` seconds,
    then twice that, four times ..., or after as long as the server asks. `timeout` is the longest silence, in seconds.
    A target that has the MD5 already is returned at once; one that hasn't is somebody's own file and stays as it is.

    Raises UserError when no address serves the file, when one is not http or https, when another file is at `target`
    and when the disk is full.
    """
    for url in urls:
        if urlsplit(url).scheme not in ("http", "https"):
            raise NephrosError(f"'{url}' is not an http or https address.")
    if _is_downloaded(target, md5):
        return target
    partial = target.with_name(f".{target.name}.part")
    with _translate_disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(target.with_name(f".{target.name}.lock")):
            if _is_downloaded(target, md5):  # another process fetched it while this one waited
                return target
            failures = []
            for url in urls:
                try:
                    _download_from_mirror(partial, url, md5, progress, retries, backoff, timeout)
                except _MirrorFailed as error:
                    failures.append(f"{urlsplit(url).netloc} {error}")
                else:
                    os.replace(partial, target)
                    return target
    raise NephrosError(
        f"Can't download {target.name}: {'; '.join(dict.fromkeys(failures)) or 'no address given'}. "
        f"Try again later, or put the file at {target} yourself."
    )


class _MirrorFailed(Exception):
    """This address won't serve the file; the message goes on from its host name."""


class _RetryableFailure(Exception):
    """This try failed and another may not; `retry_after_s` is how many seconds the server asks to be left alone."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


def _is_downloaded(target: Path, md5: str) -> bool:
    with _translate_disk_errors(target):
        if not target.exists():
            return False
        if file_digest(target, "md5") == md5:
            return True
    raise NephrosError(
        f"{target} exists and is not the published file (its MD5 differs): move it, or choose another folder."
    )


def _download_from_mirror(
    partial: Path, url: str, md5: str, progress: DownloadProgress | None, retries: int, backoff: float, timeout: float
) -> None:
    """Bring `partial` to the MD5, from one address and over as many connections as it takes, or raise _Refused."""
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
    """Ask for what `partial` lacks and write it; raise _Interrupted where less arrives than the server announced."""
    n_bytes = _file_size(partial)
    response = _open_url(url, n_bytes, timeout)
    if response is None:
        return
    with response:
        if response.status != 206:
            n_bytes = 0  # the server ignores ranges: this is the file from its beginning
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {n_bytes}-"):
            partial.unlink(missing_ok=True)  # asking from zero leaves the server nothing to get wrong
            raise _RetryableFailure("answers with another part of the file than was asked for")
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
    """Return the response to a request from byte `first_byte` on, or None where the server has no byte beyond it."""
    headers = {"User-Agent": "nephros"} | ({"Range": f"bytes={first_byte}-"} if first_byte else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and first_byte:
            return None
        reason = f"answers {error.code} {error.reason}"
        if error.code in (408, 429) or error.code >= 500:
            raise _RetryableFailure(reason, _retry_after_s(error.headers)) from error
        raise _MirrorFailed(reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise _RetryableFailure(f"can't be reached ({getattr(error, 'reason', error)})") from error
    return response


def _iter_chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the body; a broken connection is told apart here from a full disk, which is an OSError too."""
    while True:
        try:
            chunk = response.read(CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _RetryableFailure(f"broke off ({error})") from error
        if not chunk:
            return
        yield chunk


def _total_bytes(headers: Any, first_byte: int) -> int | None:
    """Return the whole file's length in bytes as the server announces it, where it does."""
    if match := re.search(r"/(\d+)$", headers.get("Content-Range", "")):
        return int(match[1])
    length = headers.get("Content-Length", "")
    return first_byte + int(length) if length.isdecimal() else None


def _retry_after_s(headers: Any) -> float:
    """Return the seconds that Retry-After asks for, given as a number or as a date; 0 where it is absent or garbled."""
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
            raise NephrosError(
                f"The disk is full: free some space for {target} and run again; what has arrived is kept."
            ) from error
        raise NephrosError(f"Can't use {target}: {error.strerror or error}.") from error


@contextlib.contextmanager
def show_download_progress(description: str) -> Iterator[DownloadProgress]:
    """Yield a progress callback: a bar where stderr is a terminal, else a plain line there every few seconds."""
    if not sys.stderr.isatty():
        yield _PlainProgress(description)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Bar(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = None

        def update(n_bytes: int, total: int | None) -> None:
            nonlocal task
            if task is None:  # no bar at all for a file that is there already
                task = bar.add_task(description, total=total)
            bar.update(task, completed=n_bytes, total=total)

        yield update


class _PlainProgress:
    """Progress as lines of text, `interval_s` seconds apart, and a last one when the file is whole."""

    def __init__(self, description: str, interval_s: float = 5.0) -> None:
        self.description = description
        self.interval_s = interval_s
        self.next_report = time.monotonic() + interval_s

    def __call__(self, n_bytes: int, total: int | None) -> None:
        if time.monotonic() >= self.next_report or n_bytes == total:
            self.next_report = time.monotonic() + self.interval_s
            of_total = f" of {total / 1e6:.1f}" if total is not None else ""
            print(f"{self.description}: {n_bytes / 1e6:.1f}{of_total} MB", file=sys.stderr, flush=True)
