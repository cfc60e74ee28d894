"""Files that a client sends to a project, written to a folder of their own as they arrive."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from starlette.requests import Request

from nephros.errors import NephrosError
from nephros.server.disk_uploads import DiskPart, without_folder, write_upload
from nephros.server.limits import RequestLimits
from nephros.server.multipart import FIELD_NAME
from nephros.server.project.session import ProjectSession

MASK_FIELD = "mask"
UPLOAD_LIMITS = RequestLimits(
    max_upload_bytes=32 << 30, max_files=200_000, max_parts=200_100, timeout_s=6 * 3600.0, idle_timeout_s=30.0
)
"""A stack has gigabytes; what a project takes, its disk limits as well."""


async def read_upload(request: Request, session: ProjectSession, folder: Path, limits: RequestLimits) -> list[DiskPart]:
    """Write the files of a request to a folder, and return them.

    Raises:
        RequestRejected: as `nephros.server.disk_uploads.write_upload`.
    """
    return await write_upload(request, folder, limits, (FIELD_NAME, MASK_FIELD), session.work)


@contextlib.contextmanager
def hide_folder(folder: Path) -> Iterator[None]:
    """Within the block, errors name files of an upload as the client did, without the server's folder."""
    try:
        yield
    except NephrosError as error:
        text = str(error)
        if (shorter := without_folder(text, folder)) == text:
            raise
        raise NephrosError(shorter) from error
