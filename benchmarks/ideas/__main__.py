"""Try ideas for a faster or better classifier: each beside where it began, on the same seeds, and never on test.

Screening takes 20,000 training images and as many passes over them as cost what six passes of the start do, in
multiply-adds; the seed draws those images too. Records lie in results/speedrun/, the log is results/speedrun.csv, and
python -m results.fill puts it into results/speedrun.md.
Several processes may share the work. Run as: python -m benchmarks.ideas [NAME ...] [--seeds 0,1]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.ideas.idea import Idea
from benchmarks.ideas.ideas import IDEAS
from benchmarks.ideas.log import write_log
from nephros.data.batches import Batches
from nephros.data.dataset import Dataset
from nephros.data.load import load
from nephros.errors import Diverged, UserError
from nephros.evaluation.scoring import evaluate
from nephros.files import locked, write_json
from nephros.models.classifier import Classifier
from nephros.models.flops import multiply_adds, parameters
from nephros.models.tta import Averaged
from nephros.recipe import Recipe
from nephros.training.model_init import fresh_model, shape_of
from nephros.training.progress import NoProgress
from nephros.training.trainer import Fit

ROOT = Path(__file__).parents[2] / "results" / "speedrun"
STAGES = {"screen": (20_000, 6), "full": (0, 6), "hour": (0, 40)}
"""Training images (0: all) and passes of the start."""


def run(idea: Idea, start: Recipe, stage: str, seed: int, quick: bool) -> dict[str, Any]:
    """Train an idea once; return what came of it."""
    subset, passes = STAGES[stage]
    dataset = load("tissuemnist", subset=subset or None, seed=seed) if not quick else load("synthetic", subset=300)
    shape = shape_of(dataset)
    own = _model(idea, idea.recipe(start), dataset, seed)
    cost = multiply_adds(own.network, shape)
    base = multiply_adds(fresh_model(start, dataset.train, shape).network, shape)
    recipe = dataclasses.replace(
        idea.recipe(start), epochs=1, passes=1 if quick else max(1, round(passes * base / cost)), seed=seed
    )
    device = torch.device("cpu")
    targets = None
    if idea.targets is not None:
        targets = idea.targets(recipe, dataset, lambda other: _model(idea, recipe, dataset, other))
    train, val = Batches(dataset.train, device), Batches(dataset.val, device)
    fit = Fit(recipe, own, train, val, dataset.class_names, targets)
    idea.patch(fit)
    began = time.perf_counter()
    found: dict[str, Any] = {"idea": idea.name, "stage": stage, "seed": seed, "passes": recipe.passes}
    found |= {"multiply_adds": cost, "parameters": parameters(own.network), "threads": torch.get_num_threads()}
    try:
        fit.run(None, NoProgress())
    except Diverged:
        return found | {"diverged": True}
    last = dataclasses.asdict(fit.history[-1])
    if recipe.views > 1:
        seen = evaluate(Averaged(own, recipe.views), val, dataset.class_names).metrics
        last |= {f"val_{name}": seen[name] for name in ("accuracy", "loss", "macro_f1", "auc")}
    return found | {**last, "minutes": (time.perf_counter() - began) / 60}


def _model(idea: Idea, recipe: Recipe, dataset: Dataset, seed: int) -> Classifier:
    made = fresh_model(dataclasses.replace(recipe, seed=seed), dataset.train, shape_of(dataset))
    torch.manual_seed(seed)
    return Classifier(idea.build(recipe.model, shape_of(dataset)), made.mean.tolist(), made.std.tolist())


def main() -> None:
    """Run what is missing of what was asked for, and write the log after each run."""
    from nephros.presets import RECIPES

    given = argparse.ArgumentParser(prog="python -m benchmarks.ideas", description=__doc__)
    given.add_argument("names", nargs="*", metavar="NAME", help="ideas to try (default: all)")
    given.add_argument("--stage", choices=STAGES, default="screen", help="how long (default: screen)")
    given.add_argument("--seeds", default="0,1", help="(default: 0,1)")
    given.add_argument("--quick", action="store_true", help="on a few made-up cells, to see that it works")
    given.add_argument("--out", type=Path, default=ROOT, help="folder of the records (default: results/speedrun)")
    asked = given.parse_args()
    if asked.quick and asked.out == ROOT:
        given.error("--quick needs --out: quick records are not worth keeping.")
    by_name = {idea.name: idea for idea in IDEAS}
    if unknown := set(asked.names) - set(by_name):
        given.error(f"there is no idea {', '.join(sorted(unknown))}: choose from {', '.join(by_name)}.")
    names = asked.names or [idea.name for idea in IDEAS if idea.screened or asked.stage != "screen"]
    if asked.stage == "screen" and (unscreened := [name for name in names if not by_name[name].screened]):
        given.error(f"{', '.join(unscreened)}: taught by runs on all images, so --stage full or hour alone.")
    start = dataclasses.replace(RECIPES["compact"], amp="bf16")
    for seed in map(int, asked.seeds.split(",")):
        for name in names:
            file = asked.out / asked.stage / f"{name}-{seed}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                with locked(file.with_suffix(".lock"), wait=False):
                    if file.exists():
                        continue
                    found = run(by_name[name], start, asked.stage, seed, asked.quick)
                    found["command"] = shlex.join(
                        ["python", "-m", "benchmarks.ideas", name, "--stage", asked.stage, "--seeds", str(seed)]
                    )
                    write_json(file, found)
            except BlockingIOError:
                continue
            except UserError as error:
                given.error(str(error))
            print(json.dumps(found), file=sys.stderr, flush=True)
            write_log(asked.out, IDEAS)


if __name__ == "__main__":
    main()
