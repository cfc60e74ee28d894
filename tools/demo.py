"""``make demo``: train, evaluate and report, on TissueMNIST if it is on disk, else on synthetic cells; no network needed."""

from __future__ import annotations

from nephros.cli import main
from nephros.data.load import find_local_file


def demo_args() -> list[str]:
    """Return the arguments for ``nephros``: a training of under three minutes on two cores."""
    if find_local_file("tissuemnist") is not None:
        return ["train", "course-3", "--data", "tissuemnist", "--test"]
    # So few cells make few steps per epoch; a smaller batch makes more of them.
    return ["train", "nephros-fast", "--data", "synthetic", "--test", "--epochs", "8", "--batch-size", "64"]


if __name__ == "__main__":
    args = demo_args()
    print("nephros", *args)
    main(args)
