"""What a reader of a report can do next, with commands."""

from __future__ import annotations

import shlex

from nephros.reporting.run.run_contents import RunContents
from nephros.reporting.run.text import run_name
from nephros.training.small_data import preset_values


def next_steps(contents: RunContents) -> list[tuple[str, str]]:
    """Return (purpose, command) pairs, the first step first; commands name the run as `run_name` does."""
    run, info = shlex.quote(run_name(contents)), contents.info
    has_data_source = bool(info.data_request["source"])
    if not contents.is_complete:
        steps = [("Continue the run", f"nephros train --resume {run}")] if has_data_source else []
        return [*steps, ("Write this report again", f"nephros report {run}")] if steps else steps
    is_of_stacks = info.input_conversion.get("target_voxel_size") is not None
    steps = [
        ("Classify the nuclei of a stack", f"nephros predict STACK --mask MASK --model {run} --out FOLDER")
        if is_of_stacks
        else ("Classify your own images", f"nephros predict IMAGES --model {run}")
    ]
    if "test" not in contents.metrics and "test" in contents.class_counts and has_data_source:
        steps.insert(
            0,
            ("Evaluate once on the test split, when nothing is left to choose", f"nephros evaluate {run} --split test"),
        )
    if info.training_subset and has_data_source and not contents.search_results:
        recipe = shlex.quote(f"{run_name(contents)}/{contents.folder.file('recipe.yaml').name}")
        data = contents.info.data["key"] or "DATA"
        changed_back = preset_values(contents.recipe, sum(info.class_counts["train"]))
        flags = "".join(f" --{name} {value}" for name, value in changed_back.items())
        steps.insert(0, ("Train the same recipe on all images", f"nephros train {recipe}{flags} --data {data} --test"))
    steps.append(("Compare it with another run, with a test of significance", f"nephros compare {run} ANOTHER_RUN"))
    if has_data_source and not contents.search_results:
        steps.append(("Write one file that predicts anywhere, with its model card", f"nephros export {run}"))
    steps.append(("Classify images in the browser", f"nephros serve --model {run}"))
    return steps
