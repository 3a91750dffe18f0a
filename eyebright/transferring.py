"""A folder of pictures and a network that others trained, or we, in; the best classifier that they make out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from eyebright.classifier import Classifier
from eyebright.data.images import Pictures
from eyebright.data.prepare import Prepare
from eyebright.data.split import make_contract
from eyebright.device import choose_plan
from eyebright.errors import DataError, ModelError, StoredFileError
from eyebright.evaluation.evaluate import Evaluation
from eyebright.evaluation.multi_label import AnyEvaluation, evaluate_any
from eyebright.inspection.candidates import draw_transfer, say_transfer
from eyebright.inspection.pictures import sample
from eyebright.inspection.style import save_figure
from eyebright.inspection.transfer_report import write_transfer_report
from eyebright.models.catalog import CATALOG
from eyebright.models.create import create_model, is_file
from eyebright.models.published import WEIGHTS
from eyebright.road import free_folder, load_own_parts, open_classifier, shared_notes
from eyebright.training.folder import Folder
from eyebright.training.progress import Display
from eyebright.training.recipe import DataSection
from eyebright.transfer.choose import Search, Transfer
from eyebright.transfer.folder import TransferFolder, find_folder
from eyebright.transfer.heads import Kind
from eyebright.transfer.rejecting import MOST, RATE, Calibration, Values, calibrate, look, measure_scores
from eyebright.transfer.sizes import name_size

BACKBONE = "resnet18"  # published, where none is given
SHARED = 0.1  # of validation that may stand in another part, too


@dataclass(frozen=True, eq=False)
class Transferred:
    """What `transfer_from` made.

    Attributes:
        folder: where it is.
        transfer: what was tried, and the kept classifier.
        test: its figures on the test part.
        scores: how strange each picture of test is to it, float32 `[N]`; None: it rejects none.
        seconds: in all.
    """

    folder: TransferFolder
    transfer: Transfer
    test: AnyEvaluation
    scores: Values | None
    seconds: float

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    @property
    def classifier(self) -> Classifier:
        """The kept one."""
        return self.transfer.classifier

    @property
    def sentences(self) -> tuple[str, ...]:
        """All that there is to say."""
        opened = len(self.folder.environment["test_openings"])
        times = "once" if opened == 1 else f"{opened} times"
        return (
            *say_transfer(self.transfer), f"test, opened {times}: {self.test}",
            *self.transfer.calibration.sentences(), *self._on_test(), *self.transfer.receipt.sentences(),
        )  # fmt: skip

    def _on_test(self) -> list[str]:
        """How honest the kept one's probabilities are on test, and how much of it is rejected."""
        if not isinstance(self.test, Evaluation):
            return []
        said = f"calibration error on test {self.test.calibration_error:.1%}"
        if self.scores is not None and self.classifier.rejection is not None:
            share = (self.scores > self.classifier.rejection.options.threshold).mean()
            said += f"; {share:.1%} of it is called none of these"
        return [said]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return self.tried() | {
            "test": self.test.as_dict(), "receipt": self.transfer.receipt.as_dict(), "seconds": self.seconds
        }  # fmt: skip

    def tried(self) -> dict[str, Any]:
        """Plain values of what stands in no other file than ``transfer.json``."""
        return {
            "kept": self.transfer.kept,
            "candidates": [candidate.as_dict() for candidate in self.transfer.candidates],
            "left_out": list(self.transfer.left_out),
            "folds": self.transfer.folds,
            "pictures": self.transfer.pictures,
            "sizes": {one.name: one.accuracy for one in self.transfer.sizes},
            "calibration": self.transfer.calibration.as_dict(),
            "findings": say_transfer(self.transfer),
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
        out: the folder; default: ``runs/transfer-<source>``. Trainings in folds that are done there are not
            repeated.
        minutes: after which nothing more is begun; None: no limit.
        size: height and width, in pixels, at which pictures are shown; default: the backbone's own, or 1.5 times or
            twice that: the smallest within one standard error of the best on validation.
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
    section = DataSection(
        source=str(data), skip_unreadable=skip_unreadable, curation=str(Path(curation).absolute()) if curation else None
    )
    options = {
        "backbone": str(backbone or BACKBONE), "weights": weights, "size": size,
        "heads": None if heads is None else list(heads),
        "tune": None if tune is None else ["all" if last is None else last for last in tune],
        "single_output": single_output or None, "views": views, "false_rejection": false_rejection, "minutes": minutes,
        "seed": seed, "skip_unreadable": skip_unreadable or None, "curation": section.curation,
    }  # fmt: skip
    asked = {"data": section.source} | {name: value for name, value in options.items() if value is not None}
    path = Path(out) if out is not None else _own_folder(asked)
    folder = TransferFolder(path)
    folder.check_free(asked)
    trained = open_backbone(backbone, weights, size=size, device=device)
    splits = section.load(root)
    with Display(console or Console(stderr=True)) as screen:
        counts = ", ".join(f"{len(part):,} {name}" for name, part in splits.parts().items())
        screen.say(f"{trained.model.model_name} on {data}: {counts} pictures of {len(splits.classes)} classes → {path}")
        screen.count("checking pictures", sum(len(part) for part in splits.parts().values()))
        contract = make_contract(splits, on_read=screen.tick)
        notes = [*splits.notes, *shared_notes(contract, splits)]
        for note in notes:
            screen.say(f"note: {note}")
        search = Search(
            splits, trained, folder.kept, seed, views,
            kinds=None if heads is None else tuple(heads), tune=None if tune is None else tuple(tune),
            seconds=None if minutes is None else 60 * minutes - (time.monotonic() - started),
            single_output=single_output, rate=false_rejection, sizes=size is None, begin=screen.begin, say=screen.say,
        )  # fmt: skip
        with folder.begun(seed, trained.plan, asked, notes):
            folder.write_contract(contract)
            found = search.run()
            folder.open_test("transfer")
            screen.count("evaluating", len(splits.test))
            test = evaluate_any(found.classifier, splits.test, on_batch=screen.reach)
            scores = measure_scores(found.classifier, splits.test)
            _add_facts(found, test, trained)
            found.classifier.save(folder.classifier_path)
            folder.write_receipt(found.receipt)
            folder.write_evaluation(test.as_dict())
            save_figure(folder.figure_path, draw_transfer(found, test))
            made = Transferred(folder, found, test, scores, time.monotonic() - started)
            values = {
                "asked": asked | {"views": search.views}, "data": section.model_dump(exclude_none=True),
                "size": name_size(found.classifier.prepare), "seconds": made.seconds,
            } | made.tried()  # fmt: skip
            screen.count("writing the report")
            write_transfer_report(folder, values, found.classifier, splits.test, test, scores)
            folder.finish(values)
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
        where: a run's or a transfer's folder, or a classifier file.
        data: SOURCE with a part ``"train"`` that it has learned from, and ``"val"`` that it has not; for a run,
            default: its own.
        out: the file; default: ``calibrated.safetensors`` beside the classifier.
        false_rejection: share of pictures of known classes that may be taken for none of these; None: none are.
        root: where published sets are.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        console: where progress is shown; default: standard error.

    Raises:
        DataError: there is no validation part, or it has been learned from, or is the test part; or pictures can have
            several labels.
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
    if (folder := find_folder(path)) is not None:
        _check_new(folder, val)
    if len(train) > MOST:
        train = train.select(sample(MOST, len(train), 0))
    with Display(console or Console(stderr=True)) as screen:
        screen.count("looking at pictures", len(train) + len(val))
        learned, judged = (look(classifier, part, screen.tick) for part in (train, val))
        screen.count("choosing by what to tell strangers")
        found = calibrate(classifier, learned, [(learned, judged)], false_rejection)
    classifier.save(target)
    return target, found


def _check_new(folder: Folder, val: Pictures) -> None:
    """Whether these pictures are neither among those that a folder's classifier has learned from nor among its test's.

    A few that stand in two parts are said elsewhere.
    """
    contract = folder.contract
    for part in (*folder.learned_from, "test"):
        count = len(contract.which_stand_in([part], val))
        if count > len(val) * SHARED:
            what = "are its test part" if part == "test" else "have been learned from"
            raise DataError(
                f"{count} of the {len(val)} pictures of validation to calibrate {folder.path} on {what}",
                expected="pictures that it has neither learned from nor is tested on; a transfer's classifier is "
                "calibrated already",
                remedy="give --data another source with train and val, or transfer again with another "
                "--false-rejection",
            )


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


def _own_folder(asked: dict[str, Any]) -> Path:
    """``runs/transfer-<source>`` where nothing is, or the same transfer was broken off; else the next free one."""
    free = free_folder(f"transfer-{Path(asked['data']).stem}")
    for path in sorted(free.parent.glob("transfer-*")):
        folder = TransferFolder(path)
        with suppress(StoredFileError, OSError):
            if folder.broken_off and not folder.differences(asked) and not folder.in_use:
                return path
    return free
