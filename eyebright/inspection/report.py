"""The report of a run: one HTML file with everything to look at, that opens offline."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from eyebright.classifier import Classifier
from eyebright.data.images import Pictures
from eyebright.errors import ModelError
from eyebright.evaluation.evaluate import Evaluation
from eyebright.evaluation.multi_label import AnyEvaluation, MultiLabelEvaluation
from eyebright.files import read_json
from eyebright.inspection.confusion import draw_confusion
from eyebright.inspection.curves import draw_curves
from eyebright.inspection.filters import compare_filters, draw_filters
from eyebright.inspection.gradients import draw_gradients, say_gradients
from eyebright.inspection.labels import draw_precision_recall, show_labels
from eyebright.inspection.mistakes import draw_mistakes, surest_mistakes
from eyebright.inspection.pictures import draw_answers, sample, show_answers
from eyebright.inspection.saliency import draw_saliency, explain, say_saliency
from eyebright.inspection.shift import draw_shift, measure_shift, say_shift
from eyebright.inspection.style import encode
from eyebright.inspection.summary import summarise
from eyebright.layers.network import Network
from eyebright.training.estimate import in_words
from eyebright.training.run import Run

GRID_PICTURES = 40
WORST_MISTAKES = 24
SUREST_MISTAKES = 8  # that are shown with five bars each
EXPLAINED = 3  # pictures whose answers are explained


def write_report(
    run: Run,
    classifier: Classifier,
    test: Pictures,
    evaluation: AnyEvaluation,
    first: Network | None = None,
    findings: Sequence[dict[str, Any]] = (),
) -> None:
    """Writes ``report.html`` into a run's folder.

    Args:
        run: a run that has been trained and evaluated.
        classifier: its classifier.
        test: the pictures of its test part.
        evaluation: the classifier's answers to them.
        first: its network before training; None: filters are not compared.
        findings: what the doctor says of the run: name, severity, problem, evidence, why and remedy of each.

    Raises:
        OutputError: the file cannot be written; an older report is then untouched.
    """
    metrics, environment = run.metrics(), run.environment
    told = run.recipe.training.keep == "best" and metrics[-1]["val_accuracy"] is not None
    worst_first, shown = evaluation.worst(WORST_MISTAKES), sample(GRID_PICTURES, evaluation.count, run.seed)
    notes = environment["notes"]
    said = any(finding["name"] == "chance_level" for finding in findings)
    own: dict[str, Any]
    if isinstance(evaluation, MultiLabelEvaluation):
        name = "report_multi_label.html.jinja"
        worst, grid = (show_labels(classifier, test, evaluation, indices) for indices in (worst_first, shown))
        own = {
            "interval": evaluation.accuracy_interval,
            "chance_loss": _entropy_of_labels(evaluation),
            "notes": notes,
            "curves_of_labels": _svg(draw_precision_recall(evaluation)),
            "bars": "",
            "saliency": None,
        }
    else:
        name = "report.html.jinja"
        worst, grid = (show_answers(classifier, test, evaluation, indices) for indices in (worst_first, shown))
        own = {
            "interval": evaluation.top1_interval,
            "chance_loss": math.log(len(evaluation.classes)),
            "notes": notes if said else [*notes, *_chance_notes(evaluation, metrics[-1])],
            "confusion": _svg(draw_confusion(evaluation)),
            "confused": evaluation.most_confused(15),
            "bars": _bars(classifier, test, evaluation),
            "saliency": _saliency(classifier, test, evaluation),
        }
    plan = {f"plan: {key}": value for key, value in environment["plan"].items()}
    template = jinja2.Environment(
        loader=jinja2.PackageLoader("eyebright.inspection", "."), autoescape=True, undefined=jinja2.StrictUndefined
    ).get_template(name)
    html = template.render(
        recipe=run.recipe,
        source=Path(run.contract.source).name,
        started=environment["started"][:16].replace("T", " "),
        environment=environment,
        evaluation=evaluation,
        opened=len(environment["test_openings"]),
        curves=_svg(draw_curves(metrics)),
        metrics=metrics,
        training_seconds=environment["training_seconds"],
        estimated_seconds=environment["estimated_seconds"],
        speed=np.mean([line["images_per_second"] for line in metrics]),
        best=run.kept_epoch() if told else None,
        grid=_png(draw_answers(grid)),
        mistakes=_png(draw_answers(worst)) if worst else "",
        worst=worst,
        contract=run.contract,
        network=_network(classifier),
        toml=run.recipe.to_toml(),
        machine=environment["machine"] | plan,
        percent=lambda share: f"{share:.1%}",
        in_words=in_words,
        findings=findings,
        receipt=run.receipt,
        inside=_inside(run, classifier, first),
        looked_at=_looked_at(run),
        **own,
    )
    run.write_report(html)


def _inside(run: Run, classifier: Classifier, first: Network | None) -> list[tuple[str, list[str], str]]:
    """What there is to see in the network: a title, sentences, and a PNG figure each."""
    found = []
    if first is not None:
        filters = compare_filters(first, classifier.model)
        found.append((f"Filters of {filters.layer}", filters.findings(), _png(draw_filters(filters))))
    if observations := run.observations():
        shifts = measure_shift(observations)
        found += [
            ("Gradients and steps of each layer", say_gradients(observations), _png(draw_gradients(observations))),
            ("How the inputs of the layers moved", say_shift(shifts), _png(draw_shift({"inputs": shifts}))),
        ]
    return found


def _looked_at(run: Run) -> list[tuple[str, list[str], list[str]]]:
    """What `eyebright inspect` has drawn of this run: its name, sentences, and the PNG figures."""
    found = []
    for path in sorted((run.path / "inspection").glob("*.json")):
        seen = read_json(path, "inspection of a run")
        figures = [
            _embed(path.with_name(name).read_bytes()) for name in seen["figures"] if (path.parent / name).exists()
        ]
        found.append((path.stem, seen["findings"], figures))
    return found


def _bars(classifier: Classifier, test: Pictures, evaluation: Evaluation) -> str:
    mistakes = surest_mistakes(classifier, test, evaluation, SUREST_MISTAKES)
    return _png(draw_mistakes(mistakes)) if mistakes else ""


def _saliency(classifier: Classifier, test: Pictures, evaluation: Evaluation) -> tuple[list[str], str] | None:
    """What the surest wrong answer and the surest right ones rest on; None where no stage has places."""
    right = evaluation.predictions == evaluation.labels
    order = np.argsort(-evaluation.probabilities.max(axis=1), kind="stable")
    chosen = np.concatenate([order[~right[order]][:1], order[right[order]]])[:EXPLAINED]
    try:
        explained = explain(classifier, test, chosen)
    except ModelError:
        return None
    return say_saliency(explained), _png(draw_saliency(explained))


def _chance_notes(evaluation: Evaluation, last: dict[str, Any]) -> list[str]:
    """What to say of a network that is no better than guessing on test (lecture: L2.8), where the doctor has not."""
    low, high = evaluation.top1_interval
    classes = len(evaluation.classes)
    if not low <= 1 / classes <= high:
        return []
    fact = (
        f"The network is at chance level: the interval of its accuracy holds {1 / classes:.1%}, which is guessing "
        f"among {classes} classes, and guessing has a loss of ln({classes}) = {math.log(classes):.3f}. "
    )
    if last["train_accuracy"] > 1.5 / classes:
        return [
            f"{fact}It has learnt the training pictures ({last['train_accuracy']:.1%}) and nothing that holds for "
            "others: add pictures, add [augment], or take a smaller network."
        ]
    return [f"{fact}It has not begun to learn: train it longer, or with another learning rate."]


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


def _svg(figure: Any) -> str:
    text = encode(figure, "svg").decode()
    return text[text.index("<svg") :]


def _png(figure: Any) -> str:
    return _embed(encode(figure, "png", 110))


def _embed(picture: bytes) -> str:
    return base64.b64encode(picture).decode()
