"""A stack and its mask that a client sends, in a temporary folder until they are read."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from starlette.requests import Request

from nephros.server.disk_uploads import DiskPart, write_upload
from nephros.server.limits import MemoryBudget, RequestLimits, RequestRejected

STACK_FIELD, MASK_FIELD = "stack", "mask"


class StackUpload:
    """Files in a folder of their own, which whoever reads them removes."""

    def __init__(self, folder: Path, stack: DiskPart, mask: DiskPart | None, scope: ExitStack) -> None:
        """Take the files, and the scope that removes their folder."""
        self.folder, self.stack, self.mask, self._scope = folder, stack, mask, scope
        self.has_reader = False
        """Whether a thread reads the files, or will, and removes them then."""

    def remove(self) -> None:
        """Remove the folder, if it is still there."""
        self._scope.close()

    def remove_if_unread(self) -> None:
        """Remove the folder where nothing reads it."""
        if not self.has_reader:
            self.remove()


async def read_stack_upload(request: Request, limits: RequestLimits, budget: MemoryBudget) -> StackUpload:
    """Write the stack and the mask of a request to a temporary folder.

    Args:
        request: whose body is read.
        limits: of the request.
        budget: room on disk for the stacks of all requests together, which is free again once the folder is removed.

    Raises:
        RequestRejected: the body has no or several stacks or masks, exceeds a limit, or there is no room for it.
    """
    with ExitStack() as scope:
        lease = scope.enter_context(budget.lease())
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="nephros-stack-"))
        scope.callback(shutil.rmtree, folder, ignore_errors=True)
        fields = (STACK_FIELD, MASK_FIELD)
        parts = await write_upload(request, folder, limits, fields, asyncio.to_thread, lease.reserve)
        stacks, masks = ([part for part in parts if part.field == field] for field in fields)
        if len(stacks) > 1 or len(masks) > 1:
            raise RequestRejected(400, "A request takes one stack, and one mask at most: send one file in each field.")
        return StackUpload(folder, stacks[0], masks[0] if masks else None, scope.pop_all())
