"""What the source of the front end and the package must agree on."""

from __future__ import annotations

import re
from pathlib import Path

from nephros.tissue.class_colors import CLASS_COLORS

FRONTEND = Path(__file__).parents[2] / "frontend"


def test_the_page_has_the_packages_class_colors() -> None:
    text = (FRONTEND / "src/shared/palette.ts").read_text(encoding="utf-8")
    assert tuple(re.findall(r'"(#[0-9a-f]{6})"', text)) == tuple(CLASS_COLORS)


def test_the_lock_file_names_no_registry() -> None:
    text = (FRONTEND / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in text
