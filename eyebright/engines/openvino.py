"""Networks as OpenVINO graphs: in float32 or bfloat16, or quantised to 8 bits from calibration pictures.

OpenVINO and NNCF are imported here alone, inside functions, after their reports of usage have been switched off.
"""

from __future__ import annotations

import hashlib
import io
import logging
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout, suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eyebright.classifier import ROWS, Classifier
from eyebright.device import Plan
from eyebright.errors import DataWarning, OutputError, StoredFileError
from eyebright.files import cache_folder, make_folder
from eyebright.layers.network import Network
from eyebright.tensors import read_safetensors, write_safetensors

KIND = "eyebright.quantised"
FORMAT_VERSION = 1
KEPT_GRAPHS = 4  # compiled for different sizes of pictures, at a time
# biases corrected one after the other: a ResNet-20 then agrees with float32 in 99 % of the answers, not in 96 %
QUANTISING = {"preset": "mixed", "fast_bias_correction": False}
AGREEMENT = 0.99  # share of answers as in float32 below which a quantised network is warned of

Shape = tuple[int, ...]


class Graphs:
    """A network's graphs, compiled for each size of picture when it first comes.

    Batches of `ROWS` pictures are computed by as many streams at once as OpenVINO finds best for this processor.
    """

    def __init__(self, graph_of: Callable[[Shape], Any], plan: Plan):
        self._graph_of, self._plan = graph_of, plan
        self._queue = lru_cache(KEPT_GRAPHS)(self._compile)
        self._alone = threading.Lock()  # a queue serves one caller at a time

    def __call__(self, inputs: Tensor) -> Tensor:
        """Logits float32 `[N, K]` of pictures, float32 `[N, C, H, W]`, N a multiple of `ROWS`."""
        pixels = inputs.permute(0, 2, 3, 1).contiguous().numpy()  # no copy: they lie so in memory already
        found: dict[int, NDArray[np.float32]] = {}

        def keep(request: Any, start: int) -> None:
            found[start] = request.get_output_tensor().data.copy()

        with self._alone:
            queue = self._queue((ROWS, *inputs.shape[1:]))
            queue.set_callback(keep)
            for start in range(0, len(pixels), ROWS):
                queue.start_async({0: pixels[start : start + ROWS]}, start, share_inputs=True)
            queue.wait_all()
        return torch.from_numpy(np.concatenate([found[start] for start in sorted(found)]))

    def _compile(self, shape: Shape) -> Any:
        ov = import_openvino()
        options = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_NUM_THREADS": self._plan.threads,
            "INFERENCE_PRECISION_HINT": "bf16" if self._plan.number_format == "bfloat16" else "f32",
        }
        graph = self._graph_of(shape)
        return _apart(lambda: ov.AsyncInferQueue(ov.Core().compile_model(graph, "CPU", options)))


def _apart(work: Callable[[], Any]) -> Any:
    """What a function gives that compiles graphs, called in a thread of its own.

    OpenVINO gives the thread that compiles a graph another stack for signals and frees it with the graph, wherever that
    is: the next Ctrl-C would then crash the process.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def import_openvino() -> Any:
    """The package `openvino`, which must not report that it is used."""
    # Importing it sends a message over the network, and so does translating a network; neither asks. Both do without
    # the package that sends where that cannot be imported. Where it has been imported before, it loses its voice.
    modules: dict[str, Any] = sys.modules
    sender = modules.setdefault("openvino_telemetry", None)
    if sender is not None:
        sender.main.TelemetrySender.send = lambda *_: None
    import openvino

    return openvino


@torch.inference_mode(False)
@torch.no_grad()
def convert(model: Network, shape: Shape) -> Any:
    """The graph of a network for batches of one shape, `[N, C, H, W]`; it takes them as `[N, H, W, C]`."""
    ov = import_openvino()
    with warnings.catch_warnings(), torch.autocast("cpu", enabled=False):
        warnings.simplefilter("ignore")  # torch, of its own parts
        exported = torch.export.export(model, (torch.zeros(shape),))
        graph = ov.convert_model(exported)
    graph.reshape(list(shape))
    steps = ov.preprocess.PrePostProcessor(graph)
    steps.input().tensor().set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    return steps.build()


def quantise(classifier: Classifier, inputs: Tensor) -> Any:
    """The graph of a classifier's network in 8 bits: made by NNCF's post-training quantisation, or found in the cache.

    Warns where it answers less than 99 % of the calibration pictures as the network does.

    Args:
        classifier: whose network it is.
        inputs: calibration pictures, normalised, float32 `[N, C, H, W]`, N a multiple of `ROWS`.
    """
    path = cache_folder() / "engines" / f"int8-{_digest(classifier, inputs)}.safetensors"
    ov = import_openvino()
    try:
        tensors, header = read_safetensors(path, KIND, FORMAT_VERSION)
    except StoredFileError:
        tensors, header = _quantise_anew(classifier, inputs)
        with suppress(OutputError):  # without a cache it is made again the next time
            make_folder(path.parent)
            write_safetensors(path, tensors, KIND, {"format_version": FORMAT_VERSION, **header})
    if header["agreement"] < AGREEMENT:
        warnings.warn(
            f"quantised, the network answers {header['agreement']:.1%} of the calibration pictures as before",
            DataWarning,
            stacklevel=4,
        )
    graph, weights = (tensors[name].numpy().tobytes() for name in ("graph", "weights"))
    return ov.Core().read_model(graph, weights)


def _quantise_anew(classifier: Classifier, inputs: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]]:
    ov = import_openvino()
    import nncf

    nncf.set_log_level(logging.ERROR)
    pixels = inputs.permute(0, 2, 3, 1).contiguous().numpy()
    batches = [pixels[start : start + ROWS] for start in range(0, len(pixels), ROWS)]
    graph = convert(classifier.model, (ROWS, *inputs.shape[1:]))
    settings = {**QUANTISING, "preset": nncf.QuantizationPreset(QUANTISING["preset"]), "subset_size": len(batches)}
    with redirect_stdout(io.StringIO()):  # its bars
        quantised = _apart(lambda: nncf.quantize(graph, nncf.Dataset(batches), **settings))
    answers = Graphs(lambda _: quantised, classifier.plan)(inputs)
    agreement = float((answers.argmax(1) == classifier.logits(inputs).argmax(1)).float().mean())
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "graph.xml")
        ov.save_model(quantised, place, compress_to_fp16=False)
        files = {"graph": place, "weights": place.with_suffix(".bin")}
        content = {
            name: torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8) for name, file in files.items()
        }
    return content, {"agreement": agreement}


def _digest(classifier: Classifier, inputs: Tensor) -> str:
    """Of all that a quantised network is made from: weights, network, prepared pictures, versions, settings."""
    model = classifier.model
    made_by = (version("openvino"), version("nncf"), QUANTISING)
    said = (model.model_name, model.model_options, list(inputs.shape), made_by)
    whole = hashlib.sha256(repr(said).encode())
    for tensor in (inputs.permute(0, 2, 3, 1), *model.state_dict().values()):
        whole.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()[:32]
