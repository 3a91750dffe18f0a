"""The same picture twice, within a part or in two parts: as the same file, as the same pixels, or as a near copy.

A near copy, one that was stored again, resized, mirrored, cropped a little or made brighter, differs from its original
in every byte. Three steps find it without any trained network: each picture becomes 32×32 grey values; pairs whose low
frequencies agree are candidates; of each candidate pair one picture is moved onto the other, and their edges compared.
How much agreement it takes is told by pictures turned upside down: what looks like a copy of those is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from eyebright.curation.alignment import compare
from eyebright.curation.likeness import CELL, SIDE, Small, describe, find_candidates, find_neighbours, shrink
from eyebright.data.images import Pictures
from eyebright.data.labels import label_text
from eyebright.data.split import Digests, picture_digests

NEAR = 0.9  # least similarity of near duplicates
MOST_FALSE = 0.01  # share of the near duplicates that may be other pictures, as estimated: above, it takes more
SAMPLE = 5000  # pictures that are turned upside down for this estimate

Kind = Literal["exact", "same pixels", "near"]
Place = tuple[str, int]  # part, index


@dataclass(frozen=True)
class Pair:
    """Two pictures that are the same, or nearly.

    Attributes:
        part_a, index_a: where the one is.
        part_b, index_b: where the other is: later in the order of parts, or of the pictures in a part.
        kind: ``"exact"``: the same encoded bytes; ``"same pixels"``: encoded or described otherwise; ``"near"``: a copy
            that was stored again, resized, mirrored, cropped a little or changed in brightness.
        similarity: how well the edges agree once one picture lies on the other, up to 1; 1 where the pixels are the
            same.
        class_a, class_b: names of their classes.
    """

    part_a: str
    index_a: int
    part_b: str
    index_b: int
    kind: Kind
    similarity: float
    class_a: str
    class_b: str

    @property
    def is_across(self) -> bool:
        """Whether the pictures are in different parts: what is measured on one has been seen in the other."""
        return self.part_a != self.part_b

    @property
    def is_contradiction(self) -> bool:
        """Whether the pictures are of different classes: at least one label is wrong, or the classes overlap."""
        return self.class_a != self.class_b


@dataclass(frozen=True)
class Duplicates:
    """What `find_duplicates` found.

    Attributes:
        pairs: in the order of their first and second pictures. Of more than two pictures with the same pixels, every
            one is paired with the first in its part, and these firsts with each other; near ones with the first of all.
        counts: part → number of its pictures.
        threshold: least similarity of near duplicates: 0.9, or more where the pictures are alike by nature.
    """

    pairs: tuple[Pair, ...]
    counts: dict[str, int]
    threshold: float

    @cached_property
    def clusters(self) -> tuple[tuple[Place, ...], ...]:
        """Pictures that belong together by any chain of pairs; clusters and pictures in the order of the parts."""
        order = {part: number for number, part in enumerate(self.counts)}
        joined = _connect(((pair.part_a, pair.index_a), (pair.part_b, pair.index_b)) for pair in self.pairs)
        clusters = [sorted(cluster, key=lambda place: (order[place[0]], place[1])) for cluster in joined]
        return tuple(tuple(cluster) for cluster in sorted(clusters, key=lambda c: (order[c[0][0]], c[0][1])))

    def across_parts(self) -> tuple[Pair, ...]:
        """The pairs whose pictures are in different parts."""
        return tuple(pair for pair in self.pairs if pair.is_across)

    def contradictions(self) -> tuple[Pair, ...]:
        """The pairs whose pictures are of different classes."""
        return tuple(pair for pair in self.pairs if pair.is_contradiction)

    def leaked(self, part: str, into: str) -> tuple[int, ...]:
        """Indices of a part's pictures that are in a cluster with pictures of another part, ascending."""
        found = [
            index
            for cluster in self.clusters
            if any(other == into for other, _ in cluster)
            for name, index in cluster
            if name == part
        ]
        return tuple(sorted(found))


def find_duplicates(pictures: Mapping[str, Pictures], on_read: Callable[[], object] | None = None) -> Duplicates:
    """Finds pictures that are the same, or nearly, within every part and across parts.

    Same bytes and same pixels are told by SHA-256 and always found. Near duplicates are found by their looks alone,
    with no network: stored again, resized, mirrored left-right, cropped by a few percent, brighter, grey instead of
    coloured. Not: rotated, cropped by more than about a tenth, recoloured. Near ones are matters of judgement: look at
    them. A picture of hardly any contrast, all black for example, shows nothing to be recognised by and has no near
    duplicates; the same pixels it may have.

    Time for N pictures is that of decoding each twice, and a multiplication of matrices of N·N·110 operations; memory
    grows with N, by about 3 KB a picture.

    Args:
        pictures: part → its pictures; parts may differ in their classes, which are compared by name.
        on_read: called twice for each picture, for a progress bar: first to tell its digests, then to see it.

    Raises:
        PictureError: a picture cannot be read or decoded.
    """
    places = [(part, index) for part, inside in pictures.items() for index in range(len(inside))]
    encoded, pixels = _all_digests(pictures, on_read)
    groups: dict[bytes, list[int]] = {}
    for number, digest in enumerate(pixels):
        groups.setdefault(digest.tobytes(), []).append(number)
    found: dict[tuple[int, int], tuple[Kind, float]] = {}
    for group in groups.values():
        for a, b in _star(group, [places[number][0] for number in group]):
            found[a, b] = ("exact" if (encoded[a] == encoded[b]).all() else "same pixels"), 1.0
    firsts = [group[0] for group in groups.values()]
    small = _shrink_all(pictures, set(firsts), on_read)
    sample = np.array(
        sorted(range(len(firsts)), key=lambda row: pixels[firsts[row]].tobytes())[:SAMPLE], dtype=np.int64
    )
    near, threshold = _near_pairs(small, sample)
    for a, b, similarity in near:
        found[firsts[a], firsts[b]] = "near", similarity
    pairs = []
    for (a, b), (kind, similarity) in sorted(found.items()):
        (part_a, index_a), (part_b, index_b) = places[a], places[b]
        classes = _class_name(pictures[part_a], index_a), _class_name(pictures[part_b], index_b)
        pairs.append(Pair(part_a, index_a, part_b, index_b, kind, similarity, *classes))
    return Duplicates(tuple(pairs), {part: len(inside) for part, inside in pictures.items()}, threshold)


def _all_digests(pictures: Mapping[str, Pictures], on_read: Callable[[], object] | None) -> tuple[Digests, Digests]:
    read = [picture_digests(part, on_read) for part in pictures.values()]
    none = np.empty((0, 32), dtype=np.uint8)
    encoded, pixels = (np.concatenate([none, *(pair[which] for pair in read)]) for which in (0, 1))
    return encoded, pixels


def _shrink_all(pictures: Mapping[str, Pictures], wanted: set[int], on_read: Callable[[], object] | None) -> Small:
    """Small forms of the wanted pictures, by their numbers over all parts, ascending."""
    cells = SIDE // CELL
    grey = torch.empty(len(wanted), SIDE, SIDE, dtype=torch.uint8)
    chroma = torch.empty(len(wanted), cells, cells, 2, dtype=torch.float16)
    number = row = 0
    for part in pictures.values():
        for index in range(len(part)):
            if number in wanted:
                grey[row], chroma[row] = shrink(part.read(index, (2 * SIDE, 2 * SIDE)))
                row += 1
            number += 1
            if on_read is not None:
                on_read()
    return Small(grey, chroma)


def _near_pairs(small: Small, sample: NDArray[np.int64]) -> tuple[list[tuple[int, int, float]], float]:
    """Rows of near duplicates with their similarity, and the least similarity that was asked for."""
    descriptors = describe(small.grey)
    candidates = find_candidates(descriptors)
    similarities = compare(small, small, candidates)
    turned = Small(small.grey[sample].flip(1), small.chroma[sample].flip(1))
    neighbours = find_neighbours(describe(turned.grey), descriptors)
    false = compare(turned, small, neighbours)
    is_itself = sample[neighbours.first] == neighbours.second
    own = np.zeros(len(sample), dtype=np.float32)
    own[neighbours.first[is_itself]] = false[is_itself]
    false = false[false > own[neighbours.first]]  # of a symmetric picture the copies fit upside down too, like itself
    each = len(small.grey) / max(1, len(sample)) / 2  # a pair would be met from either side
    threshold = choose_threshold(similarities, false, each)
    rows = zip(candidates.first.tolist(), candidates.second.tolist(), similarities.tolist(), strict=True)
    return [row for row in rows if row[2] >= threshold], threshold


def choose_threshold(similarities: NDArray[np.float32], false: NDArray[np.float32], each: float) -> float:
    """The least similarity, from 0.9 on, at which no more than 1 % of the pairs are false by estimate.

    Args:
        similarities: of the pairs that were found.
        false: of pairs that are known to be false, found in the same way.
        each: the number of false pairs among those found that each of these stands for.
    """
    above = sorted(float(np.nextafter(value, np.float32(2))) for value in false if value >= NEAR)
    for threshold in (NEAR, *above):
        if each * (false >= threshold).sum() <= MOST_FALSE * (similarities >= threshold).sum():
            break
    return threshold


def _star(group: list[int], parts: list[str]) -> list[tuple[int, int]]:
    """Of pictures with the same pixels: each with the first in its part, and these firsts with each other."""
    firsts: dict[str, int] = {}
    pairs = []
    for number, part in zip(group, parts, strict=True):
        first = firsts.setdefault(part, number)
        if first != number:
            pairs.append((first, number))
    return pairs + list(combinations(firsts.values(), 2))


def _connect(pairs: Iterable[tuple[Place, Place]]) -> list[list[Place]]:
    """Connected components, in any order."""
    of: dict[Place, list[Place]] = {}
    for a, b in pairs:
        one, other = of.setdefault(a, [a]), of.setdefault(b, [b])
        if one is not other:
            larger, smaller = (one, other) if len(one) >= len(other) else (other, one)
            larger += smaller
            of |= dict.fromkeys(smaller, larger)
    return list({id(cluster): cluster for cluster in of.values()}.values())


def _class_name(pictures: Pictures, index: int) -> str:
    return label_text(pictures.labels[index], pictures.classes)
