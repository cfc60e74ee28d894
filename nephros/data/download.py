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

from nephros.data.medmnist import find
from nephros.errors import UserError
from nephros.files import digest, locked

Progress = Callable[[int, int | None], None]
"""Called with the bytes on disk so far and the file's length in bytes, None where the server doesn't tell."""

CHUNK = 1 << 16
"""Bytes read at a time."""

LONGEST_WAIT = 120.0
"""Seconds; a server that asks for more is passed over for the next address."""


def cache_folder() -> Path:
    """Return where downloads live: NEPHROS_CACHE, else XDG_CACHE_HOME/nephros, else ~/.cache/nephros."""
    if own := os.environ.get("NEPHROS_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nephros"


def download(
    key: str,
    size: int = 28,
    folder: Path | str | None = None,
    urls: Sequence[str] | None = None,
    *,
    progress: Progress | None = None,
    retries: int = 5,
    backoff: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Return the path of a MedMNIST file, fetched into `folder` (default: the cache) unless it is there already.

    `size` is the images' edge length in pixels, `urls` replaces the published addresses; the rest as for `fetch`.
    Raises UserError for an unknown set or size, and as `fetch` does.
    """
    entry = find(key)
    target = (Path(folder) if folder is not None else cache_folder()) / entry.filename(size)
    addresses = entry.urls(size) if urls is None else urls
    return fetch(
        addresses, target, entry.md5[size], progress=progress, retries=retries, backoff=backoff, timeout=timeout
    )


def fetch(
    urls: Sequence[str],
    target: Path,
    md5: str,
    *,
    progress: Progress | None = None,
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
            raise UserError(f"'{url}' is not an http or https address.")
    if _is_there(target, md5):
        return target
    part = target.with_name(f".{target.name}.part")
    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.with_name(f".{target.name}.lock")):
            if _is_there(target, md5):  # another process fetched it while this one waited
                return target
            reasons = []
            for url in urls:
                try:
                    _fill(part, url, md5, progress, retries, backoff, timeout)
                except _Refused as refusal:
                    reasons.append(f"{urlsplit(url).netloc} {refusal}")
                else:
                    os.replace(part, target)
                    return target
    raise UserError(
        f"Can't download {target.name}: {'; '.join(dict.fromkeys(reasons)) or 'no address given'}. "
        f"Try again later, or put the file at {target} yourself."
    )


class _Refused(Exception):
    """This address won't serve the file; the message goes on from its host name."""


class _Interrupted(Exception):
    """This try failed and another may not; `wait` is how many seconds the server asks to be left alone."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def _is_there(target: Path, md5: str) -> bool:
    with _disk_errors(target):
        if not target.exists():
            return False
        if digest(target, "md5") == md5:
            return True
    raise UserError(
        f"{target} exists and is not the published file (its MD5 differs): move it, or choose another folder."
    )


def _fill(
    part: Path, url: str, md5: str, progress: Progress | None, retries: int, backoff: float, timeout: float
) -> None:
    """Bring `part` to the MD5, from one address and over as many connections as it takes, or raise _Refused."""
    furthest = _length(part)
    leftovers = furthest > 0
    failures = 0
    while True:
        try:
            _transfer(part, url, progress, timeout)
        except _Interrupted as trouble:
            if _length(part) > furthest:
                furthest, failures = _length(part), 0
            if failures >= retries or trouble.wait > LONGEST_WAIT:
                raise _Refused(str(trouble)) from trouble
            time.sleep(max(trouble.wait, min(backoff * 2**failures, LONGEST_WAIT)))
            failures += 1
            continue
        if digest(part, "md5") == md5:
            return
        part.unlink()
        if not leftovers:
            raise _Refused("serves a file that is not the published one (its MD5 differs)")
        furthest, failures, leftovers = 0, 0, False


def _transfer(part: Path, url: str, progress: Progress | None, timeout: float) -> None:
    """Ask for what `part` lacks and write it; raise _Interrupted where less arrives than the server announced."""
    have = _length(part)
    response = _open(url, have, timeout)
    if response is None:
        return
    with response:
        if response.status != 206:
            have = 0  # the server ignores ranges: this is the file from its beginning
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)  # asking from zero leaves the server nothing to get wrong
            raise _Interrupted("answers with another part of the file than was asked for")
        total = _total(response.headers, have)
        with open(part, "ab" if have else "wb") as file:
            for chunk in _chunks(response):
                file.write(chunk)
                have += len(chunk)
                if progress is not None:
                    progress(have, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and have != total:
        raise _Interrupted(f"broke off after {have:,} of {total:,} bytes")


def _open(url: str, have: int, timeout: float) -> Any:
    """Return the response to a request from byte `have` on, or None where the server has no byte beyond it."""
    headers = {"User-Agent": "nephros"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:
            return None
        reason = f"answers {error.code} {error.reason}"
        if error.code in (408, 429) or error.code >= 500:
            raise _Interrupted(reason, _retry_after(error.headers)) from error
        raise _Refused(reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"can't be reached ({getattr(error, 'reason', error)})") from error
    return response


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the body; a broken connection is told apart here from a full disk, which is an OSError too."""
    while True:
        try:
            chunk = response.read(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _Interrupted(f"broke off ({error})") from error
        if not chunk:
            return
        yield chunk


def _total(headers: Any, have: int) -> int | None:
    """Return the whole file's length in bytes as the server announces it, where it does."""
    if match := re.search(r"/(\d+)$", headers.get("Content-Range", "")):
        return int(match[1])
    length = headers.get("Content-Length", "")
    return have + int(length) if length.isdecimal() else None


def _retry_after(headers: Any) -> float:
    """Return the seconds that Retry-After asks for, given as a number or as a date; 0 where it is absent or garbled."""
    value = headers.get("Retry-After", "0").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


@contextlib.contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"The disk is full: free some space for {target} and run again; what has arrived is kept."
            ) from error
        raise UserError(f"Can't use {target}: {error.strerror or error}.") from error


@contextlib.contextmanager
def rich_progress(description: str) -> Iterator[Progress]:
    """Yield a progress callback: a bar where stderr is a terminal, else a plain line there every few seconds."""
    if not sys.stderr.isatty():
        yield _PlainLines(description)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Bar(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = None

        def show(done: int, total: int | None) -> None:
            nonlocal task
            if task is None:  # no bar at all for a file that is there already
                task = bar.add_task(description, total=total)
            bar.update(task, completed=done, total=total)

        yield show


class _PlainLines:
    """Progress as lines of text, `interval` seconds apart, and a last one when the file is whole."""

    def __init__(self, description: str, interval: float = 5.0) -> None:
        self.description = description
        self.interval = interval
        self.due = time.monotonic() + interval

    def __call__(self, done: int, total: int | None) -> None:
        if time.monotonic() >= self.due or done == total:
            self.due = time.monotonic() + self.interval
            of = f" of {total / 1e6:.1f}" if total is not None else ""
            print(f"{self.description}: {done / 1e6:.1f}{of} MB", file=sys.stderr, flush=True)
