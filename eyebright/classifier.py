"""A classifier: a network with its weights, the class names and the Prepare it was trained with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from eyebright.data.decode import decode_file, to_channels
from eyebright.data.images import Pixels
from eyebright.data.prepare import Prepare
from eyebright.device import Plan, choose_plan
from eyebright.errors import DataError, EngineError, EyebrightError
from eyebright.files import not_a
from eyebright.layers.network import Network
from eyebright.layers.rejection import Rejection, RejectionOptions
from eyebright.models.create import create_model
from eyebright.models.published import find_weights
from eyebright.models.weights import fetch_weights
from eyebright.tensors import read_safetensors, with_prefix, write_safetensors

FORMAT_VERSION = 2  # 1 has no temperature, rejection or memory
CLASSIFIER = "classifier.safetensors"  # its name in the folder of a run
PREFIXES = ("model.", "rejection.", "memory.")  # of its tensors
CHUNK = 64  # pictures that are held in memory at a time
THRESHOLD = 0.5  # from which on a probability means yes, where a picture can have several labels
ROWS = 16  # pictures that are computed together on the CPU, at the least: large ones are no faster in larger batches,
MOST_PIXELS = 2**17  # but small ones are, up to about so many pixels: weights are read less often

NONE = "none of these"  # what is answered for a picture of none of the classes

Picture = str | Path | Pixels | Image.Image


def decide(probabilities: NDArray[np.floating[Any]], thresholds: Sequence[float] | None = None) -> NDArray[np.int64]:
    """The answers, `[N]`: the most probable class, of equal ones the first; of two classes by the threshold.

    Args:
        probabilities: `[N, K]`.
        thresholds: of two classes one: from which probability on the second is the answer; others do not matter here.
    """
    if thresholds is not None and len(thresholds) == 1:
        return (probabilities[:, 1] >= thresholds[0]).astype(np.int64)
    answers: NDArray[np.int64] = probabilities.argmax(axis=1)
    return answers


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one picture.

    Attributes:
        name: of the picture.
        classes: class names in order.
        probabilities: float `[K]`, adding up to 1; or, where a picture can have several labels, each by itself.
        known: whether it looks like one of the classes, as far as the classifier can tell: see `layers.rejection`.
        thresholds: from which probability on the answer is yes, `[K]`; of two classes `[1]`, for the second; None: one
            half.
    """

    name: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...] = field(repr=False)
    known: bool = True
    thresholds: tuple[float, ...] | None = None

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The most probable classes with their probabilities, best first."""
        order = sorted(range(len(self.classes)), key=lambda i: -self.probabilities[i])[:count]
        return [(self.classes[i], self.probabilities[i]) for i in order]

    def above(self, threshold: float | None = None) -> list[tuple[str, float]]:
        """The classes at least that probable with their probabilities, best first; there may be none.

        Args:
            threshold: 0…1; None: each class's own.
        """
        given = [THRESHOLD if threshold is None else threshold] * len(self.classes)
        if threshold is None and self.thresholds is not None and len(self.thresholds) == len(self.classes):
            given = list(self.thresholds)
        least = dict(zip(self.classes, given, strict=True))
        return [(name, share) for name, share in self.top(len(self.classes)) if share >= least[name]]

    @property
    def best(self) -> str:
        """The most probable class, of two the one that the threshold says; or "none of these"."""
        if not self.known:
            return NONE
        return self.classes[int(decide(np.array([self.probabilities]), self.thresholds)[0])]

    def __str__(self) -> str:
        return (
            f"{self.name}: "
            + ("" if self.known else f"{NONE}; if one of them, ")
            + ", ".join(f"{name} {share:.1%}" for name, share in self.top(3))
        )


@dataclass(frozen=True)
class Engine:
    """What answers in the place of a classifier's network; see `eyebright.engines`.

    Attributes:
        name: of the engine, and where it is not in the name, the number format.
        answer: normalised pictures, float32 `[n · rows, C, H, W]`, channels last in memory → logits `[n · rows, K]`.
        rows: pictures that it computes together.
    """

    name: str
    answer: Callable[[Tensor], Tensor]
    rows: int = ROWS


@dataclass(frozen=True, eq=False)
class Memory:
    """What a head on embeddings has learned from: with it, it can be taught more (see `transfer.teaching`).

    Attributes:
        kind: of the head.
        setting: that was chosen for it.
        embeddings: float32 `[N, D]`.
        labels: int64 `[N]`, or `[N, K]` where a picture can have several.
        contents: uint8 `[N, 32]`: SHA-256 of each picture; of several rows of one, the first is the picture as it is,
            the others are changed copies.
    """

    kind: str
    setting: float
    embeddings: Tensor
    labels: Tensor
    contents: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """By name."""
        return {"embeddings": self.embeddings, "labels": self.labels, "contents": self.contents}


@dataclass(eq=False)
class Classifier:
    """A network, its class names and its Prepare: what is saved, shipped, loaded and called.

    Attributes:
        model: the network; with two classes, one label a picture, it may have one output, the logit of the second.
        classes: class names in order.
        prepare: what is done to every picture first.
        facts: what else travels with the weights: licence, origin, metrics, class_ids, multi_label. Plain values.
        plan: device and number format of its answers.
        engine: what answers in the place of `model`; see `eyebright.use_engine`.
        temperature: by which logits are divided, so that probabilities mean what they say (Guo et al. 2017).
        rejection: tells what is none of the classes; None: everything is answered.
        thresholds: from which probability on the answer is yes, where that is not one half: `[K]` where a picture can
            have several labels; `[1]`, of the second class, for two.
        memory: what its head has learned from; None: it cannot be taught more.
    """

    model: Network
    classes: tuple[str, ...]
    prepare: Prepare
    facts: dict[str, Any] = field(default_factory=dict)
    plan: Plan = field(default_factory=partial(choose_plan, training=False))
    engine: Engine | None = None
    temperature: float = 1.0
    rejection: Rejection | None = None
    thresholds: tuple[float, ...] | None = None
    memory: Memory | None = None

    def __post_init__(self) -> None:
        outputs = self.model.head.out_features
        if outputs != len(self.classes) and ((outputs, len(self.classes)) != (1, 2) or self.multi_label):
            raise DataError(
                f"a network with {outputs} outputs for {len(self.classes)} classes",
                expected="one output for each class, or a single one for two classes",
                remedy=f"call model.replace_head({len(self.classes)}) and train it",
            )
        ids = self.facts.get("class_ids", [])
        if ids and (not isinstance(ids, list) or not all(isinstance(i, str) for i in ids) or len(ids) != outputs):
            raise DataError(
                f"class_ids that are no list of {outputs} texts",
                expected="one for each class, or none",
                remedy="leave class_ids out of the facts",
            )
        wanted = len(self.classes) if self.multi_label else 1
        if self.thresholds is not None and (len(self.thresholds) != wanted or (wanted == 1 and len(self.classes) != 2)):
            raise DataError(
                f"{len(self.thresholds)} thresholds for {len(self.classes)} classes",
                expected="one for each label, or a single one for two classes",
                remedy="leave them out: one half is then meant",
            )
        self.model = self.plan.place_model(self.model).eval()  # type: ignore[assignment]

    @property
    def class_ids(self) -> tuple[str, ...]:
        """What data sets call the same classes, in order, for example ``"n01440764"``; often none."""
        return tuple(self.facts.get("class_ids", ()))

    @property
    def multi_label(self) -> bool:
        """Whether a picture can have several labels: each output is then answered for itself, by a sigmoid."""
        return self.facts.get("multi_label") is True

    @property
    def engine_name(self) -> str:
        """What answers: ``"float32"`` or ``"bfloat16"`` where it is the network itself, else the engine's name."""
        return self.plan.number_format if self.engine is None else self.engine.name

    @property
    def rows(self) -> int:
        """Pictures that the network computes together on the CPU: it depends on nothing but their size as prepared."""
        if (size := self.prepare.output_size) is None:
            return ROWS
        rows = 4 * ROWS
        while rows > ROWS and rows * size[0] * size[1] > MOST_PIXELS:
            rows //= 2
        return rows

    def __call__(self, pictures: Picture | Iterable[Picture]) -> Any:
        """Classifies one picture, or several.

        Args:
            pictures: a path, a PIL image, or pixels uint8 `[H, W, C]`; or a sequence of those.

        Returns:
            A `Prediction`, or a list of them.

        Raises:
            PictureError: a file cannot be decoded.
            InputSizeError: a picture is too small for the network.
        """
        if isinstance(pictures, str | Path | Image.Image | np.ndarray):
            return self.predict([pictures])[0]
        return self.predict(list(pictures))

    def predict(self, pictures: Sequence[Picture]) -> list[Prediction]:
        """Classifies pictures; see `__call__`."""
        if not pictures:
            return []
        rows: list[Tensor] = []
        known: list[bool] = []
        for start in range(0, len(pictures), CHUNK):
            prepared = [self.prepare(self._pixels(picture)) for picture in pictures[start : start + CHUNK]]
            for group in _same_size(prepared):
                logits, familiar = self.judge(group)
                rows += list(self.probabilities(logits))
                known += familiar.tolist()
        return [
            Prediction(_name(picture, index), self.classes, tuple(row.tolist()), familiar, self.thresholds)
            for index, (picture, row, familiar) in enumerate(zip(pictures, rows, known, strict=True))
        ]

    def _pixels(self, picture: Picture) -> Pixels:
        if isinstance(picture, np.ndarray):
            if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
                raise DataError(
                    f"a picture as an array of {picture.dtype} with shape {list(picture.shape)}",
                    expected="uint8 [H, W], [H, W, 1] or [H, W, 3]",
                    remedy="scale to 0…255 and convert with .astype('uint8')",
                )
            return picture[..., None] if picture.ndim == 2 else picture
        if isinstance(picture, Image.Image):
            return to_channels(picture)
        return decode_file(Path(picture), self.prepare.at_least)

    @torch.no_grad()  # with inference_mode autocast rounds all weights anew for every piece, now only frozen ones
    def logits(self, inputs: Tensor) -> Tensor:
        """Logits of prepared pictures.

        A picture's logits do not depend on the pictures beside it: on the CPU all batches are cut into pieces of one
        size, and the last is filled up, because products of more or fewer rows are summed in another order.

        Args:
            inputs: float32 `[N, C, H, W]`, normalised.

        Returns:
            float32 `[N, K]` on the CPU, divided by the temperature. A network with a single output z counts as two
            with logits 0 and z.

        Raises:
            InputSizeError: the pictures are too small for the network, or not of the one size that it takes.
        """
        return self._cooled(self.raw_logits(inputs))

    @torch.no_grad()
    def raw_logits(self, inputs: Tensor) -> Tensor:
        """Logits of prepared pictures before the temperature; see `logits`."""
        self.model.check_input_size(*inputs.shape[-2:])
        if self.engine is not None:
            return two_logits(self._by_rows(inputs, self.engine.answer, self.engine.rows))
        return two_logits(self._by_rows(inputs, self._in_pieces(self.model), self.rows))

    @torch.no_grad()
    def judge(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of prepared pictures, and which of them look like one of the classes, bool `[N]`; see `logits`."""
        if self.rejection is None:
            return self.logits(inputs), torch.ones(len(inputs), dtype=torch.bool)
        embeddings = None
        if not self.rejection.needs_embeddings:
            raw = self.raw_logits(inputs)
        elif self.engine is not None:  # it gives no embeddings
            raw, embeddings = self.raw_logits(inputs), self.embeddings(inputs)
        else:
            outputs, embeddings = self._watched(inputs)
            raw = two_logits(outputs)
        return self._cooled(raw), self.rejection(raw, embeddings) <= self.rejection.options.threshold

    def _cooled(self, logits: Tensor) -> Tensor:
        return logits if self.temperature == 1 else logits / self.temperature

    @torch.no_grad()
    def embeddings(self, inputs: Tensor) -> Tensor:
        """What the head is given of prepared pictures.

        It is computed by the network itself, whichever engine answers; a picture's does not depend on those beside it.

        Args:
            inputs: float32 `[N, C, H, W]`, normalised.

        Returns:
            float32 `[N, D]` on the CPU.

        Raises:
            InputSizeError: the pictures are too small for the network, or not of the one size that it takes.
        """
        return self._watched(inputs)[1]

    def _watched(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The network's own outputs, and embeddings."""
        self.model.check_input_size(*inputs.shape[-2:])
        kept: list[Tensor] = []

        def keep(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            kept.append(given[0].flatten(1))

        hook = self.model.standing_head.register_forward_pre_hook(keep)
        try:
            outputs = self._by_rows(inputs, self._in_pieces(self.model), self.rows)
        finally:
            hook.remove()
        return outputs, torch.cat(kept)[: len(inputs)].float().cpu()

    def _in_pieces(self, answer: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The same function, on the CPU applied to pieces of `rows` pictures."""
        if self.plan.device != "cpu":
            return answer
        return lambda inputs: torch.cat([answer(piece) for piece in torch.split(inputs, self.rows)])

    def _by_rows(self, inputs: Tensor, answer: Callable[[Tensor], Tensor], rows: int) -> Tensor:
        """Answers float32 on the CPU; the inputs, `[N, C, H, W]`, are filled up to a multiple of `rows`."""
        self.model.eval()
        count = len(inputs)
        missing = -count % rows
        filled = torch.cat([inputs, inputs[-1:].expand(missing, -1, -1, -1)]) if missing else inputs
        with self.plan.arithmetic():
            return answer(self.plan.place_inputs(filled))[:count].float().cpu()

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits `[N, K]` → probabilities, float64: by softmax, or by a sigmoid each where there are several labels."""
        return logits.double().sigmoid() if self.multi_label else probabilities(logits)

    @torch.no_grad()
    def dense_logits(self, inputs: Tensor) -> Tensor:
        """Logits of prepared pictures of any size, averaged over all places; see `Network.score_map`.

        Args:
            inputs: float32 `[N, C, H, W]`, normalised.

        Returns:
            float32 `[N, K]` on the CPU. A network with a single output z counts as two with logits 0 and z.

        Raises:
            InputSizeError: the pictures are smaller than the network was built for.
            EngineError: an engine stands in the network's place, which answers pictures of one size only.
        """
        if self.engine is not None:
            raise EngineError(
                f"the engine '{self.engine_name}' was to be applied densely",
                expected="float32 or bfloat16: the network itself",
                remedy="choose one of these with --engine, or other views",
            )
        self.model.eval()
        with self.plan.arithmetic():
            maps = self.model.score_map(self.plan.place_inputs(inputs))
        return self._cooled(two_logits(maps.float().mean((2, 3))).cpu())

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file: the weights under ``model.``, everything else as JSON in its header.

        Raises:
            OutputError: the file cannot be written; what stood there before is untouched.
        """
        header = {
            "format_version": FORMAT_VERSION,
            "model": self.model.model_name,
            "options": self.model.model_options,
            "classes": list(self.classes),
            "prepare": self.prepare.model_dump(mode="json"),
            **self.facts,
        }
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if self.temperature != 1:
            header["temperature"] = self.temperature
        if self.rejection is not None:
            header["rejection"] = self.rejection.options.model_dump()
            tensors |= {f"rejection.{name}": value for name, value in self.rejection.state_dict().items()}
        if self.thresholds is not None:
            header["thresholds"] = list(self.thresholds)
        if self.memory is not None:
            header["memory"] = {"kind": self.memory.kind, "setting": self.memory.setting}
            tensors |= {f"memory.{name}": value for name, value in self.memory.tensors().items()}
        if header.keys().isdisjoint(("temperature", "rejection", "thresholds", "memory")):
            header["format_version"] = 1
        write_safetensors(Path(path), tensors, "eyebright.classifier", header)

    @classmethod
    def published(cls, name: str, weights: str = "imagenet", *, device: str = "auto") -> Classifier:
        """A network with published weights, their class names and their preprocessing; fetched once.

        Args:
            name: of the network.
            weights: of the weights, see `eyebright.models.published`.
            device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

        Raises:
            ModelError: there are no such weights.
            DownloadError: they could not be fetched.
        """
        found = find_weights(name, weights, or_file=False)
        model = create_model(name, weights=fetch_weights(found))
        facts: dict[str, Any] = {"licence": found.licence, "origin": f"{found.origin}: {found.url}"}
        facts |= {"class_ids": list(found.class_ids), "metrics": {"top1": found.top1, "top5": found.top5}}
        return cls(model, found.classes, found.prepare, facts, choose_plan(device, training=False))

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto") -> Classifier:
        """Reads a classifier file.

        Raises:
            StoredFileError: it is not one, is damaged, or is of a newer format.
        """
        path = Path(path)
        tensors, header = read_safetensors(path, "eyebright.classifier", FORMAT_VERSION)
        plan = choose_plan(device, training=False)
        try:
            with torch.device("meta"):  # shapes only: a header can ask for more memory than there is
                model = create_model(header.pop("model"), **header.pop("options"))
            if strange := [name for name in tensors if not name.startswith(PREFIXES)]:
                raise ValueError(f"it has unknown weights: {', '.join(sorted(strange)[:3])}")
            weights = with_prefix(tensors, "model.")
            check_weights(weights, model.state_dict())
            model.to_empty(device="cpu").load_state_dict(weights)
            classes = header.pop("classes")
            if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
                raise TypeError("its class names are no list of names")
            prepare = Prepare.model_validate(header.pop("prepare"))
            temperature = float(header.pop("temperature", 1))
            rejection, memory = _read_rejection(tensors, header), _read_memory(tensors, header)
            thresholds = header.pop("thresholds", None)
            if thresholds is not None:
                thresholds = tuple(map(float, thresholds))
            return cls(model, tuple(classes), prepare, header, plan, None, temperature, rejection, thresholds, memory)
        except KeyError as error:
            raise not_a(path, "classifier", f"its header lacks {error}") from error
        except (TypeError, RuntimeError, ValueError, EyebrightError) as error:
            reason = error.problem if isinstance(error, EyebrightError) else " ".join(str(error).split())
            raise not_a(path, "classifier", f"its parts do not fit together: {reason}") from error


def _read_rejection(tensors: Mapping[str, Tensor], header: dict[str, Any]) -> Rejection | None:
    given = header.pop("rejection", None)
    if given is None:
        return None
    rejection = Rejection(RejectionOptions.model_validate(given))
    rejection.load_state_dict(with_prefix(tensors, "rejection."))
    return rejection


def _read_memory(tensors: Mapping[str, Tensor], header: dict[str, Any]) -> Memory | None:
    given = header.pop("memory", None)
    if given is None:
        return None
    memory = Memory(str(given["kind"]), float(given["setting"]), **with_prefix(tensors, "memory."))
    if len({len(value) for value in memory.tensors().values()}) != 1:
        raise ValueError("its memory has embeddings, labels and contents of different numbers of pictures")
    return memory


def check_weights(given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Compares names, shapes and number formats of weights with those of a network.

    Raises:
        ValueError: they differ; it says in what.
    """
    for what, names in (("lacks", expected.keys() - given.keys()), ("has unknown", given.keys() - expected.keys())):
        if names:
            raise ValueError(f"it {what} weights: {', '.join(sorted(names)[:3])}{' …' if len(names) > 3 else ''}")
    for name, there in given.items():
        wanted = expected[name]
        if there.shape != wanted.shape or there.dtype != wanted.dtype:
            raise ValueError(
                f"{name} is {there.dtype} {list(there.shape)}, where the network has "
                f"{wanted.dtype} {list(wanted.shape)}"
            )


def two_logits(logits: Tensor) -> Tensor:
    """Logits `[N, 1]` of the second of two classes → logits `[N, 2]` with the same probabilities; others unchanged."""
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits


def probabilities(logits: Tensor) -> Tensor:
    """Softmax of logits `[N, K]`, computed in float64 so that rows add up to 1."""
    return logits.double().softmax(dim=1)


def _name(picture: Picture, index: int) -> str:
    return str(picture) if isinstance(picture, str | Path) else f"picture {index}"


def _same_size(prepared: list[Tensor]) -> Iterable[Tensor]:
    """Neighbours of one size as one batch."""
    start = 0
    for stop in range(1, len(prepared) + 1):
        if stop == len(prepared) or prepared[stop].shape != prepared[start].shape:
            yield torch.cat(prepared[start:stop])
            start = stop
