"""The process that fuzzes one target: `python -m tests.fuzz.process TARGET`, then libFuzzer's options and folders of inputs."""

from __future__ import annotations

import sys

import atheris

from tests.fuzz.targets import TARGETS, scratch_folder


def main() -> None:
    """Run until the time is over or an input breaks the reader."""
    name = sys.argv.pop(1)
    target = TARGETS[name]
    with scratch_folder() as folder:
        with atheris.instrument_imports(include=["nephros", "tifffile", "yaml"]):
            target.run(target.example(), folder)  # imports the reader
        atheris.Setup(sys.argv, lambda data: target.run(data, folder))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
