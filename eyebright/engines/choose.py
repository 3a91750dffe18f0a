"""Which engine answers: the one that is named, or the fastest that answers as float32 does, by measurement.

Engines are measured once on a machine for a network and a size of pictures; the figures are kept in the cache. Whether
an engine answers as float32 does depends on the weights, so that is looked at each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from torch import Tensor

from eyebright.classifier import ROWS, Classifier
from eyebright.data.cache import short_digest
from eyebright.data.images import Pictures
from eyebright.device import describe_machine
from eyebright.engines.build import ROWS_ON_GPU, build_engine, prepare_some
from eyebright.errors import EngineError, OutputError, StoredFileError
from eyebright.files import cache_folder, make_folder, read_json, write_json

LEAST_PICTURES = 1000  # fewer are answered by the network itself, and nothing is measured
WORTH_SECONDS = 60.0  # what the network itself would have to take for a first measurement to pay
SAMPLE = max(4 * ROWS, ROWS_ON_GPU)  # pictures that engines are measured and compared on
ROUNDS = 2
MARGIN = 0.9  # share of the network's own time that another engine may take at most to be chosen


@dataclass(frozen=True)
class Tolerance:
    """How far an engine's answers may be from those in float32.

    Attributes:
        probability: largest difference of any probability of any picture.
        agreement: least share of pictures with the same most probable class.
    """

    probability: float
    agreement: float


TOLERANCES = {"float32": Tolerance(0.001, 0.99), "bfloat16": Tolerance(0.05, 0.95)}


@dataclass(frozen=True)
class Speed:
    """What an engine was measured to take.

    Attributes:
        build: seconds until its first answers.
        picture: seconds for each picture after that.
    """

    build: float
    picture: float

    def seconds(self, count: int) -> float:
        """For so many pictures, from the start."""
        return self.build + count * self.picture


def use_engine(
    classifier: Classifier,
    name: str = "auto",
    *,
    pictures: Pictures | None = None,
    calibrate: Pictures | None = None,
    say: Callable[[str], object] | None = None,
) -> Classifier:
    """The same classifier, answering by an engine.

    Args:
        classifier: whose network, Prepare and plan are taken.
        name: ``"float32"``, ``"bfloat16"``, ``"compiled"``, ``"openvino"`` or ``"openvino-int8"``; ``"auto"``: the one
            that will have answered `pictures` first, of those whose answers are within `TOLERANCES` of float32.
            That is the network itself for fewer than 1000 pictures, and where it needs less than a minute and nothing
            has been measured before. ``"openvino-int8"`` changes answers by more than rounding: it is never chosen.
        pictures: what will be asked about; only ``"auto"`` looks at them.
        calibrate: at least 96 pictures, labelled or not, that ``"openvino-int8"`` is calibrated with.
        say: told in a sentence what is measured and chosen.

    Raises:
        EngineError: there is no such engine, or it cannot work here.
        DataError: too few pictures to calibrate with.
        PictureError: a picture cannot be decoded.

    Example::

        fast = eyebright.use_engine(classifier, "openvino")
        eyebright.evaluate(fast, splits.test)
    """
    if name == "auto":
        plain = replace(classifier, engine=None)
        return plain if pictures is None else _choose(plain, pictures, say or (lambda _: None))
    return build_engine(classifier, name, calibrate)


def _choose(plain: Classifier, pictures: Pictures, say: Callable[[str], object]) -> Classifier:
    count = len(pictures)
    inputs = prepare_some(plain, pictures, SAMPLE) if count >= LEAST_PICTURES else None
    if inputs is None:
        return plain
    path = _record_path(plain, inputs)
    speeds = _read(path)
    if speeds is None:
        plain.logits(inputs[: plain.rows])
        if _seconds(plain, inputs[: plain.rows]) / plain.rows * count < WORTH_SECONDS:
            return plain
        say(f"measuring engines for {plain.model.model_name}, once on this machine")
        speeds = measure(plain, inputs)
        with suppress(OutputError):  # without a cache they are measured again the next time
            make_folder(path.parent)
            write_json(path, {"speeds": {name: asdict(speed) for name, speed in speeds.items()}})
    name = fastest(speeds, plain.plan.number_format, count)
    if name == plain.plan.number_format:
        return plain
    try:
        chosen = build_engine(plain, name)
        if not agrees(chosen, inputs, answers(build_engine(plain, "float32"), inputs)):
            return plain
    except EngineError:  # it worked when it was measured: the network itself always does
        return plain
    say(f"answering by the engine {chosen.engine_name}")
    return chosen


def measure(plain: Classifier, inputs: Tensor) -> dict[str, Speed]:
    """What each engine takes which works here and whose answers are within `TOLERANCES`.

    float32 is among them where that is the plan's number format, or where bfloat16 is not within its tolerance.

    Args:
        plain: the classifier, answering by its network.
        inputs: normalised pictures to measure on, float32 `[N, C, H, W]`.
    """
    reference = answers(build_engine(plain, "float32"), inputs)
    candidates, builds = {}, {}
    waiting = [plain.plan.number_format, "compiled", "openvino"]
    while waiting:
        name = waiting.pop(0)
        with suppress(EngineError):
            candidate = build_engine(plain, name)
            builds[name] = _seconds(candidate, inputs[: plain.rows])
            if name == "float32" or agrees(candidate, inputs, reference):
                candidates[name] = candidate
            elif name == plain.plan.number_format:
                waiting.append("float32")  # stands in the place of the network in bfloat16
    rounds = [{name: _seconds(one, inputs) for name, one in candidates.items()} for _ in range(ROUNDS)]
    return {name: Speed(builds[name], min(taken[name] for taken in rounds) / len(inputs)) for name in candidates}


def fastest(speeds: dict[str, Speed], usual: str, count: int) -> str:
    """The engine that answers so many pictures first; the usual one unless another needs less than 90 % of its time.

    Where the usual one's answers were not within the tolerance it has no speed: float32 stands in its place.
    """
    usual = usual if usual in speeds else "float32"
    best = min(speeds, key=lambda name: speeds[name].seconds(count))
    return best if speeds[best].seconds(count) < MARGIN * count * speeds[usual].picture else usual


def answers(classifier: Classifier, inputs: Tensor) -> Tensor:
    """Probabilities float64 `[N, K]` of normalised pictures, float32 `[N, C, H, W]`."""
    return classifier.probabilities(classifier.logits(inputs))


def agrees(classifier: Classifier, inputs: Tensor, reference: Tensor) -> bool:
    """Whether a classifier's answers are within the tolerance of its number format; see `TOLERANCES`.

    Args:
        classifier: what is asked.
        inputs: normalised pictures, float32 `[N, C, H, W]`.
        reference: their probabilities in float32, `[N, K]`.
    """
    tolerance = TOLERANCES[classifier.plan.number_format]
    difference, agreement = compare(answers(classifier, inputs), reference)
    return difference <= tolerance.probability and agreement >= tolerance.agreement


def compare(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Of two tables of probabilities `[N, K]`: the largest difference, and the share of rows with the same best."""
    return float((one - other).abs().max()), float((one.argmax(1) == other.argmax(1)).double().mean())


def _seconds(classifier: Classifier, inputs: Tensor) -> float:
    started = time.perf_counter()
    classifier.logits(inputs)
    return time.perf_counter() - started


def _record_path(plain: Classifier, inputs: Tensor) -> Path:
    """Where the figures of this network at this size on this machine are kept."""
    model = plain.model
    asked = [model.model_name, model.model_options, list(inputs.shape[1:]), plain.rows]
    try:
        openvino = version("openvino")
    except PackageNotFoundError:
        openvino = ""
    where = describe_machine() | plain.plan.as_dict() | {"openvino": openvino}
    return cache_folder() / "engines" / f"speeds-{short_digest(repr((asked, sorted(where.items()))))}.json"


def _read(path: Path) -> dict[str, Speed] | None:
    try:
        return {name: Speed(**speed) for name, speed in read_json(path, "record of speeds")["speeds"].items()}
    except StoredFileError:
        return None
