"""A folder of pictures and a network that others trained, or we, in; the best classifier that they make out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from rich.console import Console

from eyebright.classifier import CLASSIFIER, Classifier
from eyebright.data.images import Pictures
from eyebright.data.prepare import Prepare
from eyebright.data.sources import load_data
from eyebright.data.split import make_contract
from eyebright.device import choose_plan, describe_machine
from eyebright.errors import DataError, ModelError, OutputError, RunError, StoredFileError
from eyebright.evaluation.evaluate import Evaluation
from eyebright.evaluation.multi_label import AnyEvaluation, evaluate_any
from eyebright.files import make_folder, write_json
from eyebright.inspection.candidates import draw_transfer, say_transfer
from eyebright.inspection.pictures import sample
from eyebright.inspection.style import save_figure
from eyebright.models.catalog import CATALOG
from eyebright.models.create import create_model, is_file
from eyebright.models.published import WEIGHTS
from eyebright.road import free_folder, load_own_parts, open_classifier, shared_notes
from eyebright.training.progress import Display
from eyebright.training.run import alone
from eyebright.transfer.choose import Search, Transfer
from eyebright.transfer.heads import Kind
from eyebright.transfer.rejecting import MOST, RATE, Calibration, calibrate, look

BACKBONE = "resnet18"  # published, where none is given


@dataclass(frozen=True, eq=False)
class Transferred:
    """What `transfer_from` made.

    Attributes:
        path: the folder.
        transfer: what was tried, and the kept classifier.
        test: its figures on the test part.
        sentences: what there is to say.
        seconds: in all.
    """

    path: Path
    transfer: Transfer
    test: AnyEvaluation
    sentences: tuple[str, ...]
    seconds: float

    @property
    def classifier(self) -> Classifier:
        """The kept one."""
        return self.transfer.classifier

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``transfer.json`` holds them."""
        return {
            "kept": self.transfer.kept,
            "candidates": [candidate.as_dict() for candidate in self.transfer.candidates],
            "left_out": list(self.transfer.left_out),
            "folds": self.transfer.folds,
            "pictures": self.transfer.pictures,
            "calibration": self.transfer.calibration.as_dict(),
            "test": self.test.as_dict(),
            "receipt": self.transfer.receipt.as_dict(),
            "findings": list(self.sentences),
            "seconds": self.seconds,
        }


def transfer_from(
    backbone: str | Path | None = None,
    *,
    data: str | Path,
    weights: str | None = None,
    out: str | Path | None = None,
    minutes: float | None = 5.0,
    size: int | None = None,
    heads: Sequence[Kind] | None = None,
    tune: Sequence[int | None] | None = None,
    single_output: bool = False,
    views: int = 2,
    false_rejection: float | None = RATE,
    seed: int = 0,
    root: str | Path | None = None,
    skip_unreadable: bool = False,
    curation: str | Path | None = None,
    device: str = "auto",
    console: Console | None = None,
) -> Transferred:
    """Makes the best classifier that it can of a trained network and a source of pictures; tests it once.

    Heads on embeddings are tried first, then more and more of the last layers are tuned, while there is time. The
    choice is by validation alone; see `transfer.choose.Search`.

    Args:
        backbone: a run, a classifier file, or the name of a network with published weights; default: resnet18.
        data: SOURCE of pictures.
        weights: of a network named as `backbone`: the name of published ones, or a file.
        out: the folder; default: ``runs/transfer-<source>``. Trainings that are done there are not repeated.
        minutes: after which nothing more is begun; None: no limit.
        size: height and width, in pixels, at which pictures are shown, in the place of the backbone's own.
        heads: which kinds to try; default: all that fit.
        tune: how many of the last layers to tune, None standing for all; default: 2, 5, 10, all. Empty: none.
        single_output: two classes as one sigmoid output.
        views: changed copies of each picture that heads learn from beside it.
        false_rejection: share of pictures of known classes that the kept one may take for none of these; None: it
            answers every picture with one of its classes.
        seed: of cuts, views, first weights, order and dropout.
        root: where published sets are.
        skip_unreadable: whether pictures that cannot be read are left out.
        curation: a file of decisions about pictures, see `data.decisions`.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        console: where progress is shown; default: standard error.

    Raises:
        EyebrightError: what was given will not do.
    """
    started = time.monotonic()
    path = Path(out) if out is not None else _own_folder(f"transfer-{Path(str(data)).stem}")
    _check_folder(path)
    trained = open_backbone(backbone, weights, size=size, device=device)
    splits = load_data(data, root=root, skip_unreadable=skip_unreadable, curation=curation)
    with _folder(path), Display(console or Console(stderr=True)) as screen:
        counts = ", ".join(f"{len(part):,} {name}" for name, part in splits.parts().items())
        screen.say(f"{trained.model.model_name} on {data}: {counts} pictures of {len(splits.classes)} classes → {path}")
        screen.count("checking pictures", sum(len(part) for part in splits.parts().values()))
        contract = make_contract(splits, on_read=screen.tick)
        notes = [*splits.notes, *shared_notes(contract, splits)]
        for note in notes:
            screen.say(f"note: {note}")
        search = Search(
            splits, trained, path / "kept", seed, views,
            kinds=None if heads is None else tuple(heads), tune=None if tune is None else tuple(tune),
            seconds=None if minutes is None else 60 * minutes - (time.monotonic() - started),
            single_output=single_output, rate=false_rejection, begin=screen.begin, say=screen.say,
        )  # fmt: skip
        found = search.run()
        screen.count("evaluating", len(splits.test))
        test = evaluate_any(found.classifier, splits.test, on_batch=screen.reach)
        _add_facts(found, test, trained)
        found.classifier.save(path / CLASSIFIER)
        save_figure(path / "transfer.png", draw_transfer(found, test))
        sentences = (*say_transfer(found, test), *_doubts_on_test(found.classifier, splits.test, test))
        made = Transferred(path, found, test, sentences, time.monotonic() - started)
        about = {
            "backbone": str(backbone or BACKBONE), "data": str(data), "contract": contract.root, "seed": seed,
            "notes": notes, "machine": describe_machine(), "plan": trained.plan.as_dict(),
        }  # fmt: skip
        write_json(path / "transfer.json", about | made.as_dict())
        shutil.rmtree(path / "kept", ignore_errors=True)  # it was for going on
    return made


def calibrate_from(
    where: str | Path,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    false_rejection: float | None = RATE,
    root: str | Path | None = None,
    device: str = "auto",
    console: Console | None = None,
) -> tuple[Path, Calibration]:
    """Gives a trained classifier a temperature, and a way to tell what is none of its classes; written to a new file.

    Args:
        where: a run's folder, or a classifier file.
        data: SOURCE with a part ``"train"`` that it has learned from, and ``"val"`` that it has not; for a run,
            default: its own.
        out: the file; default: ``calibrated.safetensors`` beside the classifier.
        false_rejection: share of pictures of known classes that may be taken for none of these; None: none are.
        root: where published sets are.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        console: where progress is shown; default: standard error.

    Raises:
        DataError: there is no validation part, or pictures can have several labels.
        EyebrightError: what was given will not do.
    """
    path = Path(where)
    classifier = open_classifier(path, device=device)
    if classifier.multi_label:
        raise DataError(
            f"{where} answers with several labels for a picture",
            expected="a classifier of one label a picture",
            remedy="use it as it is",
        )
    if data is None and not path.is_dir():
        raise DataError(
            f"no pictures were named to calibrate {where} with",
            expected="--data SOURCE with train and val; only a run knows the data that it was trained on",
            remedy="add --data and a name, folder or archive",
        )
    target = Path(out) if out is not None else (path if path.is_dir() else path.parent) / "calibrated.safetensors"
    parts = load_own_parts(path, data, root=root)
    if "val" not in parts:
        raise DataError(
            f"there are no pictures of validation to calibrate {where} on",
            expected="pictures that it has not learned from, and that are not its test part",
            remedy="train with data.val_fraction=0.1, or give --data a source with train and val",
        )
    train, val = parts["train"], parts["val"]
    if len(train) > MOST:
        train = train.select(sample(MOST, len(train), 0))
    with Display(console or Console(stderr=True)) as screen:
        screen.count("looking at pictures", len(train) + len(val))
        learned, judged = (look(classifier, part, screen.tick) for part in (train, val))
        screen.count("choosing by what to tell strangers")
        found = calibrate(classifier, learned, [(learned, judged)], false_rejection)
    classifier.save(target)
    return target, found


def open_backbone(
    where: str | Path | None = None, weights: str | None = None, *, size: int | None = None, device: str = "auto"
) -> Classifier:
    """A trained network with its Prepare.

    Args:
        where: a run, a classifier file, or the name of a network; default: resnet18.
        weights: of a network that was named: the name of published ones (default: ``"imagenet"``), or a file.
        size: height and width, in pixels, of pictures, in the place of its own.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises:
        ModelError: there are no such weights, or a file of weights for a network whose preprocessing nobody has said.
        DownloadError: published weights are neither here nor could they be fetched.
        StoredFileError: it is no classifier, or damaged.
    """
    name = str(where or BACKBONE)
    published = WEIGHTS.get(name, {})
    if weights is not None and name not in CATALOG:
        raise ModelError(
            f"weights for {name}, which is no network's name",
            expected="--weights together with a network, such as resnet18; a run or a classifier has its own",
            remedy="leave --weights out",
        )
    if weights is not None and weights not in published and is_file(weights):
        backbone = _of_file(name, weights, device)
    elif not Path(name).exists() and (published or weights is not None):
        backbone = Classifier.published(name, weights or next(iter(published)), device=device)
    else:
        backbone = open_classifier(name, device=device)
    if size is not None:
        backbone.prepare = backbone.prepare.model_copy(update={"resize": size, "crop": size})
        backbone.model.check_input_size(size, size)
    return backbone


def _of_file(name: str, weights: str, device: str) -> Classifier:
    """A file of weights: a classifier says how pictures are prepared; else it is as for the published weights."""
    with suppress(StoredFileError):
        return Classifier.load(weights, device=device)
    if not (known := WEIGHTS.get(name)):
        raise ModelError(
            f"{weights} holds weights for {name}, but not how pictures are prepared for them",
            expected="a classifier file or a run, which say so; or a network with published weights, for their way",
            remedy="save it as a classifier: eyebright.Classifier(model, classes, prepare).save(FILE)",
        )
    model = create_model(name, weights=weights)
    prepare: Prepare = next(iter(known.values())).prepare
    classes = tuple(f"class {number}" for number in range(model.num_classes))
    return Classifier(model, classes, prepare, {"origin": weights}, choose_plan(device, training=False))


def _add_facts(found: Transfer, test: AnyEvaluation, backbone: Classifier) -> None:
    """What travels with the classifier: where it came from, and what it is worth."""
    origin = {key: backbone.facts[key] for key in ("origin", "licence", "recipe") if key in backbone.facts}
    found.classifier.facts |= {
        "transfer": {"kept": found.kept, "backbone": backbone.model.model_name, "pictures": found.pictures} | origin,
        "metrics": {"val_accuracy": found.best.evaluation.accuracy, "test_accuracy": test.accuracy},
    }


def _doubts_on_test(classifier: Classifier, pictures: Pictures, test: AnyEvaluation) -> list[str]:
    """How honest the kept one's probabilities are on test, and how much of it is rejected."""
    if not isinstance(test, Evaluation):
        return []
    said = f"calibration error on test {test.calibration_error:.1%}"
    if classifier.rejection is not None:
        seen = look(classifier, pictures, keep=False)
        scores = classifier.rejection(torch.from_numpy(seen.logits), torch.from_numpy(seen.embeddings))
        share = float((scores > classifier.rejection.options.threshold).float().mean())
        said += f"; {share:.1%} of it is called none of these"
    return [said]


def _own_folder(name: str) -> Path:
    """``runs/<name>`` where nothing is, or a transfer that was broken off; else the next free one."""
    path = free_folder(name)
    begun = [one for one in sorted(path.parent.glob(f"{name}*")) if (one / "kept").is_dir()]
    unfinished = [one for one in begun if not (one / "transfer.json").exists()]
    return unfinished[-1] if unfinished else path


def _check_folder(path: Path) -> None:
    if (path / "recipe.toml").exists():
        raise RunError(
            f"there is a run in {path}",
            expected="a folder that does not exist yet, or one whose transfer was broken off",
            remedy="choose another folder with --out",
        )
    if (path / "transfer.json").exists():
        raise RunError(
            f"there is a finished transfer in {path}",
            expected="a folder that does not exist yet, or one whose transfer was broken off",
            remedy="choose another folder with --out",
        )
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file", expected="a folder", remedy="choose another place with --out")


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    """The folder, made and kept from other processes."""
    make_folder(path / "kept")
    with alone(FileLock(path / ".lock"), path, "at work in"):
        yield
