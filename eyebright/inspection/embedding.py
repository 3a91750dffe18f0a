"""A map of pictures by what the network makes of them: near each other where the last features are alike.

Source:
    van der Maaten, Hinton: Visualizing Data using t-SNE, JMLR 9, 2008.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eyebright.classifier import Classifier
from eyebright.data.images import Pictures
from eyebright.evaluation.embeddings import Embedder
from eyebright.inspection.confusion import shorten
from eyebright.inspection.pictures import see
from eyebright.inspection.style import make_figure

COMPONENTS = 50  # principal ones, from which the map is made
PERPLEXITY = 30.0  # neighbours that count, about
NEAREST = 10  # pictures whose labels are compared with each one's own
CELLS = 26  # thumbnails along a side of the figure, at most
NAMED = 20  # classes that have a colour of their own

Values = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Embedding:
    """Pictures as points.

    Attributes:
        points: float32 `[N, 2]`.
        features: float32 `[N, D]`: what the last dense layer is given.
        labels: int64 `[N]`.
        classes: class names in order.
        agreement: share of the ten nearest pictures, by features, that are of the same class, on average.
    """

    points: Values
    features: Values
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    agreement: float


def embed(
    classifier: Classifier, pictures: Pictures, seed: int = 0, on_picture: Callable[[], object] | None = None
) -> Embedding:
    """Lays pictures out in two dimensions: principal components, then t-SNE.

    Args:
        classifier: whose features.
        pictures: a labelled set.
        seed: of t-SNE.
        on_picture: called for each picture that has passed through the network.

    Raises:
        PictureError: a picture cannot be decoded.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors

    features = Embedder(classifier)(pictures, on_picture=on_picture)
    components = min(COMPONENTS, *features.shape)
    reduced = PCA(components, random_state=seed).fit_transform(features)
    perplexity = min(PERPLEXITY, max(1.0, (len(features) - 1) / 4))
    points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    near = NearestNeighbors(n_neighbors=min(NEAREST, len(features) - 1)).fit(features)
    neighbours = near.kneighbors(return_distance=False)  # of each picture, itself left out
    agreement = float((pictures.labels[neighbours] == pictures.labels[:, None]).mean())
    return Embedding(points.astype(np.float32), features, pictures.labels, pictures.classes, agreement)


def say_embedding(embedding: Embedding) -> list[str]:
    """What there is to see, in sentences."""
    shares = np.bincount(embedding.labels) / len(embedding.labels)
    return [
        f"of a picture's {NEAREST} nearest neighbours, by what the last layer is given, {embedding.agreement:.0%} are "
        f"of its own class; by chance {np.square(shares).sum():.0%} would be"
    ]


def draw_embedding(embedding: Embedding, classifier: Classifier, pictures: Pictures) -> Figure:
    """Draws the points coloured by class, and beside it thumbnails at their places, where there is room.

    Args:
        embedding: of these pictures.
        classifier: whose Prepare makes the thumbnails.
        pictures: in the same order.
    """
    import matplotlib

    figure = make_figure(17, 8.4)
    dots, thumbnails = figure.subplots(1, 2)
    few = len(embedding.classes) <= NAMED
    palette = "tab10" if len(embedding.classes) <= 10 else "tab20" if few else "hsv"
    colours = matplotlib.colormaps[palette]
    for label, name in enumerate(embedding.classes):
        chosen = embedding.points[embedding.labels == label]
        colour = colours(label) if few else colours(label / len(embedding.classes))
        dots.scatter(*chosen.T, s=9, color=colour, linewidths=0, label=shorten(name, 18) if few else None)
    if few:
        dots.legend(frameon=False, fontsize=8, markerscale=2, ncols=2, loc="upper left", bbox_to_anchor=(0, -0.01))
    low, high = embedding.points.min(axis=0), embedding.points.max(axis=0)
    place = ((embedding.points - low) / np.maximum(high - low, 1e-9) * (CELLS - 1)).round().astype(int)
    taken: set[tuple[int, int]] = set()
    for index, (column, row) in enumerate(place.tolist()):
        if (column, row) in taken:
            continue
        taken.add((column, row))
        extent = (column, column + 0.94, row, row + 0.94)
        pixels = see(classifier, pictures, index)
        thumbnails.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")
    thumbnails.set(xlim=(0, CELLS), ylim=(0, CELLS), aspect="equal")
    for axes in (dots, thumbnails):
        axes.set_axis_off()
    dots.set_title(f"{len(embedding.points):,} pictures by what the last layer is given", loc="left", fontsize=11)
    return figure
