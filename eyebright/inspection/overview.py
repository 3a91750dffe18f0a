"""Everything to know about a set of pictures before training on it (lecture: L3.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyebright.data.labels import class_counts, has_label
from eyebright.data.split import Splits
from eyebright.inspection.channel_values import SAMPLE, ChannelValues, measure_channels
from eyebright.inspection.finding import Finding
from eyebright.inspection.overview_warnings import find_warnings
from eyebright.inspection.picture_facts import IN_MEMORY, Facts, common_folder, read_facts


@dataclass(frozen=True)
class Span:
    """The smallest, the middle and the largest of some numbers."""

    min: float
    median: float
    max: float


@dataclass(frozen=True)
class PartOverview:
    """One part. What is said of sizes, files and channels is of the pictures that can be read.

    Attributes:
        pictures: how many there are, unreadable ones included.
        unreadable: how many of them cannot be read.
        imbalance: the largest class's count divided by the smallest's, of classes that have pictures.
        majority: accuracy of always answering the class that is most frequent in training: what must be beaten.
        chance: accuracy of answering at random, each class equally often: 1/classes.
        height, width: in pixels, upright; None where no picture can be read.
        aspect: width / height.
        megapixels: height · width / 10⁶.
        sizes: how many different sizes there are.
        file_bytes: of all files together; None of pictures in memory.
        formats: format by content → pictures.
        channels: ``"grey"`` and ``"colour"`` → pictures, as they are stored.
        grey_stored_as_colour: pictures of three channels that show no colour.
        turned: files stored turned or mirrored, with an EXIF entry that says so.
    """

    pictures: int
    unreadable: int
    imbalance: float | None
    majority: float
    chance: float
    height: Span | None
    width: Span | None
    aspect: Span | None
    megapixels: Span | None
    sizes: int
    file_bytes: int | None
    formats: dict[str, int]
    channels: dict[str, int]
    grey_stored_as_colour: int
    turned: int


@dataclass(frozen=True)
class ClassOverview:
    """One class.

    Attributes:
        name: of the class.
        counts: part → pictures.
        shares: part → share of the part's pictures.
        height, width: medians in the training part, in pixels; None where no picture of it can be read.
        brightness: mean in the training part, 0…1.
    """

    name: str
    counts: dict[str, int]
    shares: dict[str, float]
    height: float | None
    width: float | None
    brightness: float | None


@dataclass(frozen=True, eq=False)
class Overview:
    """What `look_at` found.

    Attributes:
        source: what the user called the data.
        classes: a row for each, in order.
        parts: by name.
        channel_values: of the training part; None where none of its pictures can be read.
        warnings: what to look into before training; the worst first.
        facts: part → a row for each picture.
    """

    source: str
    classes: tuple[ClassOverview, ...]
    parts: dict[str, PartOverview]
    channel_values: ChannelValues | None
    warnings: tuple[Finding, ...]
    facts: dict[str, Facts]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data for JSON; fractions are 0…1.

        ================== ===========================================================================================
        ``source``         what the user called the data
        ``classes``        names in order
        ``counts``         part → class → pictures
        ``parts``          part → what `PartOverview` has; height, width, aspect, megapixels as min, median, max
        ``per_class``      for each class what `ClassOverview` has
        ``channel_values`` of the training part: ``pictures`` read ``of`` how many, ``height`` and ``width`` they were
                           measured at, whether ``resized``; ``mean`` and ``std`` of each channel, and their standard
                           errors ``mean_error`` and ``std_error``; null where no picture can be read
        ``unreadable``     for each such picture ``part``, ``picture`` and ``reason``
        ``warnings``       for each ``kind``, ``problem``, ``remedy``, ``count``, and up to 20 ``pictures`` by name
        ================== ===========================================================================================
        """
        values = self.channel_values
        measured = ("pictures", "of", "height", "width", "resized", "mean", "std", "mean_error", "std_error")
        return {
            "source": self.source,
            "classes": [row.name for row in self.classes],
            "counts": {part: {row.name: row.counts[part] for row in self.classes} for part in self.parts},
            "parts": {name: asdict(part) for name, part in self.parts.items()},
            "per_class": [asdict(row) for row in self.classes],
            "channel_values": None if values is None else {name: getattr(values, name) for name in measured},
            "unreadable": [
                {"part": part, "picture": facts.names[index], "reason": reason}
                for part, facts in self.facts.items()
                for index, reason in facts.reasons.items()
            ],
            "warnings": [asdict(finding) for finding in self.warnings],
        }


def look_at(
    splits: Splits,
    *,
    seed: int = 0,
    largest_sample: int = SAMPLE,
    on_read: Callable[[], object] | None = None,
) -> Overview:
    """Reads every picture of every part once, and a sample of the training part once more.

    A picture that cannot be read is counted and named, and stops nothing. Memory holds a few pictures at a time, and
    some hundred bytes for each picture of the set.

    Args:
        splits: the parts.
        seed: of the sample that pixel values are measured on.
        largest_sample: how many pictures that may have.
        on_read: called for each reading, `count_readings` times or a few times less, for a progress bar.
    """
    parts = splits.parts()
    folder = common_folder(parts.values())
    facts = {name: read_facts(part, folder, on_read) for name, part in parts.items()}
    values = measure_channels(splits.train, facts["train"], seed=seed, largest_sample=largest_sample, on_read=on_read)
    counts = {name: class_counts(part.labels, len(splits.classes)) for name, part in parts.items()}
    usual = int(counts["train"].argmax())
    return Overview(
        source=splits.source,
        classes=tuple(
            _describe_class(label, splits.classes, counts, facts["train"]) for label in range(len(splits.classes))
        ),
        parts={name: _describe_part(facts[name], counts[name], usual) for name in parts},
        channel_values=values,
        warnings=find_warnings(facts, splits.classes),
        facts=facts,
    )


def count_readings(splits: Splits, largest_sample: int = SAMPLE) -> int:
    """How many pictures `look_at` reads, those that it reads twice counted twice."""
    return sum(map(len, splits.parts().values())) + min(largest_sample, len(splits.train))


def _describe_part(facts: Facts, counts: NDArray[np.int64], usual: int) -> PartOverview:
    known = facts.readable
    height, width = facts.height[known], facts.width[known]
    present = counts[counts > 0]
    formats, numbers = np.unique([form for form in facts.formats if form], return_counts=True)
    channels = {"grey": int((facts.channels == 1).sum()), "colour": int((facts.channels == 3).sum())}
    return PartOverview(
        pictures=len(facts),
        unreadable=len(facts.reasons),
        imbalance=float(present.max() / present.min()) if len(present) else None,
        majority=float(counts[usual] / max(1, len(facts))),
        chance=1 / len(counts),
        height=_span(height),
        width=_span(width),
        aspect=_span(width / height),
        megapixels=_span(height * width / 1e6),
        sizes=len(set(zip(height.tolist(), width.tolist(), strict=True))),
        file_bytes=None if IN_MEMORY in facts.formats else int(facts.file_bytes.sum()),
        formats=dict(zip(formats.tolist(), numbers.tolist(), strict=True)),
        channels={name: count for name, count in channels.items() if count},
        grey_stored_as_colour=int((facts.grey & (facts.channels == 3)).sum()),
        turned=int(facts.turned.sum()),
    )


def _describe_class(
    label: int, names: tuple[str, ...], counts: dict[str, NDArray[np.int64]], train: Facts
) -> ClassOverview:
    members = train.readable & has_label(train.labels, label)
    seen = bool(members.any())
    return ClassOverview(
        name=names[label],
        counts={part: int(numbers[label]) for part, numbers in counts.items()},
        shares={part: float(numbers[label] / max(1, numbers.sum())) for part, numbers in counts.items()},
        height=float(np.median(train.height[members])) if seen else None,
        width=float(np.median(train.width[members])) if seen else None,
        brightness=float(train.brightness[members].mean()) if seen else None,
    )


def _span(values: NDArray[Any]) -> Span | None:
    if len(values) == 0:
        return None
    return Span(float(values.min()), float(np.median(values)), float(values.max()))
