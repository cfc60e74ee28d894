"""The documents, the citation and the workflow match the repository, and the commands of documents do what they show."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import yaml

import nephros
from nephros import cli
from nephros.commands.registry import all_commands
from nephros.environment import __version__
from nephros.inference.model_names import bundled_card
from results import fill
from tests.documents import PAGES, ROOT, commands_of, missing_line, prepare_folder, read_blocks, run_block

DOCUMENTS = (*PAGES, *(ROOT / name for name in ("CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md")))
RUN_PAGES = [page for page in PAGES if any(b.runs and b.language in ("bash", "python") for b in read_blocks(page))]
COMMAND_NAMES = all_commands()
COMMON_OPTIONS = {"--quiet", "--verbose", "--debug", "--help", "--version"}
OTHER_PROGRAMS = {
    "--nproc-per-node",
    "--max-restarts",
    "--check",
    "--lightning-python",
    "--ray-python",
    "--read-test",
    "--recipes",
    "--seeds",
}


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def options_of(command: str) -> set[str]:
    """Return the options that the help of a command lists, with - for _."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as stop:
        cli.main([*command.split(), "--help"])
    assert stop.value.code == 0
    return {_dashes(option) for option in re.findall(r"--[\w.-]*\w", output.getvalue())} | COMMON_OPTIONS


def _dashes(option: str) -> str:
    return option.replace("_", "-")


def test_tables_match_their_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert fill.main(["--check"]) == 0, capsys.readouterr().err


def test_a_table_shows_the_columns_and_rows_of_its_mark() -> None:
    with open(ROOT / "results" / "study-poster-27.csv", encoding="utf-8") as file:
        first, second = file.readline().strip().split(",")[:2]
    for limit, n_rows in (("", 40), (" (3 rows)", 3)):
        mark = f"<!-- table results/study-poster-27.csv{limit}: {second}, {first} -->"
        lines = fill.fill_tables(f"{mark}\nold\n<!-- end -->").splitlines()
        assert lines[1] == f"| {second.replace('_', ' ')} | {first.replace('_', ' ')} |"
        assert len(lines) == 4 + n_rows or (not limit and len(lines) > 4 + n_rows)
        assert "old" not in lines


def test_a_value_comes_from_the_card_of_its_mark() -> None:
    mark = "in <!-- value nephros-fast: conformal.test.coverage_per_class.1 .1% -->{}<!-- end --> of cells"
    coverage = bundled_card("nephros-fast")["conformal"]["test"]
    assert coverage is not None
    assert fill.fill_tables(mark.format("old")) == mark.format(f"{coverage['coverage_per_class'][1]:.1%}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=page_name)
def test_no_line_begins_with_the_mark_of_a_value(document: Path) -> None:
    """There a comment would end the paragraph."""
    assert not re.search(r"^\s*<!-- value", document.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_citation_and_the_changelog_have_the_packages_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert re.search(rf"^## {re.escape(__version__)} ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("target", ["check", "docs", "test-all"])
def test_the_workflow_runs_the_makefiles_targets(target: str) -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yaml").read_text())
    commands = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert any(f"make {target}" in command for command in commands)
    assert f"make {target}" in (ROOT / ".ci" / "run").read_text()
    assert f"\n{target}:" in (ROOT / "Makefile").read_text()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("document", DOCUMENTS, ids=page_name)
def test_links_lead_to_files(document: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", document.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text):
        assert (document.parent / target).exists(), f"{page_name(document)} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=page_name)
def test_no_document_names_a_path_of_a_machine(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert not re.findall(r"(?<![\w.:/-])/(?:work|home|root|tmp|opt|Users)/\S+", text)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_commands_have_the_options_that_a_page_shows(page: Path) -> None:
    for line in commands_of(page):
        words = shlex.split(line.replace("\\|", "|"))[1:]
        if words[0].startswith("-") or words[0].isupper():
            continue
        command = " ".join(words[:2]) if words[0] == "data" and len(words) > 1 else words[0]
        unknown = {_dashes(word.split("=")[0]) for word in words if word.startswith("--")} - options_of(command)
        assert not unknown, f"{page_name(page)}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_options_named_on_a_page_exist(page: Path) -> None:
    known = set().union(*map(options_of, COMMAND_NAMES)) | OTHER_PROGRAMS
    for text in re.findall(r"`(--[^`\n]+)`", page.read_text(encoding="utf-8")):
        options = {_dashes(word.split("=")[0]) for word in text.split() if word.startswith("--")}
        assert options <= known, f"{page_name(page)}: {text}"


def test_the_reference_has_every_command() -> None:
    reference = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert re.findall(r"^```{command-help} (.*)$", reference, re.MULTILINE) == COMMAND_NAMES


def test_the_reference_has_every_public_name() -> None:
    reference = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\.\. auto\w+:: (?:nephros\.)?(\w+)", reference, re.MULTILINE))
    errors = {name for name in nephros.__all__ if name.endswith("Error")}
    errors |= {"InvalidArgument", "UnknownName", "MissingDependency"}  # documented with their module
    assert set(nephros.__all__) - errors - documented == {"RECIPES", "__version__"}


@pytest.mark.parametrize(
    ("expected", "output", "missing"),
    [
        ("accuracy 0.71", "first\naccuracy 0.4\nlast", None),
        ("a\n...\nc", "a\nb\nc", None),
        ("note: 245 nuclei ...", "note: 247 nuclei of many", None),
        ("c\na", "a\nb\nc", "a"),
        ("accuracy 0.71", "loss 0.71", "accuracy 0.71"),
    ],
)
def test_output_is_compared_line_by_line(expected: str, output: str, missing: str | None) -> None:
    assert missing_line(expected, output) == missing


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_PAGES, ids=page_name)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    environment = prepare_folder(tmp_path)
    output = None
    for block in read_blocks(page):
        if block.language == "text" and output is not None:
            line = missing_line(block.text, output)
            assert line is None, f"{page_name(page)} shows a line that is not printed:\n{line}\n{output}"
        elif block.language == "yaml":
            (tmp_path / "space.yaml").write_text(block.text)
        elif block.language in ("bash", "python"):
            output = run_block(block, tmp_path, environment) if block.runs else None
