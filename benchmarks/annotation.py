"""Labeling: milliseconds from a label to the new order of the gallery, and how many labels a simulated annotator needs."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from benchmarks.annotation_latency import latency_rows
from benchmarks.annotation_project import load_cells
from benchmarks.annotator import RULES, SHARE_OF_FINAL, label_counts, labels_needed, simulate
from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish
from nephros.data.dataset import Dataset
from nephros.data.subset import stratified_subset
from nephros.experiments.transfer import task_splits, transfer_tasks
from nephros.exporters.pretrained import open_pretrained
from nephros.files import write_text
from nephros.finetuning.features import extract_features
from nephros.text_tables import csv_table

SOURCES = ("rare-nephros-fast", "frequent-nephros-fast")
"""Keys of `nephros reproduce transfer`."""
POOL, LAST = 10_000, 2000
"""Cells that the annotator chooses from, drawn anew for each seed, and labels at the end."""
FIRST_SEED = 10
"""The rule of `nephros` was chosen on the draws 0 to 3."""


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder in which `reproduce transfer` left its sources"
    )
    parser.add_argument("--only", choices=("latency", "annotator"), help="one of the two parts")
    parser.add_argument("--seeds", type=int, default=5, help="draws of the simulated annotator (default: 5)")
    parser.add_argument(
        "--tables", type=Path, help="folder for annotation.csv, annotation-curves.csv and annotation.png"
    )
    config = parse_config(parser, "annotation")
    dataset = load_cells(config.data)
    rows: list[Row] = []
    if config.args.only != "annotator":
        rows += latency_rows(dataset, quick=config.quick)
    if config.args.only != "latency":
        rows += annotator_rows(dataset, config)
    publish(config, "Labeling: latency, and labels that a simulated annotator needs", rows, dataset.provenance.title)


def annotator_rows(dataset: Dataset, config: BenchmarkConfig) -> list[Row]:
    """Return the labels that each rule needs, and its accuracies, per source; write the tables where that is asked for."""
    last, seeds = (60, 2) if config.quick else (LAST, config.args.seeds)
    counts, rows, curves = label_counts(last), list[Row](), dict[tuple[str, str], np.ndarray]()
    for task in (task for task in transfer_tasks() if task.key in SOURCES):
        pool, held_out, _ = task_splits(task, dataset)
        run = config.args.runs / "transfer" / task.key
        classifier = open_pretrained("nephros-fast" if config.quick else run).classifier
        pool = pool if len(pool) <= 2 * POOL else stratified_subset(pool, 2 * POOL, seed=0)
        pool_features, held_out_features = (
            extract_features(classifier, split.images, 1, torch.device("cpu"))[:, 0] for split in (pool, held_out)
        )
        with ProcessPoolExecutor(os.cpu_count()) as processes:
            futures = {}
            for seed in range(FIRST_SEED, FIRST_SEED + seeds):
                drawn = np.random.default_rng(seed).choice(len(pool), min(POOL, len(pool)), replace=False)
                features, truth = pool_features[drawn], pool.labels[drawn]
                for rule in RULES:
                    evaluated = held_out_features, held_out.labels
                    futures[rule, seed] = processes.submit(simulate, rule, features, truth, evaluated, counts, seed)
            for rule in RULES:
                drawn_seeds = range(FIRST_SEED, FIRST_SEED + seeds)
                curves[task.key, rule] = np.array([futures[rule, seed].result() for seed in drawn_seeds])
        target = SHARE_OF_FINAL * float(curves[task.key, "random"][:, -1].mean())
        rows += [_summary(task.key, rule, curves[task.key, rule], counts, target) for rule in RULES]
    if config.args.tables:
        write_tables(config.args.tables, rows, curves, counts)
    return rows


def _summary(task: str, rule: str, curves: np.ndarray, counts: list[int], target: float) -> Row:
    """Return the labels that a rule needs for 95% of the accuracy that random order has at the end: of the mean, and per draw."""
    needed = [labels_needed(curve, counts, target) for curve in curves]
    mean = curves.mean(axis=0)
    row: Row = {"what": "simulated annotator", "task": task, "rule": rule, "target": round(target, 4)}
    row["labels_needed"] = labels_needed(mean, counts, target)
    row["per_draw"] = " ".join(
        "never" if count is None else str(count) for count in sorted(needed, key=lambda n: n or 10**9)
    )
    at = {count: round(float(value), 4) for count, value in zip(counts, mean, strict=True)}
    return row | {f"accuracy_at_{count}": at[count] for count in (20, 50, 100, 200, 500, 2000) if count in at}


def write_tables(folder: Path, rows: list[Row], curves: dict[tuple[str, str], np.ndarray], counts: list[int]) -> None:
    """Write annotation.csv, annotation-curves.csv and annotation.png."""
    rows = [row for row in rows if "rule" in row]
    columns = list(rows[0])[1:]
    write_text(
        folder / "annotation.csv", csv_table(columns, [[str(row[column]) for column in columns] for row in rows])
    )
    lines = [
        [task, rule, str(count), f"{mean:.4f}", f"{sd:.4f}"]
        for (task, rule), of_rule in curves.items()
        for count, mean, sd in zip(counts, of_rule.mean(axis=0), of_rule.std(axis=0, ddof=1), strict=True)
    ]
    header = ("task", "rule", "labels", "accuracy_mean", "accuracy_sd")
    write_text(folder / "annotation-curves.csv", csv_table(header, lines))
    figure, axes = plt.subplots(1, len(SOURCES), figsize=(9, 3.6), layout="constrained")
    for axis, task in zip(axes, SOURCES, strict=True):
        for rule, color in zip(RULES, ("#0072b2", "#d55e00", "#666666"), strict=True):
            of_rule = curves[task, rule]
            axis.plot(counts, of_rule.mean(axis=0), color=color, label=rule)
            axis.fill_between(counts, of_rule.min(axis=0), of_rule.max(axis=0), color=color, alpha=0.15, linewidth=0)
        axis.axhline(
            next(row["target"] for row in rows if row["task"] == task), color="black", linewidth=0.8, linestyle=":"
        )
        axis.set(xscale="log", xlabel="labels", title=task.removesuffix("-nephros-fast") + " classes")
    axes[0].set_ylabel("accuracy on held-out cells")
    axes[0].legend(frameon=False)
    figure.savefig(folder / "annotation.png", dpi=160)
    plt.close(figure)


if __name__ == "__main__":
    main()
