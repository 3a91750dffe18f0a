"""Every error that a user can meet.

::

    EyebrightError
    ├── RecipeError             a recipe: unknown name or key, value out of range, parts that do not fit together
    ├── DataError               a source of pictures: missing, empty, of one class, parts that do not agree
    │   ├── ArchiveError        an archive: damaged, or with entries that are refused
    │   ├── DownloadError       a published data set that could not be fetched
    │   └── PictureError        one picture that cannot be read
    ├── ModelError              a network: unknown name, option that does not fit
    │   └── InputSizeError      pictures too small for the network, or not of the one size that it takes
    ├── StoredFileError         a classifier or checkpoint file: damaged, or not what its name says
    ├── RunError                a run folder: missing, in use, already there
    ├── DeviceError             a device that was asked for and is not there
    ├── EngineError             an engine that was asked for and cannot answer here
    ├── OutputError             a file or folder that cannot be written
    └── TrainingDivergedError   a loss that is no longer a finite number

Each says what was given, what was expected, and what to do next. The command line prints that and exits with 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EyebrightError(Exception):
    """The root of the tree.

    Args:
        problem: what was given and what is wrong with it.
        expected: what would have been right.
        remedy: what to do next.
    """

    def __init__(self, problem: str, *, expected: str, remedy: str):
        super().__init__(problem, expected, remedy)
        self.problem, self.expected, self.remedy = problem, expected, remedy

    def __str__(self) -> str:
        return f"{self.problem}\n  expected: {self.expected}\n  to do: {self.remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args)


def _rebuild(kind: type[EyebrightError], args: tuple[str, str, str]) -> EyebrightError:
    problem, expected, remedy = args
    return kind(problem, expected=expected, remedy=remedy)


class RecipeError(EyebrightError):
    """A recipe has an unknown name or key, a value out of range, or parts that do not fit together."""


class DataError(EyebrightError):
    """A source of pictures is missing, empty, of one class only, or its parts do not agree."""


class ArchiveError(DataError):
    """An archive is damaged or holds entries that are refused."""


class DownloadError(DataError):
    """A published data set could not be fetched."""


class PictureError(DataError):
    """One picture cannot be read."""


class ModelError(EyebrightError):
    """A network has an unknown name or an option that does not fit."""


class InputSizeError(ModelError):
    """Pictures are too small for the network, or not of the one size that it takes."""


class StoredFileError(EyebrightError):
    """A classifier or checkpoint file is damaged or not what its name says."""


class RunError(EyebrightError):
    """A run folder is missing, in use, or already there."""


class DeviceError(EyebrightError):
    """A device was asked for and is not there."""


class EngineError(EyebrightError):
    """An engine was asked for and cannot answer here."""


class OutputError(EyebrightError):
    """A file or folder cannot be written."""


class TrainingDivergedError(EyebrightError):
    """The loss is no longer a finite number."""


class EyebrightWarning(UserWarning):
    """What we warn of ourselves."""


class DataWarning(EyebrightWarning):
    """Something about the data makes figures mean less than they seem to."""


class SpeedWarning(EyebrightWarning):
    """Something takes longer than it has to."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Names the nearest known name: ``"did you mean 'lenet5'?"``, or ``""`` when none is near.

    >>> did_you_mean("epoch", ["epochs", "batch_size"])
    "did you mean 'epochs'?"
    """
    by_lower_case = {name.lower(): name for name in known}
    nearest = difflib.get_close_matches(given.lower(), by_lower_case, n=1, cutoff=0.5)
    return f"did you mean '{by_lower_case[nearest[0]]}'?" if nearest else ""
