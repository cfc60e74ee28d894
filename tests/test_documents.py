"""The documents, the citation and the workflow match the repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nephros.environment import __version__

ROOT = Path(__file__).parents[1]


def test_tables_match_their_files() -> None:
    args = [sys.executable, "-m", "results.fill", "--check"]
    completed = subprocess.run(args, capture_output=True, text=True, check=False, cwd=ROOT)
    assert completed.returncode == 0, completed.stderr


def test_a_table_shows_the_columns_of_its_mark() -> None:
    script = "import sys; from results.fill import fill_tables\n"
    script += "mark = '<!-- table results/study-poster-27.csv: {} -->\\nold\\n<!-- end -->'\n"
    script += "print(fill_tables(mark.format(sys.argv[1])))"
    with open(ROOT / "results" / "study-poster-27.csv", encoding="utf-8") as file:
        first, second = file.readline().strip().split(",")[:2]
    args = [sys.executable, "-c", script, f"{second}, {first}"]
    lines = subprocess.run(args, capture_output=True, text=True, check=True, cwd=ROOT).stdout.splitlines()
    assert lines[1] == f"| {second.replace('_', ' ')} | {first.replace('_', ' ')} |"
    assert len(lines) > 40
    assert "old" not in lines


def test_the_citation_has_the_packages_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__


@pytest.mark.parametrize("target", ["check", "test-all"])
def test_the_workflow_runs_the_makefiles_targets(target: str) -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yaml").read_text())
    commands = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert any(f"make {target}" in command for command in commands)
    assert f"\n{target}:" in (ROOT / "Makefile").read_text()
