"""The whole main road in one call: pictures and a recipe in, a trained, evaluated, explained classifier out."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from eyebright.classifier import CLASSIFIER, Classifier
from eyebright.data.amend import amend, apply_decisions
from eyebright.data.decisions import read_decisions
from eyebright.data.images import ImageFiles, Pictures
from eyebright.data.labels import is_multi_label
from eyebright.data.sources import load_parts, load_pictures
from eyebright.data.split import Contract, Splits, make_contract
from eyebright.device import Plan, choose_plan, nearest_plan
from eyebright.doctor.answers import ask
from eyebright.doctor.diagnosis import Diagnosis
from eyebright.doctor.examine import Watch, examine
from eyebright.doctor.history import History, read_history
from eyebright.engines.build import INT8, check_engine
from eyebright.engines.choose import use_engine
from eyebright.errors import (
    DataError,
    DataWarning,
    EyebrightError,
    ModelError,
    RecipeError,
    RunError,
    StoredFileError,
    TrainingDivergedError,
)
from eyebright.evaluation.evaluate import CENTRE, Evaluation
from eyebright.evaluation.multi_label import AnyEvaluation, evaluate_any
from eyebright.evaluation.views import Views
from eyebright.inspection.comparison import Comparison, Trained, check_same, compare_trained
from eyebright.inspection.filters import Filters, compare_filters
from eyebright.inspection.finding import many
from eyebright.inspection.pictures import sample
from eyebright.inspection.report import write_report
from eyebright.inspection.transfer_report import write_transfer_report
from eyebright.lab.experiment import Result, Settings
from eyebright.lab.experiments import do_experiment, find_experiment
from eyebright.models.catalog import CATALOG
from eyebright.models.published import WEIGHTS
from eyebright.training.estimate import Estimate, in_words
from eyebright.training.fit import Fit
from eyebright.training.folder import Folder
from eyebright.training.observe import Observation
from eyebright.training.progress import Display
from eyebright.training.recipe import Recipe, load_recipe
from eyebright.training.run import Run
from eyebright.training.tensorboard import TensorBoard
from eyebright.transfer.folder import TransferFolder, find_folder, open_folder, open_run
from eyebright.transfer.rejecting import measure_scores


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop, by Ctrl-C, SIGTERM or SIGHUP, and has: it can be resumed."""

    def __init__(self, path: Path):
        super().__init__(f"interrupted; go on with: eyebright train --resume {path}")


def train(
    recipe: str | Path | Recipe,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    changes: Iterable[str] = (),
    root: str | Path | None = None,
    skip_unreadable: bool = False,
    curation: str | Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    tensorboard: bool = False,
    console: Console | None = None,
) -> Run:
    """Trains, evaluates and reports.

    Args:
        recipe: a name, a TOML file, or a Recipe.
        data: SOURCE of the pictures; default: the recipe's own.
        out: the run's folder; default: ``runs/<recipe>``, with a number where that is taken.
        seed: of initialisation, order, augmentation and dropout.
        changes: ``"training.epochs=3"`` and the like.
        root: where published sets are.
        skip_unreadable: whether pictures that cannot be read are left out; the recipe's `[data]` keeps it.
        curation: a file of decisions about pictures, see `data.decisions`; the recipe's `[data]` keeps where it is.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        workers: threads that prepare batches.
        tensorboard: whether to write TensorBoard's event files into the run.
        console: where progress is shown; default: standard error.

    Returns:
        The run: its folder holds classifier, metrics and report.

    Raises:
        EyebrightError: what was given will not do.

    Example::

        run = eyebright.train("lenet5-digits", out="runs/first")
        run.evaluation["top1"]
    """
    chosen = choose_recipe(recipe, data, changes, skip_unreadable, curation)
    path = Path(out) if out is not None else free_folder(chosen.name)
    plan = chosen.plan(device)
    with (
        Display(console or Console(stderr=True)) as screen,
        _stoppable(Run(path)) as stop,
        Run.begin(path, chosen, seed, plan) as run,
    ):
        try:
            return _travel(run, plan, root, workers, tensorboard, screen, stop)
        except EyebrightError:
            if not run.steps():
                run.discard()
            raise


def choose_recipe(
    recipe: str | Path | Recipe,
    data: str | Path | None,
    changes: Iterable[str],
    skip_unreadable: bool = False,
    curation: str | Path | None = None,
) -> Recipe:
    """The recipe with its changes and its data; where its decisions are is kept as an absolute path, for resuming.

    Raises:
        RecipeError: it is not right, or names no data and none are given.
    """
    changes = [*changes, *([f"data.source={str(data)!r}"] if data is not None else [])]
    if skip_unreadable:
        changes.append("data.skip_unreadable=true")
    if curation is not None:
        changes.append(f"data.curation={json.dumps(str(Path(curation).absolute()), ensure_ascii=False)}")
    chosen = load_recipe(recipe, changes)
    if not chosen.data.source:
        raise RecipeError(
            f"recipe '{chosen.name}' names no data",
            expected="a source of pictures: a name, a folder of class folders, or an archive",
            remedy="add --data SOURCE",
        )
    return chosen


def free_folder(name: str) -> Path:
    """``runs/<name>``, or the first of ``runs/<name>-2``, ``-3``, … that is not there."""
    base = Path("runs") / re.sub(r"[^\w.-]+", "-", name)
    number = 2
    path = base
    while path.exists():
        path, number = base.with_name(f"{base.name}-{number}"), number + 1
    return path


def resume(
    path: str | Path,
    *,
    root: str | Path | None = None,
    workers: int | None = None,
    accept_differences: bool = False,
    tensorboard: bool = False,
    console: Console | None = None,
) -> Run:
    """Goes on with an interrupted run, exactly where its newest checkpoint is; a finished run is returned as it is.

    Args:
        path: the run's folder.
        root: where published sets are.
        workers: threads that prepare batches.
        accept_differences: go on although this machine computes differently from the one that the run began on, or
            lacks its device or compiler: from here on the run goes by a plan of this machine, and its report says so.
            The result is not what the uninterrupted run would have given, bit for bit.
        tensorboard: whether to write TensorBoard's event files into the run.
        console: where progress is shown; default: standard error.

    Raises:
        RunError: it is not a run, it is being trained by another process, or this machine computes differently.
        DataError: the pictures are not those that the run began with.
    """
    run = open_run(path)
    with Display(console or Console(stderr=True)) as screen, _stoppable(run) as stop, run.locked():
        if run.concluded:
            screen.say(f"{path} is finished: see {run.report_path}")
            return run
        here = nearest_plan(run.first_plan if accept_differences else run.plan)
        if differences := here.tell_differences(run.plan):
            if not accept_differences:
                raise RunError(
                    f"this machine would go on with {path} differently: {differences}",
                    expected="the same device, threads, torch version and C++ compiler as when the run began",
                    remedy="resume it there, or add --accept-differences: the result is then not bit-equal",
                )
            screen.say(f"going on differently: {differences}")
        return _travel(run, here, root, workers, tensorboard, screen, stop)


def evaluate_source(
    classifier_or_run: str | Path,
    *,
    data: str | Path | None = None,
    part: str = "test",
    root: str | Path | None = None,
    device: str = "auto",
    views: Views = CENTRE,
    weights: str | None = None,
    skip_unreadable: bool = False,
    curation: str | Path | None = None,
    engine: str = "auto",
    calibrate: str | Path | None = None,
) -> AnyEvaluation:
    """Evaluates a run, a transfer or a classifier on a part of a source.

    Args:
        classifier_or_run: a run's or a transfer's folder, a classifier file, or with `weights` the name of a network.
        data: SOURCE; for a run, default: the data that it was trained on, parted in the same way.
        part: ``"train"``, ``"val"`` or ``"test"``. A source of one part that is not the run's own is taken whole.
        root: where published sets are.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        views: how each picture is shown; see `evaluation.views`.
        weights: the name of published weights.
        skip_unreadable: whether pictures that cannot be read are left out; of a run's own data also where its recipe
            says so.
        curation: a file of decisions about the pictures evaluated on. A run's own data are parted as they were in
            training, with its recipe's decisions; then these are applied. The run keeps its own figures.
        engine: what answers, see `use_engine`; the run keeps figures of its network itself only.
        calibrate: SOURCE of pictures for the engine ``openvino-int8``; for a run, default: its training part.

    Raises:
        DataError: the source lacks the part, has classes that the classifier does not know, or the decisions are not
            about its pictures.
        EngineError: there is no such engine, or it cannot work here.
    """
    path = Path(classifier_or_run)
    if engine != "auto":
        check_engine(engine, choose_plan(device, training=False))  # before anything slow

    def measure(classifier: Classifier, pictures: Pictures) -> AnyEvaluation:
        with Display(Console(stderr=True)) as screen:
            if views.crops != "dense" or engine != "auto":  # an engine answers pictures of one size
                more = calibration_pictures(path, calibrate, root=root) if engine == INT8 else None
                classifier = use_engine(classifier, engine, pictures=pictures, calibrate=more, say=screen.say)
            screen.count("evaluating", len(pictures))
            return evaluate_any(classifier, pictures, views=views, on_batch=screen.reach)

    def find(source: str | Path) -> Pictures:
        parts, _ = amend(load_parts(source, root=root), skip_unreadable=skip_unreadable, curation=curation)
        return _find_part(parts, part, str(source))

    folder = None if weights is not None else find_folder(path)
    if folder is None:
        if data is None:
            raise DataError(
                f"no data were named to evaluate {path} on",
                expected="--data SOURCE; only a run or a transfer knows the data that it was trained on",
                remedy="add --data and a name, folder or archive",
            )
        pictures = find(data)
        return measure(open_classifier(path, weights, device=device), pictures)
    classifier = folder.classifier(device)
    own = folder.data
    if data is not None and str(data) != own.source:
        pictures = find(data)
        _warn_of_trained(folder, pictures, str(data))
        return measure(classifier, pictures)
    splits = folder.data.load(root, skip_unreadable=skip_unreadable)
    parts = splits.parts()
    if curation is not None:
        applied = read_decisions(own.curation) if own.curation is not None else []
        further = [decision for decision in read_decisions(curation) if decision not in applied]
        parts = apply_decisions(parts, further, Path(curation).parent)
    pictures = _find_part(parts, part, own.source)
    changes = folder.contract.changes(make_contract(splits))
    if changes:
        warnings.warn(
            f"the pictures of {own.source} are not those that {path} was trained with: {'; '.join(changes)}. "
            "These figures are of today's pictures; those that it keeps are not touched",
            DataWarning,
            stacklevel=2,
        )
    if part != "test":
        _warn_of_learned(folder, part)
        return measure(classifier, pictures)
    with folder.locked():
        folder.open_test("evaluate")
        evaluation = measure(classifier, pictures)
        as_trained = evaluation.engine == classifier.engine_name
        if not changes and views == CENTRE and curation is None and as_trained:
            folder.write_evaluation(evaluation.as_dict())
    return evaluation


def pictures_of(data: str | Path, *, root: str | Path | None = None) -> Pictures:
    """The test part of a source; a source of one part is taken whole.

    Raises:
        DataError: the source lacks a test part.
    """
    return _find_part(load_parts(data, root=root), "test", str(data))


def other_pictures(data: str | Path, *, root: str | Path | None = None) -> Pictures:
    """The training part of a source, or all pictures of one that has no classes: to be looked at, not to be answered.

    Raises:
        DataError: there are none.
    """
    try:
        return load_parts(data, root=root)["train"]
    except (DataError, KeyError):
        return load_pictures(data, root=root)


def open_classifier(where: str | Path, weights: str | None = None, *, device: str = "auto") -> Classifier:
    """A classifier from where a user says it is.

    Args:
        where: a run's folder or a transfer's, a classifier file, or with `weights` the name of a network.
        weights: the name of published weights.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises:
        ModelError: a network without weights was named, or there are no such weights.
        RunError: a folder that is neither a run nor a transfer.
        StoredFileError: a file that is no classifier.
    """
    path = Path(where)
    if weights is not None:
        return Classifier.published(str(where), weights, device=device)
    if path.is_dir():
        alone = path / CLASSIFIER  # a folder may hold nothing else
        return Classifier.load(alone, device=device) if alone.is_file() else open_folder(path).classifier(device)
    if not path.exists() and str(where) in CATALOG:
        raise ModelError(
            f"'{where}' is a network that has learned nothing yet",
            expected="a run's folder, a classifier file, or a network together with published weights",
            remedy=" or ".join([*(f"add --weights {name}" for name in WEIGHTS.get(str(where), {})), "train it"]),
        )
    return Classifier.load(path, device=device)


def calibration_pictures(
    where: str | Path, source: str | Path | None = None, *, root: str | Path | None = None
) -> Pictures | None:
    """Pictures to calibrate an engine with: of a source, else its own training part; None where there is neither.

    Args:
        where: a run's or a transfer's folder, a classifier file, or a network.
        source: SOURCE of pictures, with or without classes.
        root: where published sets are.
    """
    if source is not None:
        return load_pictures(source, root=root)
    return open_folder(where).data.load(root).train if Path(where).is_dir() else None


def load_own_parts(
    where: str | Path, source: str | Path | None = None, *, root: str | Path | None = None
) -> dict[str, Pictures]:
    """The parts of a source, else those that a run or a transfer was made with.

    Args:
        where: a run's or a transfer's folder, or something else that needs a source.
        source: SOURCE of pictures.
        root: where published sets are.

    Raises:
        RunError: there is neither a source nor a run or a transfer.
    """
    if source is not None:
        return load_parts(source, root=root)
    return open_folder(where).data.load(root).parts()


def report(path: str | Path, *, root: str | Path | None = None, device: str = "auto") -> Run | TransferFolder:
    """Evaluates a finished run, or a transfer, again and writes its report anew.

    Raises:
        RunError: it is neither, or is not finished.
        StoredFileError: one of its files is damaged, or was changed by hand.
        DataError: the pictures are not those that it was trained with.
    """
    folder = open_folder(path)
    if not folder.finished:
        raise RunError(f"{path} is not finished", expected="a finished run", remedy=f"eyebright train --resume {path}")
    with Display(Console(stderr=True)) as screen, folder.locked():
        if damaged := {name: problem for name, problem in folder.check().items() if problem and name != "report.html"}:
            raise StoredFileError(
                f"a report of {path} would not be true: {'; '.join(damaged.values())}",
                expected="files as they were written",
                remedy=f"bring back {', '.join(damaged)}, or train again in another folder",
            )
        splits = folder.data.load(root)
        screen.count("checking pictures", sum(len(part) for part in splits.parts().values()))
        _check_same_data(folder, make_contract(splits, on_read=screen.tick))
        if isinstance(folder, Run):
            where = nearest_plan(folder.plan).device if device == "auto" else device
            return _conclude(folder, splits, screen, where)
        return _conclude_transfer(folder, splits.test, screen, device)


def diagnose(
    path: str | Path, *, root: str | Path | None = None, device: str = "auto", quick: bool = False
) -> tuple[History, list[Diagnosis]]:
    """What is wrong with a run, the worst first: nothing, with a healthy one.

    Args:
        path: its folder; it may still be training.
        root: where published sets are.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        quick: look only at what the run has written, not at its pictures.

    Returns:
        What was looked at, and the findings.

    Raises:
        RunError: it is not a run, or has not begun to train.
        DataError: the pictures are not those that it was trained with.
    """
    run = open_run(path)
    if not run.has_contract or not run.steps():
        raise RunError(
            f"{path} has not begun to train",
            expected="a run of at least one step",
            remedy=f"eyebright train --resume {path}",
        )
    if quick or not run.classifier_path.exists():
        history = read_history(run)
        return history, examine(history)
    with Display(Console(stderr=True)) as screen:
        splits = run.data.load(root)
        screen.count("checking pictures", sum(len(part) for part in splits.parts().values()))
        _check_same_data(run, make_contract(splits, on_read=screen.tick))
        history = read_history(run, ask(run.classifier(device), run.recipe, splits, run.seed, screen.begin))
        return history, examine(history)


def compare(
    paths: Sequence[str | Path], *, final: bool = False, root: str | Path | None = None, device: str = "auto"
) -> list[Comparison]:
    """Which of several runs is best on validation, by how much, and whether that could be chance.

    Runs whose recipes are the same and whose seeds differ count as one way to train.

    Args:
        paths: the runs' folders, two or more.
        final: whether to answer the test part, too; each run notes that it was opened. The choice stays validation's.
        root: where published sets are.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Returns:
        The comparison on validation; with `final` that on test, in the same order of runs as they do there.

    Raises:
        RunError: fewer than two runs, one that is no run, the same twice, or runs on different pictures.
        DataError: the runs have no validation part, or several labels for a picture.
    """
    runs = [open_run(path) for path in paths]
    if len({run.path.resolve() for run in runs}) < max(2, len(runs)):
        raise RunError(
            f"{many(len(runs), 'run')} to compare: {', '.join(str(run.path) for run in runs)}",
            expected="two or more, each once",
            remedy="name another run",
        )
    found = _compare(runs, "val", root, device)
    return [found, _compare(runs, "test", root, device, found.chosen.name)] if final else [found]


def _compare(
    runs: Sequence[Run], part: str, root: str | Path | None, device: str, chosen: str | None = None
) -> Comparison:
    contracts = [run.contract for run in runs]
    for run, contract in zip(runs, contracts, strict=True):
        if part not in contract.labels or is_multi_label(contract.labels[part]):
            raise DataError(
                f"{run.path} has no {part} part" if part not in contract.labels else f"{run.path} has several labels",
                expected="runs that were validated on pictures of one label each",
                remedy="train with data.val_fraction=0.1" if part not in contract.labels else "see their reports",
            )
    names = [str(run.path) for run in runs]
    check_same(names, [one.digests[part].tobytes() + one.labels[part].tobytes() for one in contracts], part)
    pictures = runs[0].data.load(root).parts()[part]
    together: dict[str, Trained] = {}
    with Display(Console(stderr=True)) as screen:
        for run in runs:
            if part == "test":
                with run.locked():
                    run.open_test("compare")
            screen.count(f"{run.path.name} answers", len(pictures))
            evaluation = evaluate_any(run.classifier(device), pictures, on_batch=screen.reach)
            assert isinstance(evaluation, Evaluation)
            way = together.setdefault(run.recipe.to_toml(), Trained(run.path.name, {}))
            if run.seed in way.right:
                raise RunError(
                    f"{run.path} and another run have the same recipe and seed {run.seed}",
                    expected="runs that differ in their recipes or seeds",
                    remedy="leave one of them out",
                )
            way.right[run.seed] = evaluation.predictions == evaluation.labels
    if len(together) == 1:  # seeds of one recipe: each stands for itself
        (only,) = together.values()
        together = {run.path.name: Trained(run.path.name, {run.seed: only.right[run.seed]}) for run in runs}
    return compare_trained(list(together.values()), part, chosen)


def experiment(
    name: str,
    *,
    data: str | Path | None = None,
    root: str | Path | None = None,
    full: bool = False,
    seeds: int | None = None,
    changes: Iterable[str] = (),
    out: str | Path = "lab",
) -> Result:
    """Does one of the lab's experiments; trainings that are finished already are not repeated.

    Args:
        name: one of `lab.experiments.EXPERIMENTS`.
        data: SOURCE; default: the experiment's own.
        root: where published sets are.
        full: all pictures, whole recipes, more seeds.
        seeds: trainings of each kind; default: the experiment's.
        changes: of the recipe: ``"training.epochs=3"`` and the like.
        out: folder in which finished trainings are kept.

    Raises:
        RecipeError: there is no such experiment, or a change does not fit.
    """
    recipe = choose_recipe(find_experiment(name).recipe, data, changes)
    with Display(Console(stderr=True)) as screen:
        screen.count(f"finding {recipe.data.source}")
        splits = recipe.data.load(root, on_read=screen.tick)
        kept = Path(out) / "kept"
        return do_experiment(name, Settings(splits, kept, tuple(changes), full, seeds, screen.begin))


def inspect_filters(path: str | Path, layer: str | None = None, *, root: str | Path | None = None) -> Filters:
    """A convolution's kernels before training and after it.

    Args:
        path: a run's folder.
        layer: the convolution's state-dict prefix; default: the first.
        root: where published sets are: first weights of some networks depend on the pictures.

    Raises:
        RunError: it is not a run.
        ModelError: there is no such convolution.
        StoredFileError: it has no classifier yet.
    """
    run = open_run(path)
    after = run.classifier("cpu").model
    return compare_filters(run.first_model(lambda: run.data.load(root).train), after, layer)


def open_pictures(
    path: str | Path,
    part: str = "val",
    count: int | None = None,
    *,
    root: str | Path | None = None,
    device: str = "auto",
) -> tuple[Classifier, Pictures]:
    """The classifier of a run or a transfer, and pictures to look at it with.

    Args:
        path: the folder.
        part: ``"train"``, ``"val"`` or ``"test"``; opening test is noted. Without validation, training stands for it.
        count: how many, a sample that its seed chooses; default: all.
        root: where published sets are.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises:
        RunError: it is neither.
        StoredFileError: it has no classifier yet.
        DataError: there is no such part, or pictures can have several labels.
    """
    folder = open_folder(path)
    classifier = folder.classifier(device)
    parts = folder.data.load(root).parts()
    pictures = parts["train"] if part == "val" and "val" not in parts else _find_part(parts, part, str(path))
    if classifier.multi_label:
        raise DataError(
            f"{path} answers with several labels for a picture",
            expected="one label: what is drawn here is of one answer",
            remedy="see its report.html for its labels",
        )
    if part == "test":
        with folder.locked():
            folder.open_test("inspect")
    _warn_of_learned(folder, part)
    if count is not None and count < len(pictures):
        pictures = pictures.select(sample(count, len(pictures), folder.seed))
    return classifier, pictures


def read_observations(path: str | Path) -> list[Observation]:
    """What was seen inside a run's network while it trained.

    Raises:
        RunError: it is not a run, or was not observed.
    """
    observations = open_run(path).observations()
    if not observations:
        raise RunError(
            f"{path} was not looked into while it trained",
            expected="a run with observations, in layers.jsonl",
            remedy="train it with training.observe_steps=100",
        )
    return observations


def verify(path: str | Path) -> dict[str, str | None]:
    """Compares the checksums of a run's or a transfer's files, or of a classifier file.

    Args:
        path: the folder, or a classifier file.

    Returns:
        File → None where it is whole, else what is wrong with it.

    Raises:
        RunError: a folder that is neither a run nor a transfer.
    """
    path = Path(path)
    if path.is_dir():
        return open_folder(path).check()
    try:
        Classifier.load(path, device="cpu")
    except StoredFileError as error:
        return {str(path): error.problem}
    return {str(path): None}


def _find_part(parts: Mapping[str, Pictures], part: str, source: str) -> Pictures:
    """The part of that name; the second of two is the test part; a source of one part is taken whole."""
    if part in parts:
        return parts[part]
    if part == "test" and "val" in parts:
        return parts["val"]
    if len(parts) == 1:
        return parts["train"]
    raise DataError(
        f"{source} has no part '{part}'",
        expected=f"one of {', '.join(parts)}",
        remedy="choose it with --split",
    )


@dataclass
class _Stop:
    """What the handler of Ctrl-C and SIGTERM knows.

    Attributes:
        patient: whether the work in hand looks at `asked` itself, at a good moment; otherwise it is broken off.
        asked: whether the run was asked to stop. Asked again, it is broken off in any case.
    """

    patient: bool = False
    asked: bool = False

    def note(self, number: int, frame: FrameType | None) -> None:
        broken_off = self.asked or not self.patient
        self.asked = True
        if broken_off:
            raise KeyboardInterrupt


@contextmanager
def _stoppable(run: Run) -> Iterator[_Stop]:
    """Within the block Ctrl-C, SIGTERM and SIGHUP end the run in an orderly way, and how to resume it is said."""
    stop = _Stop()
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # no other may handle signals
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
                before[number] = signal.signal(number, stop.note)
    try:
        yield stop
    except Interrupted:
        raise
    except KeyboardInterrupt:
        if run.exists:
            raise Interrupted(run.path) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _travel(
    run: Run, plan: Plan, root: str | Path | None, workers: int | None, tensorboard: bool, screen: Display, stop: _Stop
) -> Run:
    recipe, seed = run.recipe, run.seed
    screen.count(f"finding {recipe.data.source}")
    splits = recipe.data.load(root, on_read=screen.tick)
    counts = ", ".join(f"{len(part):,} {name}" for name, part in splits.parts().items())
    screen.say(f"{recipe.name} on {splits.source}: {counts} pictures of {len(splits.classes)} classes → {run.path}")
    screen.count("checking pictures", sum(len(part) for part in splits.parts().values()))
    _check_contract(run, make_contract(splits, on_read=screen.tick), splits, screen)
    if not run.finished:
        reading = sum(len(part) for part in (splits.train, splits.val) if isinstance(part, ImageFiles))
        if reading:
            screen.count("reading pictures", reading)
        fit = Fit(recipe, splits, seed=seed, plan=plan, workers=workers, on_read=screen.tick)
        for problem in run.restore(fit):
            screen.say(f"note: {problem}; an earlier checkpoint is used")
        if plan != run.plan:
            run.take_plan(plan, fit.step)
        resumed = fit.step > 0
        if resumed:
            screen.say(f"going on after step {fit.step} (epoch {fit.epoch + 1})")
        estimate = _train(run, fit, tensorboard, screen, stop)
        run.finish(fit, None if resumed else estimate.first)
        if (receipt := run.receipt) is not None:
            screen.say("; ".join(receipt["findings"]))
    return _conclude(run, splits, screen, plan.device)


def _train(run: Run, fit: Fit, tensorboard: bool, screen: Display, stop: _Stop) -> Estimate:
    estimate = Estimate(fit)
    watch = Watch(read_history(run))
    board = TensorBoard(run.path / "tensorboard", fit.step) if tensorboard else None
    stop.patient = True
    try:
        for report in fit.steps():
            estimate.take(report)
            run.record(report, fit)
            screen.take(report, fit, estimate)
            for finding in watch.take(report):
                screen.say(f"{finding.severity}: {finding.problem}: {finding.evidence[0]}. To do: {finding.remedy}")
            if board is not None:
                board.take(report)
            if stop.asked:
                run.checkpoint(fit)
                raise Interrupted(run.path)
    except TrainingDivergedError as error:
        run.write_environment({"diverged": error.problem})
        raise
    finally:
        stop.patient = False
        if board is not None:
            board.close()
    if fit.epoch < fit.recipe.training.epochs:
        screen.say(f"stopped early: no improvement for {fit.recipe.training.early_stop_epochs} epochs")
    if estimate.first is not None:
        screen.say(f"training took {in_words(estimate.spent)}; foretold were {in_words(estimate.first)}")
    return estimate


def _conclude(run: Run, splits: Splits, screen: Display, device: str) -> Run:
    """Opens the test part, writes its figures and the report."""
    classifier = run.classifier(device)
    started = time.perf_counter()
    run.open_test("report")
    screen.count("evaluating", len(splits.test))
    evaluation = evaluate_any(classifier, splits.test, on_batch=screen.reach)
    run.write_evaluation(evaluation.as_dict())
    screen.say(f"test: {evaluation} ({in_words(time.perf_counter() - started)})")
    screen.count("writing the report")
    findings = [finding.as_dict() for finding in examine(read_history(run))]
    first = None
    with suppress(EyebrightError):  # the weights that it began with may no longer be where they were
        first = run.first_model(lambda: splits.train)
    write_report(run, classifier, splits.test, evaluation, first, findings)
    return run


def _conclude_transfer(folder: TransferFolder, test: Pictures, screen: Display, device: str = "auto") -> TransferFolder:
    """Opens the test part of a transfer, and writes its figures and the report."""
    classifier = folder.classifier(device)
    folder.open_test("report")
    screen.count("evaluating", len(test))
    evaluation = evaluate_any(classifier, test, on_batch=screen.reach)
    folder.write_evaluation(evaluation.as_dict())
    screen.say(f"test: {evaluation}")
    screen.count("writing the report")
    write_transfer_report(folder, folder.values, classifier, test, evaluation, measure_scores(classifier, test))
    return folder


def _check_contract(run: Run, contract: Contract, splits: Splits, screen: Display) -> None:
    if run.has_contract:
        _check_same_data(run, contract)
        return
    notes = shared_notes(contract, splits)
    for note in notes:
        screen.say(f"note: {note}")
    run.write_environment({"notes": [*splits.notes, *notes]})
    run.write_contract(contract)


def shared_notes(contract: Contract, splits: Splits) -> list[str]:
    """What makes figures too good, in words: pictures, or groups, that stand in two parts."""
    notes = []
    for (first, second), pairs in contract.shared().items():
        one, other = contract.names[first][pairs[0][0]], contract.names[second][pairs[0][1]]
        notes.append(
            f"{len(pairs)} pictures of the {second} part stand in the {first} part too, pixel for pixel "
            f"(for example {other} = {one}): figures on {second} may be too good."
        )
    for (first, second), groups in splits.shared_groups().items():
        notes.append(
            f"{len(groups)} groups of the {second} part stand in the {first} part too (for example {groups[0]}): "
            f"figures on {second} may be too good."
        )
    return notes


def _check_same_data(run: Folder, contract: Contract) -> None:
    if changes := run.contract.changes(contract):
        curation = run.data.curation
        raise DataError(
            f"the pictures of {contract.source} are not those that {run.path} began with: {'; '.join(changes)}",
            expected=f"the pictures with the root digest {run.contract.root[:16]}…",
            remedy=f"bring the old pictures{f' and the decisions of {curation}' if curation else ''} back, "
            "or begin anew in another folder",
        )


def _warn_of_trained(folder: Folder, pictures: Pictures, source: str) -> None:
    """Says which of the pictures it has learned from: figures on those prove nothing."""
    known = folder.contract.which_stand_in(folder.learned_from, pictures)
    if known:
        warnings.warn(
            f"{len(known)} of the {len(pictures)} pictures of {source} are among those that {folder.path} has learned "
            f"from (for example {pictures.name(known[0])}): figures on them are too good",
            DataWarning,
            stacklevel=3,
        )


def _warn_of_learned(folder: Folder, part: str) -> None:
    """Says where a part that others keep for judging has been learned from."""
    if part != "train" and part in folder.learned_from:
        warnings.warn(
            f"{folder.path} has learned from its {part} part too: its answers to these pictures are too good",
            DataWarning,
            stacklevel=3,
        )
