"""Try ideas for a faster or better classifier, each against its baseline on the same seeds, and never on the test split.

Screening uses 20,000 training images, drawn by the seed, and as many passes over them as have the multiply-adds of six passes of
the starting point. Records are in results/speedrun/ and the log in results/speedrun.csv, which python -m results.fill copies into
docs/results/ideas.md. Several processes may share the work. Run as: python -m benchmarks.ideas [NAME ...] [--seeds 0,1]
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
from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.data.load import load_dataset
from nephros.errors import DivergedError, NephrosError
from nephros.evaluation.scoring import evaluate_model
from nephros.files import file_lock, write_json
from nephros.models.classifier import Classifier
from nephros.models.flops import count_multiply_adds, count_parameters
from nephros.models.tta import TTAClassifier
from nephros.recipe import Recipe
from nephros.training.model_init import init_model, input_spec
from nephros.training.progress import NullCallback
from nephros.training.trainer import Trainer

ROOT = Path(__file__).parents[2] / "results" / "speedrun"
STAGES = {"screen": (20_000, 6), "full": (0, 6), "hour": (0, 40)}
"""Number of training images (0: all) and passes of the starting point."""


def run(idea: Idea, start: Recipe, stage: str, seed: int, quick: bool) -> dict[str, Any]:
    """Train an idea once and return its record."""
    subset, passes = STAGES[stage]
    dataset = (
        load_dataset("tissuemnist", subset=subset or None, seed=seed)
        if not quick
        else load_dataset("synthetic", subset=300)
    )
    spec = input_spec(dataset)
    model = _model(idea, idea.recipe(start), dataset, seed)
    network_cost = count_multiply_adds(model.network, spec)
    start_cost = count_multiply_adds(init_model(start, dataset.train, spec).network, spec)
    recipe = dataclasses.replace(
        idea.recipe(start),
        epochs=1,
        passes_per_epoch=1 if quick else max(1, round(passes * start_cost / network_cost)),
        seed=seed,
    )
    device = torch.device("cpu")
    soft_targets = None
    if idea.make_soft_targets is not None:
        soft_targets = idea.make_soft_targets(recipe, dataset, lambda other: _model(idea, recipe, dataset, other))
    train, val = BatchLoader(dataset.train, device), BatchLoader(dataset.val, device)
    trainer = Trainer(recipe, model, train, val, dataset.class_names, soft_targets)
    idea.patch_trainer(trainer)
    start_time = time.perf_counter()
    record: dict[str, Any] = {"idea": idea.name, "stage": stage, "seed": seed, "passes": recipe.passes_per_epoch}
    record |= {
        "multiply_adds": network_cost,
        "parameters": count_parameters(model.network),
        "threads": torch.get_num_threads(),
    }
    try:
        trainer.run(None, NullCallback())
    except DivergedError:
        return record | {"diverged": True}
    last_epoch = dataclasses.asdict(trainer.history[-1])
    if recipe.tta_views > 1:
        tta_metrics = evaluate_model(TTAClassifier(model, recipe.tta_views), val, dataset.class_names).metrics
        last_epoch |= {f"val_{name}": getattr(tta_metrics, name) for name in ("accuracy", "loss", "macro_f1", "auc")}
    return record | {**last_epoch, "minutes": (time.perf_counter() - start_time) / 60}


def _model(idea: Idea, recipe: Recipe, dataset: Dataset, seed: int) -> Classifier:
    initialized = init_model(dataclasses.replace(recipe, seed=seed), dataset.train, input_spec(dataset))
    torch.manual_seed(seed)
    return Classifier(
        idea.build(recipe.model, input_spec(dataset)), initialized.mean.tolist(), initialized.std.tolist()
    )


def main() -> None:
    """Run the chosen ideas that have no record yet, and write the log after each run."""
    from nephros.presets import RECIPES

    parser = argparse.ArgumentParser(prog="python -m benchmarks.ideas", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="ideas to try (default: all)")
    parser.add_argument(
        "--stage", choices=STAGES, default="screen", help="number of images and passes (default: screen)"
    )
    parser.add_argument("--seeds", default="0,1", help="(default: 0,1)")
    parser.add_argument("--quick", action="store_true", help="on a few synthetic cells, as a check")
    parser.add_argument("--out", type=Path, default=ROOT, help="folder of the records (default: results/speedrun)")
    args = parser.parse_args()
    if args.quick and args.out == ROOT:
        parser.error("--quick needs --out: its records must not go to results/speedrun.")
    by_name = {idea.name: idea for idea in IDEAS}
    if unknown := set(args.names) - set(by_name):
        parser.error(f"there is no idea {', '.join(sorted(unknown))}: choose from {', '.join(by_name)}.")
    names = args.names or [idea.name for idea in IDEAS if idea.can_be_screened or args.stage != "screen"]
    if args.stage == "screen" and (not_screenable := [name for name in names if not by_name[name].can_be_screened]):
        parser.error(
            f"{', '.join(not_screenable)}: distilled from runs on all images, so --stage must be full or hour."
        )
    start = dataclasses.replace(RECIPES["compact"], amp="bf16")
    for seed in map(int, args.seeds.split(",")):
        for name in names:
            file = args.out / args.stage / f"{name}-{seed}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                with file_lock(file.with_suffix(".lock"), wait=False):
                    if file.exists():
                        continue
                    record = run(by_name[name], start, args.stage, seed, args.quick)
                    record["command"] = shlex.join(
                        ["python", "-m", "benchmarks.ideas", name, "--stage", args.stage, "--seeds", str(seed)]
                    )
                    write_json(file, record)
            except BlockingIOError:
                continue
            except NephrosError as error:
                parser.error(str(error))
            print(json.dumps(record), file=sys.stderr, flush=True)
            write_log(args.out, IDEAS)


if __name__ == "__main__":
    main()
