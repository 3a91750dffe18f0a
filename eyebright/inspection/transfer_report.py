"""The report of a transfer: one HTML file with what was tried, what was kept, and what it is worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eyebright.classifier import Classifier
from eyebright.data.images import Pictures
from eyebright.evaluation.evaluate import Evaluation
from eyebright.evaluation.multi_label import AnyEvaluation
from eyebright.inspection import page
from eyebright.inspection.candidates import tabulate
from eyebright.inspection.embedding import draw_embedding, embed, say_embedding
from eyebright.inspection.moved import draw_moved
from eyebright.inspection.pictures import sample
from eyebright.inspection.reliability import draw_reliability, say_reliability
from eyebright.inspection.tested import tell_tested
from eyebright.training.estimate import in_words
from eyebright.transfer.folder import TransferFolder

MAPPED = 1000  # pictures of the map


def write_transfer_report(
    folder: TransferFolder,
    classifier: Classifier,
    test: Pictures,
    evaluation: AnyEvaluation,
    scores: NDArray[np.float32] | None = None,
) -> None:
    """Writes ``report.html`` into a transfer's folder.

    Args:
        folder: of a transfer that is done.
        classifier: the kept one.
        test: the pictures of its test part.
        evaluation: its answers to them.
        scores: how strange each of them is to it, `[N]`; None: it rejects none.

    Raises:
        OutputError: the file cannot be written; an older report is then untouched.
    """
    values, receipt, environment = folder.values, folder.receipt or {}, folder.environment
    told = tell_tested(folder, classifier, test, evaluation)
    if isinstance(evaluation, Evaluation):
        threshold = classifier.rejection.options.threshold if classifier.rejection is not None else None
        drawn = page.png(draw_reliability(evaluation, scores, threshold))
        told["reliability"] = ([*say_reliability(evaluation), *values["doubts"]], drawn)
        told["inside"] = [_map(classifier, test, folder.seed)]
    own = {
        "title": f"{Path(folder.data.source).name}, from {Path(values['backbone']).name}",
        "figure": page.embed(folder.figure_path.read_bytes()),
        "rows": tabulate(values["candidates"], values["kept"]),
        "said": values["findings"],
        "receipt": receipt,
        "moved": page.png(draw_moved(receipt["entries"])) if any(one["moved"] for one in receipt["entries"]) else "",
        "made_by": {
            **values["asked"],
            "pictures learned from": f"{values['pictures']:,}",
            "in all": in_words(environment["seconds"]),
        },
    }
    folder.write_report(page.render_template("transfer.html.jinja", **told | own))


def _map(classifier: Classifier, pictures: Pictures, seed: int) -> tuple[str, list[str], str]:
    """A map of pictures by what the kept network makes of them."""
    if len(pictures) > MAPPED:
        pictures = pictures.select(sample(MAPPED, len(pictures), seed))
    embedding = embed(classifier, pictures)
    return (
        "Test pictures as it sees them",
        say_embedding(embedding),
        page.png(draw_embedding(embedding, classifier, pictures)),
    )
