"""The folder of a study: study.json, recipe.yaml, study.db unless stored elsewhere, checkpoints/, report.html, figures/."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nephros.errors import UserError
from nephros.files import locked, remove_leftovers, write_json
from nephros.tuning.settings import Settings

STUDIES = Path("studies")
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
            raise UserError(
                f"There is a study in {root} already: go on with it by `nephros tune --resume {root.name}`, "
                "or give another --name."
            )
        root.mkdir(parents=True, exist_ok=True)
        return folder

    @classmethod
    def open(cls, study: str | Path) -> StudyFolder:
        """Open the study of that name in studies/, or in that folder; UserError when there is none."""
        for root in (Path(study).expanduser(), STUDIES / study):
            if cls(root).manifest.is_file():
                return cls(root)
        raise UserError(
            f"There is no study '{study}', neither in {STUDIES / study} nor as a folder: name one that `nephros tune` made."
        )

    @property
    def manifest(self) -> Path:
        """The file that makes the folder a study."""
        return self.root / "study.json"

    @property
    def handle(self) -> str:
        """What a user types to name the study where they stand."""
        return shlex.quote(self.root.name if self.root == STUDIES / self.root.name else str(self.root))

    @property
    def database(self) -> Path:
        """The SQLite file of a study that is not stored elsewhere."""
        return self.root / "study.db"

    def write(self, settings: Settings, storage: str, checkpoints: str) -> None:
        """Write study.json: the settings, and where the trials and checkpoints lie ("" is this folder)."""
        write_json(self.manifest, {"storage": storage, "checkpoints": checkpoints, "settings": settings.to_dict()})

    def read(self) -> tuple[Settings, str, str]:
        """Return what `write` was given; UserError when it is damaged or of another version of nephros."""
        try:
            held: dict[str, Any] = json.loads(self.manifest.read_text(encoding="utf-8"))
            return Settings(**held["settings"]), str(held["storage"]), str(held["checkpoints"])
        except (OSError, KeyError, TypeError, json.JSONDecodeError):
            raise UserError(
                f"{self.manifest} is damaged or was made by another version of nephros: start a new study with another "
                "--name."
            ) from None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from running this study, and remove what a killed one left; UserError when one does."""
        try:
            with locked(self.root / ".lock", wait=False):
                remove_leftovers(self.root)
                yield
        except BlockingIOError:
            raise UserError(
                f"Another process is running the study in {self.root}: wait for it or stop it; "
                f"`nephros tune --show {self.handle}` shows how far it is."
            ) from None
