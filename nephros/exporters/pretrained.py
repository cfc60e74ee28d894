"""Weights to start a training from: those of a run, of an exported file, or of the bundled model."""

from __future__ import annotations

from pathlib import Path

from nephros.errors import FileError, IncompatibleError, UnknownName
from nephros.exporters.safetensors_io import SAFETENSORS_FORMAT, load_safetensors
from nephros.files import file_digest
from nephros.inference.bundled import bundled_file
from nephros.inference.model_names import BUNDLED, bundled_model_name, pretrained_names
from nephros.models import build_network
from nephros.models.classical import CLASSICAL_MODELS
from nephros.models.classifier import Classifier, DataOrigin, PretrainedModel, to_channels_last
from nephros.models.dihedral import D4BatchNorm, unfold_batch_norm
from nephros.models.serialization import FORMAT, deserialize, file_format, load_model
from nephros.models.stages import last_linear
from nephros.reading import file_errors
from nephros.runs import RunFolder


def open_pretrained(source: str | Path, *, parameter: str = "init") -> PretrainedModel:
    """Open the weights of `source`: a pretrained model's name, a run folder, or a .safetensors file of either kind.

    The names are ``bundled`` and those of `nephros.list_models(pretrained=True)`.

    Raises UnknownName for a name that is neither a model nor a path, FileError for a file that can't be read or holds no
    weights to train from, IncompatibleError for a classical baseline, and DivergedError for weights that are not finite.
    Messages name the parameter `parameter`.
    """
    path = Path(source).expanduser()
    if bundled := bundled_model_name(str(source)):
        return _from_export(bundled_file("model.safetensors", bundled), bundled)
    if not path.exists() and not path.suffix and path.name == str(source):
        names = (BUNDLED, *pretrained_names())
        hint = f"Choose {', '.join(names)}, a run folder, or a .safetensors file."
        raise UnknownName(parameter, str(source), names, kind="model or file", hint=hint)
    if path.is_dir():
        folder = RunFolder.open(path)
        info, source = folder.info(), str(folder.root.absolute())
        origin = DataOrigin(info.data["key"], info.data["split"], info.data["sha256"])
        return _from_weights(folder.file("weights.safetensors"), source, info.recipe, origin)
    if not path.exists():
        raise FileError(
            path, f"The weights {path} don't exist: name a run folder or a .safetensors file as `{parameter}`."
        )
    if path.suffix.lower() == ".onnx":
        raise FileError(
            path,
            f"{path} is an ONNX file, which is for prediction and can't be trained: name its run folder as `{parameter}`, or the "
            "file that `nephros.export(RUN, format='safetensors')` writes.",
        )
    with file_errors(path, f"name a run folder or another file as `{parameter}`"):
        is_export = file_format(path) == SAFETENSORS_FORMAT
    return (_from_export if is_export else _from_weights)(path, str(path.absolute()))


def _from_weights(path: Path, source: str, recipe: str = "", data: DataOrigin | None = None) -> PretrainedModel:
    classifier, class_names = load_model(path)
    stored = deserialize(path, FORMAT)
    model = stored.model
    if model.network in CLASSICAL_MODELS:
        raise IncompatibleError(
            f"{source} is a classical baseline ({model.network}), which has no weights to start from: name a network's run."
        )
    return PretrainedModel(
        classifier,
        model,
        stored.input_spec,
        class_names,
        source,
        recipe,
        file_digest(path),
        is_folded=False,
        data=data,
    )


def _from_export(path: Path, source: str) -> PretrainedModel:
    module, card = load_safetensors(path)
    stored = deserialize(path, SAFETENSORS_FORMAT)
    network = build_network(stored.model, stored.input_spec)
    head = last_linear(network)
    tensors = {name.removeprefix("backbone."): value for name, value in module.state_dict().items()}
    tensors |= {f"{head}.{name}": tensors[f"head.{name}"] for name in ("weight", "bias")}
    try:
        network.load_state_dict(unfold_batch_norm(network, tensors))
    except (RuntimeError, KeyError) as error:
        message = f"The weights in {path} don't fit the network that it names: export the run again."
        raise FileError(path, message) from error
    mean, std = (
        values.flatten().double() for values in (module.input_offset / 255, 1 / (255 * module.input_scale.double()))
    )
    classifier = to_channels_last(Classifier(network, mean.tolist(), std.tolist())).eval()
    is_folded = any(isinstance(module, D4BatchNorm) for module in network.modules())
    return PretrainedModel(
        classifier,
        stored.model,
        stored.input_spec,
        tuple(card["class_names"]),
        source,
        card["recipe"],
        file_digest(path),
        is_folded,
        DataOrigin(card["data"]["key"], card["data"]["split"], card["data"]["sha256"]),
    )
