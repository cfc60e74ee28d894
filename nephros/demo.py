"""``make demo``: the main job from end to end on TissueMNIST where it is on disk, else on made-up cells; no network."""

from __future__ import annotations

from nephros.cli import main
from nephros.data.load import find_local_file


def demo_args() -> list[str]:
    """Return what to type after ``nephros``: a recipe that fits the time that a demonstration may take."""
    if find_local_file("tissuemnist") is not None:
        return ["train", "course-3", "--data", "tissuemnist", "--test"]
    # Few cells make few steps: smaller batches take more of them.
    return ["train", "nephros-fast", "--data", "synthetic", "--test", "--epochs", "8", "--batch-size", "64"]


if __name__ == "__main__":
    args = demo_args()
    print("nephros", *args)
    main(args)
