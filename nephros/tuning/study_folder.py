"""The folder of a study: study.json, recipe.yaml, study.db unless stored elsewhere, checkpoints/, report.html, figures/."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nephros.errors import NephrosError
from nephros.files import file_lock, remove_temporary_files, write_json
from nephros.tuning.settings import StudySettings

STUDIES_DIR = Path("studies")
"""Where studies are made, in the folder that the user stands in."""


@dataclass(frozen=True)
class StudyFolder:
    """A folder that holds one study."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> StudyFolder:
        """Take `root` for a new study; UserError when there is one already."""
        folder = cls(root)
        if folder.manifest.exists():
            raise NephrosError(
                f"There is a study in {root} already: go on with it by `nephros tune --resume {root.name}`, "
                "or give another --name."
            )
        root.mkdir(parents=True, exist_ok=True)
        return folder

    @classmethod
    def open(cls, study: str | Path) -> StudyFolder:
        """Open the study of that name in studies/, or in that folder; UserError when there is none."""
        for root in (Path(study).expanduser(), STUDIES_DIR / study):
            if cls(root).manifest.is_file():
                return cls(root)
        raise NephrosError(
            f"There is no study '{study}', neither in {STUDIES_DIR / study} nor as a folder: name one that `nephros tune` made."
        )

    @property
    def manifest(self) -> Path:
        """The file that makes the folder a study."""
        return self.root / "study.json"

    @property
    def cli_name(self) -> str:
        """What a user types to name the study where they stand."""
        return shlex.quote(self.root.name if self.root == STUDIES_DIR / self.root.name else str(self.root))

    @property
    def database(self) -> Path:
        """The SQLite file of a study that is not stored elsewhere."""
        return self.root / "study.db"

    def write(self, settings: StudySettings, storage: str, checkpoints: str) -> None:
        """Write study.json: the settings, and where the trials and checkpoints lie ("" is this folder)."""
        write_json(self.manifest, {"storage": storage, "checkpoints": checkpoints, "settings": settings.to_dict()})

    def read(self) -> tuple[StudySettings, str, str]:
        """Return what `write` was given; UserError when it is damaged or of another version of nephros."""
        try:
            data: dict[str, Any] = json.loads(self.manifest.read_text(encoding="utf-8"))
            return StudySettings(**data["settings"]), str(data["storage"]), str(data["checkpoints"])
        except (OSError, KeyError, TypeError, json.JSONDecodeError):
            raise NephrosError(
                f"{self.manifest} is damaged or was made by another version of nephros: start a new study with another "
                "--name."
            ) from None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from running this study, and remove what a killed one left; UserError when one does."""
        try:
            with file_lock(self.root / ".lock", wait=False):
                remove_temporary_files(self.root)
                yield
        except BlockingIOError:
            raise NephrosError(
                f"Another process is running the study in {self.root}: wait for it or stop it; "
                f"`nephros tune --show {self.cli_name}` shows how far it is."
            ) from None
