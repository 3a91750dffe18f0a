"""The parts that pages of tested classifiers have in common: figures, answers, mistakes, what they rest on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyebright.classifier import Classifier
from eyebright.data.images import Pictures
from eyebright.errors import ModelError
from eyebright.evaluation.evaluate import Evaluation
from eyebright.evaluation.multi_label import AnyEvaluation, MultiLabelEvaluation
from eyebright.files import read_json
from eyebright.inspection.confusion import draw_confusion
from eyebright.inspection.labels import draw_precision_recall, show_labels
from eyebright.inspection.mistakes import draw_mistakes, surest_mistakes
from eyebright.inspection.page import as_base64, png, svg
from eyebright.inspection.pictures import draw_answers, sample, show_answers
from eyebright.inspection.reliability import draw_reliability, say_reliability
from eyebright.inspection.saliency import draw_saliency, explain, say_saliency
from eyebright.inspection.summary import summarise
from eyebright.training.folder import Folder

GRID_PICTURES = 40
WORST_MISTAKES = 24
SUREST_MISTAKES = 8  # that are shown with five bars each
EXPLAINED = 3  # pictures whose answers are explained


def tell_tested(
    folder: Folder,
    classifier: Classifier,
    test: Pictures,
    evaluation: AnyEvaluation,
    scores: NDArray[np.float32] | None = None,
    calibrated: Sequence[str] = (),
) -> dict[str, Any]:
    """What ``tested.html.jinja`` shows, but for the title.

    Args:
        folder: of a run or a transfer that has been evaluated.
        classifier: its classifier.
        test: the pictures of its test part.
        evaluation: the classifier's answers to them.
        scores: how strange each of them is to it, `[N]`; None: it rejects none.
        calibrated: what there is to say of how its probabilities were calibrated, and what it rejects.
    """
    environment = folder.environment
    worst_first, shown = evaluation.worst(WORST_MISTAKES), sample(GRID_PICTURES, evaluation.count, folder.seed)
    own: dict[str, Any]
    if isinstance(evaluation, MultiLabelEvaluation):
        worst, grid = (show_labels(classifier, test, evaluation, indices) for indices in (worst_first, shown))
        own = {
            "labelled": "several_labels.html.jinja",
            "chance_loss": _entropy_of_labels(evaluation),
            "calibrated": calibrated,
            "curves_of_labels": svg(draw_precision_recall(evaluation)),
            "thresholds": evaluation.thresholds,
            "bars": "",
            "saliency": None,
        }
    else:
        worst, grid = (show_answers(classifier, test, evaluation, indices) for indices in (worst_first, shown))
        own = {
            "labelled": "one_label.html.jinja",
            "chance_loss": math.log(len(evaluation.classes)),
            "confusion": svg(draw_confusion(evaluation)),
            "confused": evaluation.most_confused(15),
            "reliability": png(draw_reliability(evaluation, scores, _threshold(classifier))),
            "calibrated": [*say_reliability(evaluation), *calibrated],
            "bars": _bars(classifier, test, evaluation),
            "saliency": _saliency(classifier, test, evaluation),
        }
    return own | {
        "about": "",
        "notes": environment["notes"],
        "environment": environment,
        "evaluation": evaluation,
        "interval": evaluation.accuracy_interval,
        "opened": len(environment["test_openings"]),
        "grid": png(draw_answers(grid)),
        "mistakes": png(draw_answers(worst)) if worst else "",
        "worst": worst,
        "contract": folder.contract,
        "network": _network(classifier),
        "inside": [],
        "looked_at": _looked_at(folder.path),
        "machine": environment["machine"] | {f"plan: {key}": value for key, value in environment["plan"].items()},
    }


def _threshold(classifier: Classifier) -> float | None:
    return None if classifier.rejection is None else classifier.rejection.options.threshold


def _bars(classifier: Classifier, test: Pictures, evaluation: Evaluation) -> str:
    mistakes = surest_mistakes(classifier, test, evaluation, SUREST_MISTAKES)
    return png(draw_mistakes(mistakes)) if mistakes else ""


def _saliency(classifier: Classifier, test: Pictures, evaluation: Evaluation) -> tuple[list[str], str] | None:
    """What the surest wrong answer and the surest right ones rest on; None where no stage has places."""
    right = evaluation.predictions == evaluation.labels
    order = np.argsort(-evaluation.confidence, kind="stable")
    chosen = np.concatenate([order[~right[order]][:1], order[right[order]]])[:EXPLAINED]
    try:
        explained = explain(classifier, test, chosen)
    except ModelError:
        return None
    return say_saliency(explained), png(draw_saliency(explained))


def _looked_at(path: Path) -> list[tuple[str, list[str], list[str]]]:
    """What `eyebright inspect` has drawn of it: its name, sentences, and the PNG figures."""
    found = []
    for one in sorted((path / "inspection").glob("*.json")):
        seen = read_json(one, "inspection of a run")
        figures = [
            as_base64(one.with_name(name).read_bytes()) for name in seen["figures"] if one.with_name(name).exists()
        ]
        found.append((one.stem, seen["findings"], figures))
    return found


def _entropy_of_labels(evaluation: MultiLabelEvaluation) -> float:
    """The loss of answering each picture with how frequent each label is."""
    from scipy.special import entr

    shares = evaluation.labels.mean(axis=0)
    return float((entr(shares) + entr(1 - shares)).mean())


def _network(classifier: Classifier) -> str:
    size = classifier.prepare.output_size
    summary = summarise(classifier.model, size and size[0], classifier.prepare.channels)
    at = f" at {size[0]}×{size[1]} pixels" if size else ""
    return (
        f"{classifier.model.model_name}: {summary.parameters:,} parameters, "
        f"{summary.multiply_adds / 1e6:,.1f} million multiply-adds a picture{at}."
    )
