"""nephros finetune."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nephros.commands.messages import print_line
from nephros.commands.parser import (
    DATA_HELP,
    DEVICE_HELP,
    MASK_HELP,
    STITCH_HELP,
    VOXEL_SIZE_EXPECTED,
    CommandParser,
    parse_numbers,
    parse_resplit,
    recorded_command,
)
from nephros.commands.stack_options import add_stack_options_but_channel

if TYPE_CHECKING:
    from nephros.workflows.finetune import Finetuning

_MAX_SUSPICIOUS = 5
"""Suspicious labels that are printed; the run's file has all."""


def finetune(argv: list[str]) -> int:
    """nephros finetune"""
    parser = CommandParser(
        "finetune",
        "Fit the bundled model, or other weights, to classes of your own, from as few as twenty labels per class.\n\n"
        "Methods are compared by cross-validation on the train split:\n\n"
        "  head        a new last layer alone; takes seconds\n"
        "  last-stage  the last stage and a new last layer\n"
        "  network     the whole network\n"
        "  self-training\n"
        "              the whole network, which then also learns from its own\n"
        "              predictions for images without labels: those of --unlabeled\n"
        "              or, where --methods names it, the nuclei of stacks that have\n"
        "              no class\n"
        "  scratch     a small network from random weights\n\n"
        "k-nearest neighbors and always predicting the largest class are listed beside them. Self-training or, without unlabeled "
        "images, the whole network is kept unless another method is clearly better. What is kept is fitted to the whole train "
        "split and becomes a run like any other, for `nephros evaluate`, `report`, `predict`, `serve`, `export` and `compare`. "
        "Nothing is chosen on validation, so its accuracy is not optimistic.\n\n"
        "The output also tells which classes need labels most, and which labels look wrong.\n\n"
        "DATA may be several stacks, each with a mask and a table of its nuclei's classes, where {stem} is the stack's name:\n\n"
        "  nephros finetune K4.tif K5.tif --mask '{stem}_mask.tif' --classes '{stem}.csv'",
    )
    parser.add_argument(
        "data", nargs="+", metavar="DATA", help=f"{DATA_HELP}; or stacks as `nephros data prepare` takes them"
    )
    parser.option(
        "unlabeled",
        "images of the same kind without labels: a file or a folder as `nephros predict` takes it",
        metavar="INPUT",
    )
    parser.option(
        "init",
        "weights to start from: a name that `nephros models` lists, a run folder, or a .safetensors file (default: "
        "nephros-distilled)",
        metavar="NAME|RUN|FILE",
    )
    parser.option(
        "methods",
        "methods to compare (default: all, which takes minutes; self-training only with --unlabeled)",
        metavar="NAME,NAME",
    )
    parser.option(
        "folds",
        "folds of cross-validation; fewer are used if a class has fewer images, or there are fewer groups (default: 5)",
        int,
    )
    parser.option("seed", "seed of the folds, of training and of initial weights (default: 0)", int)
    parser.training_data_options(takes_stacks=True)
    parser.option("mask", f"for stacks: {MASK_HELP}", metavar="MASK")
    parser.option("stitch-threshold", f"for stacks: {STITCH_HELP}", float, "SHARE")
    parser.class_table_options()
    add_stack_options_but_channel(parser)
    parser.option("device", DEVICE_HELP)
    parser.flag(
        "test",
        "hold out a test split, where the data have none, and evaluate on it once, at the end; without it, nine tenths of the "
        "labels are learned from",
    )
    parser.option("out", "the run's folder (default: runs/finetune-METHOD-DATE-TIME)", metavar="DIR")
    args = parser.parse_argv(argv)
    from nephros.workflows import finetune as workflow

    if "resplit" in args:
        args["resplit"] = parse_resplit(args["resplit"])
    if "voxel_size" in args:
        args["voxel_size"] = parse_numbers("voxel_size", args["voxel_size"], 3, VOXEL_SIZE_EXPECTED)
    data = args.pop("data")
    data = data[0] if len(data) == 1 else data
    result = workflow.finetune(data, command=recorded_command("finetune", argv), **args)
    _print_result(result)
    print_line(f"report: {result.run.file('report.html')}")
    return 0


def _print_result(result: Finetuning) -> None:
    from nephros.console import table_console
    from nephros.evaluation.intervals import describe_groups
    from nephros.finetuning.choice import explain_choice
    from nephros.finetuning.label_review import describe_learning_curve
    from nephros.text_tables import pluralize, terminal_table

    rows = [
        (
            f"{candidate.method}{' (kept)' if candidate is result.kept else ''}",
            f"{candidate.metrics.accuracy:.3f}",
            f"{candidate.metrics.accuracy_interval.low:.3f} to {candidate.metrics.accuracy_interval.high:.3f}",
            f"{candidate.metrics.macro_f1:.3f}",
            f"{candidate.seconds:.0f}",
            candidate.detail,
        )
        for candidate in result.candidates
    ]
    n_labels = len(result.kept.labels)
    headers = ("method", "accuracy", "95% interval", "macro F1", "seconds", "")
    table_console().print(terminal_table(f"Cross-validation on {n_labels:,} training images", headers, rows))
    if group_accuracies := result.kept.group_accuracies:
        print_line(
            f"the intervals are for images of other groups (stacks, patients), estimated from these {len(group_accuracies)}; "
            f"accuracy of {result.kept.method}: {describe_groups(group_accuracies)}"
        )
    accuracies = {row.method: row.metrics.accuracy for row in result.candidates}
    if reason := explain_choice(result.kept.method, accuracies):
        print_line(reason)
    recalls = [
        (recall.name, str(recall.n_labels), f"{recall.recall:.2f}", f"{recall.low:.2f} to {recall.high:.2f}")
        for recall in result.recalls
    ]
    title = "Classes, most in need of labels first"
    table_console().print(terminal_table(title, ("class", "labels", "recall", "95% interval"), recalls))
    print_line(f"learning curve of the head: accuracy {describe_learning_curve(result.learning_curve)}")
    if result.suspicious:
        file = result.run.file("suspicious_labels.csv")
        n_suspicious = len(result.suspicious)
        verb = "looks" if n_suspicious == 1 else "look"
        print_line(f"{pluralize(n_suspicious, 'label')} {verb} wrong (all in {file}), the least probable first:")
        for label in result.suspicious[:_MAX_SUSPICIOUS]:
            print_line(
                f"  {label.image}: labeled {label.label} ({label.label_probability:.2f}), looks like "
                f"{label.suggested} ({label.suggested_probability:.2f})"
            )
