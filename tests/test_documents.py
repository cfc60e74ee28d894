"""The documents, the citation and the workflow match the repository."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from nephros.environment import __version__
from results import fill

ROOT = Path(__file__).parents[1]


def test_tables_match_their_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert fill.main(["--check"]) == 0, capsys.readouterr().err


def test_a_table_shows_the_columns_of_its_mark() -> None:
    with open(ROOT / "results" / "study-poster-27.csv", encoding="utf-8") as file:
        first, second = file.readline().strip().split(",")[:2]
    mark = f"<!-- table results/study-poster-27.csv: {second}, {first} -->"
    lines = fill.fill_tables(f"{mark}\nold\n<!-- end -->").splitlines()
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
