"""Readers of files that a checksum or a digest guards: inputs are what lies behind the guard, and are put into a good file."""

from __future__ import annotations

import asyncio
import atexit
import functools
import io
import json
import shutil
import sqlite3
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nephros.training.trainer import Trainer
    from nephros.tuning.optuna_storage import StudyStorage

_STUDY = "fuzzed"
MULTIPART_EXAMPLE = (
    b"multipart/form-data; boundary=x\n"
    b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\nContent-Type: image/png\r\n\r\nabc\r\n'
    b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\n1\r\n--x--\r\n'
)
"""A content type, a line break, and a body."""


def _trainer() -> Trainer:
    import torch

    from nephros.data.batches import BatchLoader
    from nephros.models import build_network
    from nephros.models.classifier import Classifier, InputSpec
    from nephros.recipe import ModelConfig, OptimizerConfig, Recipe
    from nephros.training.trainer import Trainer
    from tests.conftest import squares_dataset

    recipe = Recipe(
        name="small", model=ModelConfig(network="poster", base_channels=2), optimizer=OptimizerConfig(name="adam", lr=1e-3),
        epochs=4, batch_size=50, ema_decay=0.9,
    )  # fmt: skip
    dataset, device = squares_dataset(n=40), torch.device("cpu")
    model = Classifier(build_network(recipe.model, InputSpec(1, 28, 28, 4)), [0.5], [0.5])
    train, val = BatchLoader(dataset.train, device), BatchLoader(dataset.val, device)
    return Trainer(recipe, model, train, val, dataset.class_names)


@functools.cache
def _checkpoint() -> dict[str, bytes]:
    """Return the members of a good checkpoint's archive."""
    from nephros.training import checkpoint

    with zipfile.ZipFile(io.BytesIO(checkpoint.to_bytes(_trainer().state_dict()))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _is_pickle(name: str) -> bool:
    return name.endswith("data.pkl")


def checkpoint_bytes() -> bytes:
    """Return the pickle within a good checkpoint."""
    return next(data for name, data in _checkpoint().items() if _is_pickle(name))


def read_checkpoint(path: Path) -> None:
    """Read a pickle as that of a checkpoint whose checksums are right, and continue training from it."""
    from nephros.reading import file_errors
    from nephros.training import checkpoint

    data = path.read_bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, good in _checkpoint().items():
            archive.writestr(name, data if _is_pickle(name) else good)
    with file_errors(path, "train again"):
        _trainer().load_state_dict(checkpoint.load(path))


@functools.cache
def _safetensors() -> tuple[bytes, bytes]:
    """Return the header and the tensors of a small model, which says of itself what the bundled one does."""
    import torch

    from nephros.exporters.inference_module import DISTANCE_BUFFERS, InferenceModule
    from nephros.exporters.safetensors_io import SAFETENSORS_FORMAT
    from nephros.inference.bundled import bundled_file
    from nephros.models import build_network
    from nephros.models.classifier import Classifier, InputSpec
    from nephros.models.serialization import serialize
    from nephros.recipe import ModelConfig

    card = json.loads(bundled_file("card.json").read_bytes())
    config, spec = ModelConfig(network="poster", base_channels=2), InputSpec(1, 28, 28, len(card["class_names"]))
    network = Classifier(build_network(config, spec), [0.5], [0.5]).eval()
    module = InferenceModule(network, 1, card["calibration"]["temperature"])
    n_classes, n_features = module.head.weight.shape
    shapes = ((n_features,), (n_features, n_features), (n_classes, n_features))
    module.set_distance_parameters(
        {name: torch.zeros(shape) for name, shape in zip(DISTANCE_BUFFERS, shapes, strict=True)}
    )
    data = serialize(module.state_dict(), SAFETENSORS_FORMAT, config, spec, card=json.dumps(card))  # without a digest
    (length,) = struct.unpack_from("<Q", data)
    return data[8 : 8 + length], data[8 + length :]


def safetensors_bytes() -> bytes:
    """Return the header of a good model."""
    return _safetensors()[0]


def read_safetensors(path: Path) -> None:
    """Read a header as that of a model with good tensors."""
    from nephros.exporters.safetensors_io import load_safetensors

    header = path.read_bytes()
    path.write_bytes(struct.pack("<Q", len(header)) + header + _safetensors()[1])
    load_safetensors(path)


@functools.cache
def _study_folder() -> Path:
    """Return a folder, kept until this process ends, with the database of a study that was run."""
    from tests.conftest import squares_dataset
    from tests.tuning.conftest import SmallStudy

    folder = Path(tempfile.mkdtemp(prefix="nephros-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    SmallStudy(folder, squares_dataset(n=64), max_epochs=2, name=_STUDY).run()
    with closing(sqlite3.connect(folder / "study.db")) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    return folder


def _columns(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    tables = [
        name for (name,) in connection.execute("select name from sqlite_master where type = 'table' order by name")
    ]
    return [(table, row[1]) for table in tables for row in connection.execute(f"pragma table_info({table})")]


def _values(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Yield a column, a row and a value of any of SQLite's types for every 4 bytes and the text after them."""
    position = 0
    while position + 4 <= len(data):
        column, row, kind, length = data[position : position + 4]
        content = data[position + 4 : position + 4 + length]
        position += 4 + length
        number = int.from_bytes(content[:8].ljust(8, b"\0"), "little", signed=True)
        (real,) = struct.unpack("<d", content[:8].ljust(8, b"\0"))
        yield column, row, (None, number, real, content.decode("utf-8", "replace"), content)[kind % 5]


def read_study(path: Path) -> None:
    """Read a study after changes: of bytes of its file where the input begins with 0, else of values in its tables."""
    from nephros.tuning.database import storage_url
    from nephros.tuning.optuna_storage import StudyStorage

    data = path.read_bytes()
    shutil.copy(_study_folder() / "study.db", path)
    for name in ("-wal", "-shm"):
        path.with_name(path.name + name).unlink(missing_ok=True)
    if data[:1] == b"\0":
        content = bytearray(path.read_bytes())
        for position, value in struct.iter_unpack("<IB", data[1 : 1 + (len(data) - 1) // 5 * 5]):
            content[position % len(content)] = value
        path.write_bytes(content)
    elif data:
        with closing(sqlite3.connect(path)) as connection:
            columns = _columns(connection)
            for column, row, value in _values(data[1:]):
                table, name = columns[column % len(columns)]
                statement = f"update or ignore {table} set {name} = ? where rowid = (select rowid from {table} limit 1 offset ?)"
                connection.execute(statement, (value, row % 8))
            connection.commit()
    storage: StudyStorage = StudyStorage(storage_url(str(path)), _STUDY)
    storage.retry_seconds = 0.0
    if storage.exists:
        storage.load_state()


def read_multipart(path: Path) -> None:
    """Read a content type and, after a line break, a body that arrives in chunks of 1 to 200 bytes."""
    from starlette.requests import Request

    from nephros.server.limits import MemoryBudget, RequestLimits, RequestRejected
    from nephros.server.multipart import read_multipart_files

    content_type, _, body = path.read_bytes().partition(b"\n")
    size = 1 + len(body) % 200
    chunks = [body[start : start + size] for start in range(0, len(body), size)]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": chunks.pop(0) if chunks else b"", "more_body": bool(chunks)}

    async def read() -> None:
        scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", content_type)]}
        with MemoryBudget(1 << 20).lease() as lease:
            for file in await read_multipart_files(
                Request(scope, receive), RequestLimits(max_files=5, max_parts=9), lease
            ):
                assert file.name.isprintable()

    try:
        asyncio.run(read())
    except RequestRejected as error:
        if not 400 <= error.status < 500 or "\n" in error.message:
            raise
