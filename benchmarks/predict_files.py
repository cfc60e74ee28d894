"""A folder of PNG files from end to end: what bounds `nephros predict`, with the model in the box and with a tiny one."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import nephros
from benchmarks.common import Row, Settings
from benchmarks.timing import ratio, summary
from nephros.exporters.export import export
from nephros.inference.predictor import Engine
from nephros.inference.reader import Inputs
from nephros.presets import RECIPES

TINY = "course-1"
"""Recipe of the second model: a network so small that all else is what a folder costs."""


def folder_of_files(settings: Settings, cells: NDArray[np.uint8], scratch: Path, files: int) -> list[Row]:
    """Return a row a model: how fast a folder of so many PNG files is decoded, answered, and taken by the whole command.

    Decoding and the network are timed one after the other on the folder's first tenth, the command once on all of it.
    """
    whole, tenth = scratch / "whole", scratch / "tenth"
    for folder, count in ((whole, files), (tenth, files // 10)):
        folder.mkdir()
        for index in range(count):
            Image.fromarray(cells[index % len(cells)]).save(folder / f"{index:06}.png", compress_level=1)
    models = {"the model in the box": None, f"{TINY}, exported": tiny_model(scratch / "run")}
    return [_row(settings, name, model, tenth, whole, files) for name, model in models.items()]


def tiny_model(run: Path) -> Path:
    """Train the tiny network for one epoch on synthetic cells, export it, and return the file: it is timed, not judged."""
    recipe = dataclasses.replace(RECIPES[TINY], epochs=1)
    trained = nephros.train(recipe, "synthetic", out=run, say=lambda _line: None)
    return export(trained.root, say=lambda _line: None)


def _row(settings: Settings, name: str, model: Path | None, tenth: Path, whole: Path, files: int) -> Row:
    engine = Engine.open(model)
    decoding, network = [], []
    for _ in range(max(1, settings.repeats // 3)):
        spent = _parts(engine, tenth)
        decoding.append(spent[0])
        network.append(spent[1])
    words = [sys.executable, "-m", "nephros", "predict", str(whole), "--out", str(whole.parent / "answers.csv")]
    words += ["--model", str(model)] if model else []
    start = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    command = time.perf_counter() - start
    count = files // 10
    return {
        "what": f"{files:,} PNG files, {name}",
        "decoded_per_s": summary([count / seconds for seconds in decoding]),
        "answered_per_s": summary([count / seconds for seconds in network]),
        "share_of_decoding": ratio(decoding, [one + other for one, other in zip(decoding, network, strict=True)]),
        "command_seconds": command,
        "command_images_per_s": files / command,
    }


def _parts(engine: Engine, folder: Path) -> tuple[float, float]:
    """Return the seconds of reading and decoding a folder, and of answering its cells."""
    decoding = network = 0.0
    before = time.perf_counter()
    for _, batch in Inputs([folder], (engine.channels, engine.height, engine.width)).batches():
        between = time.perf_counter()
        engine.answer(batch)
        decoding += between - before
        before = time.perf_counter()
        network += before - between
    return decoding, network
