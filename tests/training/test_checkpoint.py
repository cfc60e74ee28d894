"""Checkpoint files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nephros.data.split import Split
from nephros.errors import FileError
from nephros.training import checkpoint


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_code_is_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"rubbish")
    with pytest.raises(FileError) as exc_info:
        checkpoint.load(path)
    assert exc_info.value.path == str(path)
    torch.save({"code": Split}, path)
    with pytest.raises(FileError):
        checkpoint.load(path)
