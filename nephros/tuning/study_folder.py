"""A study's folder: study.json, recipe.yaml, study.db and checkpoints/ unless kept elsewhere, report.html, figures/."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nephros.errors import FileError, InvalidArgument, LockedError
from nephros.files import file_lock, remove_temporary_files, write_json
from nephros.reading import MAX_JSON_BYTES, MalformedContent, decode, file_errors, parse_json, read_text
from nephros.tuning.settings import StudySettings

STUDIES_DIR = Path("studies")
"""Folder of all studies, in the working directory."""
_FORMAT = "nephros-study-2"


@dataclass(frozen=True)
class StudyManifest:
    """The contents of study.json."""

    settings: StudySettings
    storage: str
    """URL of the trials' database, without its password; "" is study.db in the folder."""
    checkpoint_dir: str
    """Folder or URL of the checkpoints; "" is checkpoints/ in the folder."""


@dataclass(frozen=True)
class StudyFolder:
    """A folder that holds one study."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> StudyFolder:
        """Make `root` for a new study; InvalidArgument when it holds a study already."""
        folder = cls(root)
        if folder.manifest_file.exists():
            hint = f"`nephros.resume_study({folder.name!r})` continues that study."
            raise InvalidArgument("name", root.name, f"a new name: there is a study in {root}", hint=hint)
        root.mkdir(parents=True, exist_ok=True)
        return folder

    @classmethod
    def open(cls, study: str | Path) -> StudyFolder:
        """Open the study of that name in studies/, or in that folder; FileError when there is none."""
        for root in (Path(study).expanduser(), STUDIES_DIR / study):
            if cls(root).manifest_file.is_file():
                return cls(root)
        message = f"There is no study '{study}': neither {STUDIES_DIR / study} nor {study} is the folder of one."
        raise FileError(study, message)

    @property
    def manifest_file(self) -> Path:
        """Path of study.json, which makes the folder a study."""
        return self.root / "study.json"

    @property
    def name(self) -> str:
        """The name by which `open` finds the study from the working directory."""
        return self.root.name if self.root == STUDIES_DIR / self.root.name else str(self.root)

    @property
    def database(self) -> Path:
        """Path of the SQLite file of a study that isn't stored elsewhere."""
        return self.root / "study.db"

    def write(self, manifest: StudyManifest) -> None:
        """Write study.json."""
        values = {"format": _FORMAT, "storage": manifest.storage, "checkpoint_dir": manifest.checkpoint_dir}
        write_json(self.manifest_file, {**values, "settings": manifest.settings.to_dict()})

    def read(self) -> StudyManifest:
        """Return the contents of study.json; FileError when it is damaged or of another version of nephros."""
        with file_errors(self.manifest_file, "start a new study under another `name`"):
            values = parse_json(read_text(self.manifest_file, MAX_JSON_BYTES))
            if not isinstance(values, dict) or values.pop("format", None) != _FORMAT:
                raise MalformedContent(f"its format is not {_FORMAT}, which this version reads")
            manifest = decode(StudyManifest, values)
            manifest.settings.check()
            return manifest

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Within the block, no other process runs this study; LockedError when one does. Cleans up after killed processes."""
        try:
            with file_lock(self.root / ".lock", wait=False):
                remove_temporary_files(self.root)
                yield
        except BlockingIOError:
            raise LockedError(
                f"Another process is running the study in {self.root}: wait for it or stop it; "
                f"`nephros.show_study({self.name!r})` shows its progress."
            ) from None
