"""A folder with a trained classifier, and with all that proves what it is worth: what runs and transfers share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

from filelock import FileLock, Timeout

from eyebright.classifier import CLASSIFIER, Classifier
from eyebright.data.split import Contract
from eyebright.device import Plan, describe_machine
from eyebright.errors import OutputError, RunError, StoredFileError
from eyebright.files import UNFINISHED, as_output_error, file_digest, not_a, read_json, write_json, write_text
from eyebright.training.receipt import Receipt
from eyebright.training.recipe import DataSection


class Folder(ABC):
    """A folder with a trained classifier.

    =============================== ==================================================================
    ``environment.json``            seed, machine, versions, execution plan, times, openings of the
                                    test part, checksums of the files without one of their own
    ``split.json``                  classes, counts and root digest of the split contract
    ``split.safetensors``           which pictures are in which part: their digests, labels, names
    ``classifier.safetensors``      what was trained
    ``receipt.json``                where layers were frozen: every parameter and buffer, before and
                                    after, by SHA-256, and how far it moved
    ``evaluation.json``             the figures on the test part
    ``report.html``                 all of it to look at
    =============================== ==================================================================

    Every file is replaced whole or not at all and can be checked: see `check`.

    Args:
        path: the folder.
    """

    KIND: ClassVar[str]
    """What it is called."""
    MARK: ClassVar[str]
    """The file that is in every folder of this kind."""
    MADE_BY: ClassVar[str]
    """The command that makes one."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = FileLock(path / ".lock")

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """An existing one.

        Raises:
            RunError: there is none.
        """
        folder = cls(Path(path))
        if not folder.exists:
            raise RunError(
                f"{path} is not a {cls.KIND}",
                expected=f"a folder that `{cls.MADE_BY}` made, with a {cls.MARK} in it",
                remedy="check the path",
            )
        return folder

    @property
    def exists(self) -> bool:
        """Whether there is one in the folder."""
        return (self.path / self.MARK).is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps two processes from writing into the same folder. A dead process's lock is not in the way.

        Raises:
            RunError: another process is at it.
            OutputError: the folder cannot be written.
        """
        with as_output_error(self.path):
            try:
                self._lock.acquire(timeout=0)
            except Timeout as error:
                raise RunError(
                    f"another process is at work in {self.path}",
                    expected="one process for a folder",
                    remedy="wait until it is done, or choose another folder with --out",
                ) from error
        try:
            yield
        finally:
            self._lock.release()

    @property
    @abstractmethod
    def data(self) -> DataSection:
        """Which pictures it was trained on, and how they were parted."""

    @property
    def learned_from(self) -> tuple[str, ...]:
        """The parts whose pictures the classifier has learned from."""
        return ("train",)

    @property
    def environment(self) -> dict[str, Any]:
        """Seed, plan and machine, also those before they changed, times, openings of the test part, checksums."""
        return read_json(self.path / "environment.json", f"environment of a {self.KIND}")

    @property
    def seed(self) -> int:
        """The seed of all chance in it."""
        return int(self.environment["seed"])

    @property
    def plan(self) -> Plan:
        """The execution plan by which it is trained."""
        return Plan(**self.environment["plan"])

    @property
    def contract(self) -> Contract:
        """Which pictures are in which part.

        Raises:
            StoredFileError: one of its two files is damaged or missing.
        """
        return Contract.load(self.path)

    @property
    def has_contract(self) -> bool:
        """Whether the pictures were looked at before it was interrupted."""
        return (self.path / "split.json").exists()

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """The figures on the test part, once there are any."""
        path = self.path / "evaluation.json"
        return read_json(path, f"evaluation of a {self.KIND}") if path.exists() else None

    @property
    def finished(self) -> bool:
        """Whether training is done and its classifier written."""
        return "finished" in self.environment

    @property
    def classifier_path(self) -> Path:
        """Where the classifier is, or will be."""
        return self.path / CLASSIFIER

    @property
    def report_path(self) -> Path:
        """Where the report is, or will be."""
        return self.path / "report.html"

    def classifier(self, device: str = "auto") -> Classifier:
        """The classifier: of a training that is not done, the best so far.

        Raises:
            StoredFileError: there is none yet, or it is damaged.
        """
        return Classifier.load(self.classifier_path, device=device)

    @property
    def receipt(self) -> dict[str, Any] | None:
        """What was frozen, and that it is the same to the bit; None where nothing was, or training is not done."""
        path = self.path / "receipt.json"
        return read_json(path, f"receipt of a {self.KIND}") if path.exists() else None

    def begin_environment(self, seed: int, plan: Plan, **values: Any) -> None:
        """Writes ``environment.json`` as it is before training."""
        begun = {
            "seed": seed, "plan": plan.as_dict(), "machine": describe_machine(), "started": now(),
            "test_openings": [], "checksums": {},
        }  # fmt: skip
        write_json(self.path / "environment.json", begun | values)

    def write_environment(self, values: dict[str, Any]) -> None:
        """Adds values to ``environment.json``."""
        write_json(self.path / "environment.json", self.environment | values)

    def write_contract(self, contract: Contract) -> None:
        """Keeps which pictures are in which part."""
        contract.save(self.path)

    def write_receipt(self, receipt: Receipt) -> None:
        """Keeps what was frozen, and what moved."""
        write_json(self.path / "receipt.json", receipt.as_dict() | {"findings": receipt.sentences()})
        self.write_checksums("receipt.json")

    def open_test(self, purpose: str) -> int:
        """Notes that the test part is about to be looked at; returns how often that makes.

        It is noted before, so that an evaluation that is interrupted counts too.
        """
        openings = [*self.environment["test_openings"], {"time": now(), "purpose": purpose}]
        self.write_environment({"test_openings": openings})
        return len(openings)

    def write_evaluation(self, values: dict[str, Any]) -> None:
        """Keeps the figures on the test part, and how often it has been opened."""
        opened = len(self.environment["test_openings"])
        write_json(self.path / "evaluation.json", values | {"test_opened": opened})

    def write_report(self, html: str) -> None:
        """Keeps the report."""
        write_text(self.report_path, html)
        self.write_checksums("report.html")

    def check_alone(self, own: Collection[str]) -> None:
        """Whether the folder can be made: there is none yet, or nothing is in it but what may be there.

        Args:
            own: names of what may be there.

        Raises:
            RunError: there are other things.
            OutputError: it is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path} is a file", expected="a folder", remedy="choose another place with --out")
        there = {path.name for path in self.path.iterdir()} if self.path.exists() else set()
        if others := sorted(name for name in there - {*own, ".lock"} if not name.endswith(UNFINISHED)):
            raise RunError(
                f"there are other things in {self.path}: {', '.join(others[:5])}",
                expected="a folder that does not exist yet, or is empty",
                remedy="choose another folder with --out",
            )

    def write_checksums(self, *names: str) -> None:
        """Keeps what these files hold, so that `check` can tell."""
        made = {name: file_digest(self.path / name) for name in names}
        self.write_environment({"checksums": self.environment["checksums"] | made})

    def check(self) -> dict[str, str | None]:
        """Reads every file and compares its checksum.

        Returns:
            File → None where it is whole, else what is wrong with it. A file without a checksum yet, such as the
            metrics of a run that is not finished, is left out.
        """
        return {name: _problem(check) for name, check in self._checks().items()}

    def _checks(self) -> dict[str, Callable[[], object]]:
        checks: dict[str, Callable[[], object]] = {"environment.json": lambda: self.environment}
        with suppress(StoredFileError):
            for name, checksum in self.environment["checksums"].items():
                checks[name] = partial(check_beginning, self.path / name, None, checksum)
        if self.has_contract:
            checks["split.json, split.safetensors"] = lambda: self.contract
        if self.classifier_path.exists() or self.finished:
            checks["classifier.safetensors"] = lambda: self.classifier("cpu")
        checks["evaluation.json"] = lambda: self.evaluation
        return checks


def check_beginning(path: Path, length: int | None, digest: str) -> None:
    """Whether a file, or its first bytes, are what they were.

    Raises:
        StoredFileError: they are not.
    """
    if file_digest(path, length) != digest:
        raise not_a(path, "file of a run or a transfer", "its checksum is wrong: it is damaged, or was changed by hand")


def now() -> str:
    """The time, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _problem(check: Callable[[], object]) -> str | None:
    try:
        check()
    except StoredFileError as error:
        return error.problem
    return None
