"""The report of a transfer: one HTML file with what was tried, what was kept, and what it is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyebright.classifier import Classifier
from eyebright.data.images import Pictures
from eyebright.evaluation.multi_label import AnyEvaluation
from eyebright.inspection.candidates import tabulate
from eyebright.inspection.embedding import draw_embedding, embed, say_embedding
from eyebright.inspection.moved import draw_moved
from eyebright.inspection.page import as_base64, png, render_template
from eyebright.inspection.pictures import sample
from eyebright.inspection.tested import tell_tested
from eyebright.training.estimate import in_words
from eyebright.transfer.folder import TransferFolder
from eyebright.transfer.rejecting import Calibration

MAPPED = 1000  # pictures of the map, at most
FEWEST_MAPPED = 12  # more than the neighbours that are counted


def write_transfer_report(
    folder: TransferFolder,
    values: dict[str, Any],
    classifier: Classifier,
    test: Pictures,
    evaluation: AnyEvaluation,
    scores: NDArray[np.float32] | None = None,
) -> None:
    """Writes ``report.html`` into a transfer's folder.

    Args:
        folder: with its contract, its receipt and its figure.
        values: as ``transfer.json`` holds them.
        classifier: the kept one.
        test: the pictures of its test part.
        evaluation: its answers to them.
        scores: how strange each of them is to it, `[N]`; None: it rejects none.

    Raises:
        OutputError: the file cannot be written; an older report is then untouched.
    """
    receipt, asked = folder.receipt, values["asked"]
    assert receipt is not None
    calibrated = Calibration(**values["calibration"]).sentences()
    told = tell_tested(folder, classifier, test, evaluation, scores, calibrated)
    if len(test) >= FEWEST_MAPPED and not classifier.multi_label:
        told["inside"] = [_map(classifier, test, folder.seed)]
    own = {
        "title": f"{Path(asked['data']).name}, from {Path(asked['backbone']).name}",
        "figure": as_base64(folder.figure_path.read_bytes()),
        "rows": tabulate(values["candidates"], values["kept"]),
        "said": values["findings"],
        "receipt": receipt,
        "moved": png(draw_moved(receipt["entries"])) if any(one["moved"] for one in receipt["entries"]) else "",
        "made_by": {name.replace("_", " "): value for name, value in asked.items()}
        | {
            "pictures shown at": values["size"],
            "pictures learned from": f"{values['pictures']:,}",
            "time since it was begun, or last gone on with": in_words(values["seconds"]),
        },
    }
    folder.write_report(render_template("transfer.html.jinja", **told | own))


def _map(classifier: Classifier, pictures: Pictures, seed: int) -> tuple[str, list[str], str]:
    """A map of pictures by what the kept network makes of them."""
    if len(pictures) > MAPPED:
        pictures = pictures.select(sample(MAPPED, len(pictures), seed))
    embedding = embed(classifier, pictures)
    drawn = png(draw_embedding(embedding, classifier, pictures))
    return "Test pictures as it sees them", say_embedding(embedding), drawn
