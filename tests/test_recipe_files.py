"""Recipe and space files that are no such thing: each command ends with one sentence that names the file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from nephros.errors import FileError, InvalidArgument, NephrosError
from nephros.presets import RECIPES
from nephros.recipe import Recipe, to_yaml
from nephros.recipe_io import read_recipe
from nephros.training.run_info import default_run_dir
from tests.command_line import Capture, assert_usage_error
from tests.conftest import squares_dataset, write_npz

DIGITS = "9" * 6000
BAD_TEXTS: dict[str, bytes | str] = {
    "nothing": "",
    "blanks": " \n\n",
    "a comment": "# epochs: 5",
    "no value": "~",
    "a number": "7",
    "a word": "epochs",
    "a list": "- epochs: 5",
    "two documents": "epochs: 5\n---\nepochs: 6",
    "JSON cut short": '{"epochs": 5',
    "an impossible date": "name: 2026-13-45",
    "a date where a number is due": "epochs: 2026-11-25",
    "a time where a number is due": "optimizer: {lr: 2026-11-25T10:00:00Z}",
    "an impossible time zone": "name: 2026-11-25T10:00:00+99:99",
    "6,000 digits": f"epochs: {DIGITS}",
    "6,000 digits for a fraction": f"label_smoothing: {DIGITS}",
    "6,000 digits for text": f"name: {DIGITS}",
    "6,000 hexadecimal digits": f"epochs: 0x{DIGITS}",
    "6,000 hexadecimal digits for text": f"name: 0x{DIGITS}",
    "6,000 hexadecimal digits in a list": f"model: {{network: course, hidden: [0x{DIGITS}]}}",
    "6,000 hexadecimal digits for a fraction": f"optimizer: {{lr: 0x{DIGITS}}}",
    "more than 32 bits": "epochs: 2147483648",
    "a batch of more than 64 bits": "batch_size: 99999999999999999999",
    "a seed of more than 63 bits": "seed: 9223372036854775808",
    "infinity": "optimizer: {lr: .inf}",
    "minus infinity": "augment: {rotate: -.inf}",
    "NaN": "label_smoothing: .nan",
    "NaN in a group": "optimizer: {weight_decay: .nan}",
    "NaN in a list": "schedule: {name: step, milestones: [0.5, .nan]}",
    "infinity for a whole number": "epochs: .inf",
    "a fraction for a whole number": "epochs: 1.5",
    "a truth value for a number": "epochs: yes",
    "nested 300 deep": "model: " * 300,
    "100,000 brackets": "[" * 100_000,
    "100,000 braces": "{a: " * 100_000,
    "100,000 closed brackets": f"model: {'[' * 100_000}{']' * 100_000}",
    "a group of a group": "optimizer: {lr: {lr: 1}}",
    "a list for a group": "optimizer: [sgd]",
    "a word for a group": "optimizer: sgd",
    "a tab": "optimizer:\n\tlr: 0.1",
    "a tab before a key": "\tepochs: 5",
    "a repeated key": "epochs: 5\nepochs: 6",
    "a repeated key in a group": "optimizer: {lr: 1, lr: 2}",
    "a repeated group": "optimizer: {lr: 1}\nmodel: {depth: 2}\noptimizer: {momentum: 0.5}",
    "a key of a list": "? [epochs]\n: 5",
    "a key of a mapping": "? {epochs: 5}\n: 5",
    "a key that is a number": "5: epochs",
    "a key that is nothing": "~: 5",
    "an unknown alias": "epochs: *five",
    "an alias of itself": "model: &a {network: *a}",
    "a Python object": "name: !!python/object/apply:os.system ['exit 1']",
    "a Python name": "name: !!python/name:os.system",
    "bytes": "name: !!binary aGVsbG8=",
    "broken base64": "name: !!binary '*'",
    "a set": "model: !!set {network, depth}",
    "an unknown tag": "epochs: !five 5",
    "an unknown directive": "%FIVE 5\n--- epochs: 5",
    "half a surrogate pair": 'name: "\\ud800"',
    "half a surrogate pair as a key": '"\\udfff": 1',
    "a control character": b"name: a\x00b",
    "an escape sequence": b"name: \x1b[31mred",
    "Latin-1": "name: Größe".encode("latin-1"),
    "UTF-16": "epochs: 5".encode("utf-16"),
    "UTF-32": "epochs: 5".encode("utf-32"),
    "a zip": b"PK\x03\x04" + bytes(40),
    "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(40),
    "random bytes": bytes(range(256)),
    "a megabyte": b"#" * 1_048_577,
}
"""What a recipe file holds, by name."""


@pytest.mark.sampled(6)
@pytest.mark.parametrize("content", BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_a_file_that_is_no_recipe_ends_in_one_sentence(
    content: bytes | str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in (["recipes"], ["train"], ["tune"]):
        assert_usage_error([*command, "mine.yaml"], capsys, "mine.yaml")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine.yaml"]


@pytest.mark.parametrize(
    "content", [text for name, text in BAD_TEXTS.items() if name not in ("an escape sequence",)][::3]
)
def test_neither_is_it_a_space(content: bytes | str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "space.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_usage_error(["tune", "poster", "--space", str(path)], capsys, "space.yaml")


def test_places_where_no_file_is(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "nowhere.yaml").symlink_to(tmp_path / "absent.yaml")
    (tmp_path / "circle.yaml").symlink_to(tmp_path / "circle.yaml")
    (tmp_path / "zeros.yaml").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.yaml")
    for name in ("folder", "nowhere", "circle", "zeros", "pipe", "absent"):
        assert_usage_error(["train", str(tmp_path / f"{name}.yaml")], capsys, f"{name}.yaml")


@pytest.mark.parametrize(
    ("text", "parameter"),
    [
        ("optimizer: {lr: .inf}", "optimizer.lr"),
        ("optimizer: {weight_decay: .nan}", "optimizer.weight_decay"),
        ("label_smoothing: .nan", "label_smoothing"),
        ("epochs: 1.5", "epochs"),
        ("epochs: 99999999999", "epochs"),
        ("model: {network: course, hidden: [10, 4294967296]}", "model.hidden"),
        ("name: 2026-11-25", "name"),
        ('source: "\\udc00"', "source"),
    ],
)
def test_the_field_at_fault_is_named(text: str, parameter: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InvalidArgument) as caught:
        read_recipe(path)
    assert (caught.value.parameter, caught.value.source) == (parameter, str(path))


def test_the_line_at_fault_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for text, line in (("epochs: 5\noptimizer:\n\tlr: 1", 3), ("name: a\nepochs: [5", 2), ("a: 1\nb: 2\nb: 3", 1)):
        path.write_text(text)
        with pytest.raises(FileError, match=f"line {line}") as caught:
            read_recipe(path)
        assert caught.value.path == path


@pytest.mark.parametrize(
    "text", ["\ufeffepochs: 5", "epochs: 5\r\n", "# \U0001f52c\nepochs: 5", "{epochs: 5}", "epochs: +5"]
)
def test_other_ways_to_write_a_recipe_are_read(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(text.encode())
    assert read_recipe(path) == Recipe(epochs=5)


@pytest.mark.parametrize(
    "name", ["../../elsewhere", "/etc", "a\x00b", "a\nb", "name " * 100, "..", "\u202e", "", "größe"]
)
def test_a_run_stays_in_its_folder_whatever_its_recipe_is_called(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(to_yaml(Recipe(name=name)))
    recipe = read_recipe(path)
    assert recipe.name == name
    folder = default_run_dir(recipe, synthetic=False)
    assert folder.parent == Path("runs")
    (tmp_path / folder).mkdir(parents=True)


def test_whatever_is_read_back_is_a_recipe_or_an_error(tmp_path: Path) -> None:
    """Flip bytes of a recipe, many at a time: never anything but a recipe or a NephrosError."""
    original, rng, path = to_yaml(RECIPES["nephros"]).encode(), np.random.default_rng(0), tmp_path / "mine.yaml"
    messages = []
    for _ in range(150):
        content = np.frombuffer(original, np.uint8).copy()
        content[rng.integers(0, len(content), rng.integers(1, 4))] = rng.integers(0, 256)
        path.write_bytes(content.tobytes())
        try:
            read_recipe(path)
        except NephrosError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert not [message for message in messages if "\n" in message]


@pytest.mark.parametrize(
    "model",
    [
        "{network: compact, base_channels: 5000000}",
        "{network: course, hidden: [2000000000]}",
        "{network: course, base_channels: 2147483647}",
        "{network: course, depth: 1000000}",
        "{network: equivariant, base_channels: 100000, depth: 1000}",
        "{network: resnet18, base_channels: 2000000}",
    ],
)
def test_a_network_that_no_memory_holds_is_refused_before_it_takes_any(
    model: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(f"model: {model}")
    write_npz(tmp_path / "squares.npz", squares_dataset(n=80))
    assert_usage_error(["train", "mine.yaml", "--data", "squares.npz"], capsys, "model.")
    assert not (tmp_path / "runs").exists()
