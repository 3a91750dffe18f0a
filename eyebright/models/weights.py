"""Files of weights: fetched, read without unpickling anything but tensors, and made to fit a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from eyebright.data.downloads import data_root, fetch, matches
from eyebright.errors import ModelError, StoredFileError
from eyebright.layers.network import Network
from eyebright.models.published import Weights

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "state_dict_ema", "model_ema")
"""Names under which training programs keep their weights."""
DEEPEST = 4  # wrappers around weights
REAL = (torch.float64, torch.float32, torch.float16, torch.bfloat16)  # of weights
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)  # of counters
PREFIXES = ("module.", "model.", "_orig_mod.")  # that parallel training, classifiers and compilers put before keys


def fetch_weights(weights: Weights, root: str | Path | None = None) -> Path:
    """The file of published weights: found where published files are kept, else among torch's own, else downloaded.

    Raises:
        DownloadError: no network, or what came is not the published file.
        StoredFileError: a file of that name is there, and is not the published one.
    """
    folder = data_root(root) / "weights"
    others = Path(torch.hub.get_dir()) / "checkpoints" / weights.filename
    checksum = f"sha256:{weights.sha256}"
    if not (folder / weights.filename).exists() and weights.sha256 and others.exists() and matches(others, checksum):
        return others
    path = fetch(weights.url, checksum, folder, weights.filename)
    if not matches(path, checksum):
        raise StoredFileError(
            f"{path} is not the published file: its checksum is wrong",
            expected=f"SHA-256 {weights.sha256}…",
            remedy="delete it, so that it is fetched again",
        )
    return path


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Weights of a file as others write them: safetensors, or torch's form, of which tensors alone are read.

    A dict around the weights is opened, and a prefix before all keys (``module.``) is taken away.

    Raises:
        StoredFileError: it cannot be read, or holds more than weights.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            begins_as_safetensors = file.read(9)[8:] == b"{"
        found = load_file(path) if begins_as_safetensors else torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise _no_weights(path, error.strerror or str(error)) from error
    except Exception as error:  # arbitrary bytes: whatever is raised means that they are no weights
        raise _no_weights(path, "it is damaged, or holds more than tensors, which is never run") from error
    for _ in range(DEEPEST):
        if isinstance(found, dict):
            found = next((found[key] for key in WRAPPERS if isinstance(found.get(key), dict)), found)
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found):
        raise _no_weights(path, f"it holds a {type(found).__name__}, not tensors by name")
    found.pop("n_averaged", None)  # a count beside averaged weights
    if any(name.startswith("model.") for name in found):  # beside a classifier's weights stands what it doubts by
        found = {name: value for name, value in found.items() if not name.startswith(("rejection.", "memory."))}
    while prefix := next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in found)), ""):
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    for name, value in found.items():
        if not _is_plain(value):
            raise _no_weights(path, f"{name or 'it'} is no dense tensor of numbers")
    return found


def _is_plain(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.dtype in (*REAL, *WHOLE)
        and not (value.is_meta or value.is_nested)
    )


def fit_weights(given: dict[str, Tensor], model: Network, source: str | Path) -> dict[str, Tensor]:
    """A file's weights as `model` takes them: without heads that it lacks, with the counters that older files lack.

    Raises:
        ModelError: keys or shapes differ from the network's, or whole numbers stand for weights.
    """
    expected = model.state_dict()
    heads = {"aux1", "aux2", "AuxLogits"}
    fitted = {name: value for name, value in given.items() if name in expected or name.split(".")[0] not in heads}
    counters = {name: value for name, value in expected.items() if name.endswith("num_batches_tracked")}
    fitted |= {name: torch.zeros((), dtype=torch.int64) for name in counters if name not in fitted}
    for name, value in fitted.items():
        if name in expected and value.is_floating_point():
            fitted[name] = value.to(expected[name].dtype)
    kinds = {True: "", False: "whole numbers "}
    shapes = {name: kinds[value.is_floating_point()] + str(list(value.shape)) for name, value in fitted.items()}
    wanted = {name: kinds[value.is_floating_point()] + str(list(value.shape)) for name, value in expected.items()}
    if shapes != wanted:
        raise ModelError(
            f"the weights of {source} are not those of {model.model_name}: {_difference(shapes, wanted)}",
            expected=f"{len(wanted)} tensors under the keys of {model.model_name}",
            remedy="name the network and the options that these weights were trained with",
        )
    return fitted


def _difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    for what, names in (("without", wanted.keys() - found.keys()), ("with unknown", found.keys() - wanted.keys())):
        if names:
            return f"{what} {', '.join(sorted(names)[:3])}{' …' if len(names) > 3 else ''}"
    name = next(name for name in wanted if found[name] != wanted[name])
    return f"{name} is {found[name]}, not {wanted[name]}"


def _no_weights(path: Path, reason: str) -> StoredFileError:
    return StoredFileError(
        f"cannot read weights from {path}: {reason}",
        expected="tensors by name, as safetensors or as torch saves a state dict",
        remedy="check the path; save `model.state_dict()` rather than a whole model",
    )
