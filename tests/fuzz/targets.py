"""One target per reader: it takes any bytes, and nothing but a NephrosError may leave it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nephros.errors import NephrosError
from tests.fuzz import wrapped

CORPUS = Path(__file__).parents[1] / "corpus"
SEEDS = CORPUS / "fuzz"
"""A folder per target with the inputs that fuzzing starts from, and those that it added because they reach other code."""


@dataclass(frozen=True)
class Target:
    """A reader under test."""

    read: Callable[[Path], object]
    """Reads the file as a user's command would."""
    suffix: str
    example: Callable[[], bytes]
    """Makes a good file, the first seed."""
    hostile: tuple[str, ...] = ()
    """Patterns of files in tests/corpus/hostile that are seeds, too."""
    max_bytes: int = 4096
    example_is_readable: bool = True

    def seeds(self) -> Iterator[bytes]:
        """Yield the good example and the hostile files."""
        yield self.example()
        for pattern in self.hostile:
            yield from (path.read_bytes() for path in sorted((CORPUS / "hostile").glob(pattern)))

    def run(self, data: bytes, folder: Path) -> None:
        """Read `data` from a file in `folder`; whatever is raised, except a NephrosError, is a fault."""
        path = folder / f"input{self.suffix}"
        path.write_bytes(data)
        with contextlib.suppress(NephrosError):
            self.read(path)


def _read_image(path: Path) -> None:
    from nephros.data.images.decoding import decode_pages, strict_pillow_warnings
    from nephros.data.images.decoding_cost import check_claims

    data = path.read_bytes()
    with strict_pillow_warnings():
        check_claims(path, data)
        for _ in decode_pages(path, data):
            pass


def _read_arrays(path: Path) -> None:
    from nephros.data.npz.stream import ImageArray, open_image_arrays

    for array in open_image_arrays(path):
        if isinstance(array, ImageArray):
            for _ in array.iter_batches():
                pass


def _read_dataset(path: Path) -> None:
    from nephros.data.npz.opening import open_npz

    open_npz(path)


def _read_stack(path: Path) -> None:
    from nephros.microscopy.reader import open_stack

    for z, _ in enumerate(open_stack(path, 0).slices()):
        if z == 50:
            break


def _read_classes(path: Path) -> None:
    from nephros.microscopy.class_table import read_class_table

    read_class_table(path)


def _read_label_table(path: Path) -> None:
    from nephros.data.folders.label_table import read_label_table

    read_label_table(path)


def _read_recipe(path: Path) -> None:
    from nephros.recipe_io import read_recipe

    read_recipe(path)


def _read_space(path: Path) -> None:
    from nephros.recipe_io import get_recipe
    from nephros.tuning.space import read_space

    read_space(path, get_recipe("course-1"))


def _read_card(path: Path) -> None:
    from nephros.inference.card_json import card_from_json
    from nephros.reading import file_errors

    with file_errors(path, "export it again"):
        text = path.read_bytes().decode()
    card_from_json(text, path)


def _read_onnx(path: Path) -> None:
    from nephros.inference.predictor import Predictor

    Predictor.from_onnx(path, threads=1)


def _read_history(path: Path) -> None:
    from nephros.training.history import read_history

    read_history(path)


def _read_run(path: Path) -> None:
    from nephros.runs import RunFolder

    path.replace(path.parent / "run.json")
    RunFolder.open(path.parent).info()


def _image_bytes(image_format: str) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.arange(144, dtype=np.uint8).reshape(12, 12)).save(file, image_format)
    return file.getvalue()


def _npz_bytes() -> bytes:
    labels = np.arange(12) % 2
    images = np.arange(12 * 16, dtype=np.uint8).reshape(12, 4, 4)
    file = io.BytesIO()
    np.savez(file, images=images, labels=labels)
    return file.getvalue()


def _stack_bytes() -> bytes:
    import tifffile

    file = io.BytesIO()
    stack = np.arange(3 * 64, dtype=np.uint16).reshape(3, 8, 8)
    tifffile.imwrite(file, stack, ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeZ": 1.0})
    return file.getvalue()


def _recipe_bytes() -> bytes:
    from nephros.recipe import to_yaml
    from nephros.recipe_io import get_recipe

    return to_yaml(get_recipe("course-1")).encode()


def _bundled_bytes(name: str) -> bytes:
    from nephros.inference.bundled import bundled_file

    return bundled_file(name).read_bytes()


def _onnx_bytes() -> bytes:
    """Return a graph of one operator ; real weights are far too long to mutate."""
    from onnx import TensorProto, helper

    shape: list[str | int | None] = ["n", 1, 28, 28]
    tensors = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in ("cells", "probabilities")]
    node = helper.make_node("Identity", ["cells"], ["probabilities"])
    graph = helper.make_graph([node], "graph", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


SPACE = b"optimizer.lr: {low: 1.0e-4, high: 0.1, log: true}\nbatch_size: [64, 128]\n"
HISTORY = (
    b"epoch,lr,train_loss,train_accuracy,val_loss,val_accuracy,val_macro_f1,val_auc,seconds,images_per_second\n"
    b"1,0.1,2.0,0.3,1.9,0.35,0.2,0.7,10.5,900\n"
)


def _run_bytes() -> bytes:
    from nephros.runs import RunInfo

    info = RunInfo(
        recipe="course-1", recipe_hash="0" * 16, seed=0, command="nephros train course-1", device="CPU", threads=1,
        data={"name": "x", "split": "own", "path": "/data/x.npz", "sha256": "0" * 64, "key": None, "detail": "", "title": "x"},
        data_request={"source": "/data/x.npz", "size": None, "subset": None, "seed": 0}, class_names=["a", "b"],
        input_spec={"channels": 1, "height": 28, "width": 28, "n_classes": 2},
        class_counts={name: [3, 3] for name in ("train", "val", "test")}, normalization={"mean": [0.5], "std": [0.5]},
        parameters=10, multiply_adds=100, test=False, created="2026-01-01T00:00:00+00:00", versions={}, commit=None,
    )  # fmt: skip
    return json.dumps(dataclasses.asdict(info)).encode()


TARGETS: dict[str, Target] = {
    "png": Target(_read_image, ".png", lambda: _image_bytes("PNG"), ("*.png",)),
    "jpeg": Target(_read_image, ".jpg", lambda: _image_bytes("JPEG"), ("*.jpg",)),
    "tiff": Target(_read_image, ".tif", lambda: _image_bytes("TIFF"), ("*.tif",)),
    "arrays": Target(_read_arrays, ".npz", _npz_bytes, ("*.npz",)),
    "dataset": Target(_read_dataset, ".npz", _npz_bytes, ("*.npz",)),
    "stack": Target(_read_stack, ".tif", _stack_bytes, ("*.tif",)),
    "class-labels": Target(_read_classes, ".csv", lambda: b"id,class\n1,podocyte\n2,other\n"),
    "label-table": Target(
        _read_label_table, ".csv", lambda: b"file,label,split\na.png,podocyte,train\nb.png,other,test\n"
    ),
    "recipe": Target(_read_recipe, ".yaml", _recipe_bytes),
    "space": Target(_read_space, ".yaml", lambda: SPACE),
    "card": Target(_read_card, ".json", lambda: _bundled_bytes("card.json"), max_bytes=1 << 16),
    "onnx": Target(_read_onnx, ".onnx", _onnx_bytes, example_is_readable=False),
    "history": Target(_read_history, ".csv", lambda: HISTORY),
    "checkpoint": Target(wrapped.read_checkpoint, ".pt", wrapped.checkpoint_bytes, max_bytes=1 << 15),
    "safetensors": Target(wrapped.read_safetensors, ".safetensors", wrapped.safetensors_bytes, max_bytes=1 << 16),
    "study": Target(wrapped.read_study, ".db", lambda: b""),
    "multipart": Target(wrapped.read_multipart, ".txt", lambda: wrapped.MULTIPART_EXAMPLE),
    "run": Target(_read_run, ".json", _run_bytes),
}


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Return a folder for one input at a time, in memory where the system has such a place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)
