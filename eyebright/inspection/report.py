"""The report of a run: one HTML file with everything to look at, that opens offline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eyebright.classifier import Classifier
from eyebright.data.images import Pictures
from eyebright.evaluation.evaluate import Evaluation
from eyebright.evaluation.multi_label import AnyEvaluation
from eyebright.inspection.curves import draw_curves
from eyebright.inspection.filters import compare_filters, draw_filters
from eyebright.inspection.gradients import draw_gradients, say_gradients
from eyebright.inspection.page import png, render_template, svg
from eyebright.inspection.shift import draw_shift, measure_shift, say_shift
from eyebright.inspection.tested import tell_tested
from eyebright.layers.network import Network
from eyebright.training.run import Run


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
    metrics, recipe = run.metrics(), run.recipe
    told = tell_tested(run, classifier, test, evaluation)
    told["notes"] = [*told["notes"], *_changes(run)]
    said = any(finding["name"] == "chance_level" for finding in findings)
    if isinstance(evaluation, Evaluation) and not said:
        told["notes"] = [*told["notes"], *_chance_notes(evaluation, metrics[-1])]
    best = recipe.training.keep == "best" and metrics[-1]["val_accuracy"] is not None
    values = {
        "title": f"{recipe.name} on {Path(run.contract.source).name}",
        "about": recipe.about,
        "findings": findings,
        "curves": svg(draw_curves(metrics)),
        "metrics": metrics,
        "speed": np.mean([line["images_per_second"] for line in metrics]),
        "best": run.kept_epoch() if best else None,
        "receipt": run.receipt,
        "inside": _inside(run, classifier, first),
        "toml": recipe.to_toml(),
    }
    run.write_report(render_template("report.html.jinja", **told | values))


def _inside(run: Run, classifier: Classifier, first: Network | None) -> list[tuple[str, list[str], str]]:
    """What there is to see in the network: a title, sentences, and a PNG figure each."""
    found = []
    if first is not None:
        filters = compare_filters(first, classifier.model)
        found.append((f"Filters of {filters.layer}", filters.findings(), png(draw_filters(filters))))
    if observations := run.observations():
        shifts = measure_shift(observations)
        found += [
            ("Gradients and steps of each layer", say_gradients(observations), png(draw_gradients(observations))),
            ("How the inputs of the layers moved", say_shift(shifts), png(draw_shift({"inputs": shifts}))),
        ]
    return found


def _changes(run: Run) -> list[str]:
    """Where the run went on differently from how it had begun."""
    return [
        f"After step {change['step']:,} training went on by another plan: {change['differences']}. "
        "Left alone, the run would not have given the same bits."
        for change in run.environment.get("changes_of_plan", [])
        if change["step"]
    ]


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
