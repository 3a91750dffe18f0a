"""The doctor: applies every rule to a run, and follows one that is training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from eyebright.doctor import conduct_rules, data_rules, fit_rules, layer_rules, learning_rules
from eyebright.doctor.diagnosis import SEVERITIES, Diagnosis
from eyebright.doctor.history import History
from eyebright.training.fit import Report, StepReport

Rule = Callable[[History], Diagnosis | None]

RULES: tuple[Rule, ...] = (
    learning_rules.diverged, learning_rules.nan_ahead, learning_rules.chance_level,
    learning_rules.learning_rate_too_high, learning_rules.learning_rate_too_low, learning_rules.loss_not_falling,
    learning_rules.plateau, fit_rules.overfitting, fit_rules.underfitting, fit_rules.dropout_too_strong,
    fit_rules.double_descent, layer_rules.dead_units, layer_rules.unused_input_channel, layer_rules.saturated_layers,
    layer_rules.vanishing_gradients, layer_rules.exploding_gradients, layer_rules.layers_stand_still,
    layer_rules.few_for_batch_norm, data_rules.labels_unrelated, data_rules.label_noise, data_rules.class_ignored,
    data_rules.imbalance, data_rules.leakage, data_rules.augmentation_too_strong,
    data_rules.augmentation_changes_labels, data_rules.order_repeats, conduct_rules.test_opened_often,
    conduct_rules.validation_too_small, conduct_rules.nothing_held_out,
)  # fmt: skip

EXPLAINS = {  # a finding → what it makes superfluous: symptoms of the same fault
    "diverged": {"nan_ahead", "loss_not_falling"},
    "learning_rate_too_high": {"loss_not_falling", "plateau", "underfitting"},
    "learning_rate_too_low": {"underfitting", "loss_not_falling", "plateau"},
    "labels_unrelated": {"chance_level", "overfitting", "loss_not_falling", "plateau", "underfitting"},
    "label_noise": {"overfitting", "plateau", "underfitting"},
    "chance_level": {"loss_not_falling", "plateau", "underfitting"},
    "loss_not_falling": {"underfitting"},
    "order_repeats": {"overfitting", "plateau", "underfitting", "loss_not_falling"},
}


def examine(history: History) -> list[Diagnosis]:
    """What every rule finds in a run, the worst first; what another finding explains is left out."""
    found = [diagnosis for rule in RULES if (diagnosis := rule(history)) is not None]
    explained = {name for diagnosis in found for name in EXPLAINS.get(diagnosis.name, ())}
    left = [diagnosis for diagnosis in found if diagnosis.name not in explained]
    return sorted(left, key=lambda diagnosis: SEVERITIES.index(diagnosis.severity))


AFTERWARDS = {"validation_too_small", "nothing_held_out", "test_opened_often"}  # nothing that training would change


class Watch:
    """Follows a run that is training, and says what is new.

    Args:
        history: the run as far as it has come; its lists are added to.

    Attributes:
        history: the same, as far as it has come since.
    """

    def __init__(self, history: History):
        self.history = history
        self._said: set[tuple[str, str]] = {(one.name, one.severity) for one in examine(history)}

    def take(self, report: StepReport | Report) -> list[Diagnosis]:
        """Takes a report; after each epoch gives what was not there before."""
        history = self.history
        if isinstance(report, StepReport):
            history.steps.append(_step_line(report))
            if report.observation is not None:
                history.observations.append(report.observation)
            return []
        history.epochs.append(asdict(report))
        self.history = replace(history)  # without what was computed before
        found = (one for one in examine(self.history) if one.name not in AFTERWARDS)
        new = [one for one in found if (one.name, one.severity) not in self._said]
        self._said |= {(one.name, one.severity) for one in new}
        return new


def _step_line(report: StepReport) -> dict[str, Any]:
    return {
        "step": report.step, "epoch": report.epoch, "loss": report.loss, "learning_rate": report.learning_rate,
    }  # fmt: skip
