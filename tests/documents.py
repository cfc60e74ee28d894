"""The commands and the code that documents show: how blocks are read out of Markdown, and how a page's blocks are run.

A comment before a block changes how it is run: ``<!-- not run: reason -->`` leaves it out, and ``<!-- run with: OPTIONS -->``
adds options to its commands that train. A ``text`` block after one that runs shows lines of its output, where numbers may differ
and ``...`` stands for anything.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nephros.data.synthetic import make_synthetic
from tests.conftest import write_npz

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
BLOCK = re.compile(r"(?:<!-- (?P<comment>[^>]*?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)\n```", re.DOTALL)
COMMAND = re.compile(r"^nephros [^#\n]*", re.MULTILINE)
TRAINS = ("train", "tune", "finetune", "reproduce")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e-?\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    options: str = ""
    """Added to the commands that train."""
    runs: bool = True


def read_blocks(page: Path) -> list[Block]:
    """Return the page's fenced blocks of bash, python, yaml and text, in their order; adjacent ones of Python are one."""
    blocks: list[Block] = []
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        key, _, value = (match["comment"] or "").partition(": ")
        block = Block(match["language"], match["text"], value if key == "run with" else "", key != "not run")
        if blocks and block.runs and block.language == blocks[-1].language == "python":
            blocks[-1] = Block("python", f"{blocks[-1].text}\n{block.text}")
        else:
            blocks.append(block)
    return blocks


def commands_of(page: Path) -> list[str]:
    """Return each nephros command that the page shows, in a block or in backticks."""
    text = page.read_text(encoding="utf-8")
    in_blocks = [command.strip() for block in read_blocks(page) for command in COMMAND.findall(block.text)]
    return in_blocks + re.findall(r"`(nephros [^`\n]+)`", text)


def prepare_folder(folder: Path) -> dict[str, str]:
    """Fill `folder` with what pages expect of a reader's: examples/, my-cells/ and TissueMNIST; return the environment.

    All images are synthetic; nephros and python are this checkout's and this process's.
    """
    (folder / "examples").symlink_to(ROOT / "examples")
    cells = make_synthetic(400, 80, 80)
    (folder / "data").mkdir()
    write_npz(folder / "data" / "tissuemnist.npz", cells)
    for label in range(3):
        class_folder = folder / "my-cells" / f"class {label}"
        class_folder.mkdir(parents=True)
        for number, image in enumerate(cells.train.images[cells.train.labels == label][:14]):
            Image.fromarray(np.asarray(image)).save(class_folder / f"{number}.png")
    commands = folder / "bin"
    commands.mkdir()
    for name, arguments in (("nephros", "-m nephros "), ("python", "")):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        (commands / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "NEPHROS_DATA": str(folder / "data"),
        "NEPHROS_CACHE": str(folder / "cache"),
        "COLUMNS": "120",
        "OMP_NUM_THREADS": "1",
    }


def run_block(block: Block, folder: Path, environment: dict[str, str]) -> str:
    """Run a block of bash or Python and return what it prints; raise if it fails."""
    if block.language == "python":
        arguments = [sys.executable, "-W", "error", "-c", block.text]
    else:
        added = re.compile(rf"^(nephros (?:{'|'.join(TRAINS)}) [^#\n]*)", re.MULTILINE)
        script = added.sub(lambda match: f"{match[1].rstrip()} {block.options} ", block.text)
        arguments = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(
        arguments, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise AssertionError(f"status {done.returncode} of:\n{arguments[-1]}\n{done.stdout}")
    return done.stdout


def missing_line(expected: str, output: str) -> str | None:
    """Return the first line of `expected` that does not follow the earlier ones in `output`, or None."""
    lines = [NUMBER.sub("#", line).strip() for line in output.splitlines()]
    for line in expected.splitlines():
        pattern = re.compile(".*".join(re.escape(NUMBER.sub("#", part).strip()) for part in line.split("...")))
        matches = [number for number, text in enumerate(lines) if pattern.fullmatch(text)]
        if not matches and line.strip() != "...":
            return line
        lines = lines[matches[0] + 1 :] if matches and line.strip() != "..." else lines
    return None
