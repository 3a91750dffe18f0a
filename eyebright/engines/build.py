"""A classifier that answers by an engine of a given name.

``float32`` and ``bfloat16`` are the network itself, in that number format. ``compiled`` is the network through torch's
compiler, ``openvino`` through OpenVINO, both in the plan's number format. ``openvino-int8`` multiplies whole numbers of
8 bits: its answers differ by more than rounding, so it is taken by name only.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eyebright.classifier import ROWS, Classifier, Engine
from eyebright.data.images import Pictures
from eyebright.device import Plan, can_compile
from eyebright.engines.openvino import Graphs, convert, quantise
from eyebright.errors import DataError, EngineError, EyebrightError, did_you_mean

INT8 = "openvino-int8"
PACKAGES = {"openvino": ("openvino",), INT8: ("openvino", "nncf")}
ENGINES = ("float32", "bfloat16", "compiled", "openvino", INT8)
ROWS_ON_GPU = 64  # pictures that a compiled network computes together there
MOST_CALIBRATION, LEAST_CALIBRATION = 304, 96  # pictures; whole batches of 16
MOST_REASON = 300  # characters of what another library says has gone wrong


def build_engine(classifier: Classifier, name: str, calibrate: Pictures | None = None) -> Classifier:
    """The same classifier, answering by an engine; `eyebright.use_engine` also chooses one.

    Args:
        classifier: whose network, Prepare and plan are taken.
        name: one of `ENGINES`.
        calibrate: pictures, labelled or not, from which ``openvino-int8`` learns the ranges of all feature maps.

    Raises:
        EngineError: there is no such engine, or it cannot work here.
        DataError: too few pictures to calibrate with.
    """
    check_engine(name, classifier.plan)
    if name in ("float32", "bfloat16"):
        plan = replace(classifier.plan, number_format=name)  # type: ignore[arg-type]
        return replace(classifier, plan=plan, engine=None)
    plain = replace(classifier, engine=None)
    return replace(classifier, engine=_compile(plain) if name == "compiled" else _openvino(plain, name, calibrate))


def check_engine(name: str, plan: Plan) -> None:
    """Looks whether an engine can work on this machine, before anything is built.

    Raises:
        EngineError: there is no such engine, or it cannot work here.
    """
    if name not in ENGINES:
        raise EngineError(
            f"there is no engine '{name}'",
            expected=f"auto, {', '.join(ENGINES)}",
            remedy=did_you_mean(name, ENGINES) or "choose one of these with --engine",
        )
    absent = [package for package in PACKAGES.get(name, ()) if importlib.util.find_spec(package) is None]
    if absent:
        raise EngineError(
            f"the engine '{name}' needs {' and '.join(absent)}, not installed here",
            expected="the packages of the extra `engines`",
            remedy="pip install 'eyebright[engines]', or choose another with --engine",
        )
    if name in PACKAGES and plan.device != "cpu":
        raise EngineError(
            f"the engine '{name}' was asked for on the device '{plan.device}'",
            expected="the processor: OpenVINO answers there",
            remedy="add --device cpu, or choose the engine compiled",
        )
    if name == "compiled" and not can_compile(plan.device):
        raise EngineError(
            "the engine 'compiled' finds no compiler here",
            expected="g++ or clang++ and Python's headers; on a GPU Triton as well",
            remedy="install them, set CXX to a C++ compiler, or choose another with --engine",
        )


def prepare_some(classifier: Classifier, pictures: Pictures, most: int) -> Tensor | None:
    """At most so many pictures, evenly from all, float32 `[N, C, H, W]`, normalised; None where their sizes differ."""
    chosen = np.linspace(0, len(pictures) - 1, min(most, len(pictures))).astype(int).tolist()
    prepare = classifier.prepare
    prepared = [prepare(pictures.read(index, prepare.at_least)) for index in chosen]
    return torch.cat(prepared) if len({one.shape for one in prepared}) == 1 else None


def _compile(classifier: Classifier) -> Engine:
    model, plan = classifier.model, classifier.plan
    rows = classifier.rows if plan.device == "cpu" else ROWS_ON_GPU
    # freezing takes the weights as constants: normalisation becomes part of the convolutions, weights are laid out once
    options: dict[str, str | int | bool | Callable[..., Any]] = {"freezing": True} if plan.device == "cpu" else {}
    compiled = torch.compile(model, dynamic=False, options=options)

    def answer(inputs: Tensor) -> Tensor:
        with _at_work("compiled", model.model_name):
            return torch.cat([compiled(piece) for piece in torch.split(inputs, rows)])

    return Engine(f"compiled {plan.number_format}", answer, rows)


def _openvino(classifier: Classifier, name: str, calibrate: Pictures | None) -> Engine:
    model, plan = classifier.model, classifier.plan
    if name == INT8:
        inputs = _calibration_inputs(classifier, calibrate)
        with _at_work(name, model.model_name):
            graph, size = quantise(classifier, inputs), tuple(inputs.shape[1:])
        graphs = Graphs(lambda shape: graph if shape[1:] == size else _other_size(size, shape[1:]), plan)
    else:
        name = f"{name} {plan.number_format}"
        graphs = Graphs(lambda shape: convert(model, shape), plan)

    def answer(inputs: Tensor) -> Tensor:
        with _at_work(name, model.model_name):
            return graphs(inputs)

    return Engine(name, answer)


def _other_size(calibrated: tuple[int, ...], asked: tuple[int, ...]) -> None:
    raise EngineError(
        f"the engine '{INT8}' was given pictures of {'×'.join(map(str, asked[1:]))} pixels",
        expected=f"{'×'.join(map(str, calibrated[1:]))}, as those that it was calibrated with",
        remedy="choose the engine openvino with --engine: it takes pictures of several sizes",
    )


def _calibration_inputs(classifier: Classifier, pictures: Pictures | None) -> Tensor:
    count = 0 if pictures is None else len(pictures)
    if pictures is None or count < LEAST_CALIBRATION:
        raise DataError(
            f"{count} pictures to calibrate the engine '{INT8}' with",
            expected=f"at least {LEAST_CALIBRATION}, as those that will be asked about; labels are not needed",
            remedy="name a source of more with --calibrate; a run's own training pictures are taken by themselves",
        )
    inputs = prepare_some(classifier, pictures, MOST_CALIBRATION)
    if inputs is None:
        raise DataError(
            f"pictures of different sizes to calibrate the engine '{INT8}' with",
            expected="one size after Prepare",
            remedy="choose the engine openvino with --engine: it takes pictures of several sizes",
        )
    return inputs[: len(inputs) // ROWS * ROWS]


@contextmanager
def _at_work(name: str, model: str) -> Iterator[None]:
    """Within the block, what another library raises is an EngineError."""
    try:
        yield
    except EyebrightError:
        raise
    except Exception as error:
        reason = shorten(str(error), MOST_REASON, placeholder=" …") or type(error).__name__
        raise EngineError(
            f"the engine '{name}' failed with {model or 'this network'}: {reason}",
            expected="a network that it can translate, and the memory to do so",
            remedy="choose another with --engine; float32 always works",
        ) from error
