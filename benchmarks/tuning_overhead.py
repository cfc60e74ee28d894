"""What a study adds to an epoch of its first rung, against a bare loop that trains and judges the same configurations.

A trial's overhead is the difference of the two, found on so few images that it stands out; its share is of an epoch on the
real data. Writes to storage are done in the background, by a thread of the study's own process; they stand apart.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.common import Row, parse, parser, publish
from benchmarks.study_timing import Parts, Rung
from benchmarks.timing import summary
from nephros.data.load import SYNTHETIC, locate
from nephros.presets import RECIPES

TARGET = 0.01
TINY = 64
"""Training images where an epoch is to take next to nothing."""
PARTS = {
    "look": "looking for an earlier checkpoint",
    "save": "writing the checkpoint",
    "rest": "driver: drawing, recipes, records, dispatch",
    "write": "in the background: writes to storage",
    "write, computing": "of that, computing",
}


def rounds(rung: Rung, repeats: int) -> dict[str, list[Parts]]:
    """Let the bare loop and both kinds of study take turns, every other round in reverse order."""
    contenders: dict[str, Callable[[], Parts]] = {"bare": rung.bare, "here": rung.here, "process": rung.process}
    found: dict[str, list[Parts]] = {name: [] for name in contenders}
    rung.warm_up()
    for number in range(repeats):
        for name in contenders if number % 2 == 0 else reversed(contenders):
            found[name].append(contenders[name]())
    return found


def rows(tiny: dict[str, list[Parts]], real: dict[str, list[Parts]]) -> list[Row]:
    """Return the table: a column for a study in this process, and one for a study with one worker process."""
    names = {"here": "in_this_process", "process": "in_one_worker_process"}
    epoch = sorted(parts["epoch"] for parts in real["bare"])[len(real["bare"]) // 2]

    def line(what: str, figures: Callable[[str], list[float]]) -> Row:
        return {"what": what} | {column: summary(figures(name)) for name, column in names.items()}

    def difference(found: dict[str, list[Parts]], name: str) -> list[float]:
        return [a["trial"] - b["trial"] for a, b in zip(found[name], found["bare"], strict=True)]

    lines = [
        line("an epoch of the bare loop, seconds", lambda _: [parts["epoch"] for parts in real["bare"]]),
        line("overhead a trial, ms", lambda name: [1000 * value for value in difference(tiny, name)]),
        line("its share of such an epoch", lambda name: [value / epoch for value in difference(tiny, name)]),
        line(
            "a trial of the whole rung against the bare loop's, less 1",
            lambda name: [a["trial"] / b["trial"] - 1 for a, b in zip(real[name], real["bare"], strict=True)],
        ),
    ]
    # With epochs of the real length, as far as this process can see.
    here = real["here"]
    seen = [sum(parts[name] for name in ("look", "save", "rest")) for parts in here]
    busy = [value + parts["write, computing"] for value, parts in zip(seen, here, strict=True)]
    for words, values in (("added up beside real epochs", seen), ("with the background's computing", busy)):
        share = [value / parts["epoch"] for value, parts in zip(values, here, strict=True)]
        lines.append({"what": f"{words}, ms a trial", names["here"]: summary([1000 * value for value in values])})
        lines.append({"what": "its share of its epoch", names["here"]: summary(share), "target": TARGET})
    for part, words in PARTS.items():
        lines.append({"what": f"{words}, ms", names["here"]: summary([1000 * parts[part] for parts in here])})
    lines[2] |= {"target": TARGET}
    return lines


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__ or "")
    made.add_argument("--recipe", default="poster", help="default: poster")
    made.add_argument("--subset", type=int, default=10_000, help="training images of the rung (default: 10000)")
    made.add_argument("--configs", type=int, default=9, help="of the rung (default: 9)")
    made.set_defaults(repeats=3)
    settings = parse(made, "tuning_overhead")
    given = settings.options
    torch.set_num_threads(1)
    settings = dataclasses.replace(settings, device=torch.device("cpu"))
    source = "tissuemnist" if settings.data == "auto" and locate("tissuemnist") else SYNTHETIC
    subset, configs = (160, 2) if settings.quick else (given.subset, given.configs)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        recipe = RECIPES[given.recipe]
        tiny = rounds(
            Rung(recipe, SYNTHETIC, TINY, configs, Path(place)), 2 if settings.quick else 3 * settings.repeats
        )
        rung = Rung(recipe, source, subset, configs, Path(place))
        real = rounds(rung, settings.repeats)
    title = f"A study's first rung ({configs} configurations of {recipe.name}, {subset:,} images of {rung.title})"
    publish(settings, title, rows(tiny, real), rung.title)


if __name__ == "__main__":
    main()
