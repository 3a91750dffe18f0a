"""Histories of runs in files, so that the doctor's rules can be applied again to what was seen once."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from eyebright.doctor.answers import Answers, Copies, Turned
from eyebright.doctor.history import History
from eyebright.files import write_atomically
from eyebright.training.observe import Observation
from eyebright.training.recipe import make_recipe

PLAIN = ("epochs", "counts", "finished", "diverged", "multi_label")


def save_history(path: Path, history: History, about: dict[str, Any]) -> None:
    """Writes a history, and what else is to be known of it, as compressed JSON; losses to five digits."""
    values: dict[str, Any] = {name: getattr(history, name) for name in PLAIN}
    values |= {
        "recipe": history.recipe.model_dump(mode="json", exclude_none=True),
        "classes": list(history.classes),
        "steps": [[line["epoch"], float(f"{line['loss']:.5g}")] for line in history.steps],
        "observations": [seen.as_dict() for seen in history.observations],
        "openings": list(history.openings),
        "shared": [[*parts, names] for parts, names in history.shared.items()],
        "answers": history.answers and _plain(history.answers),
    }
    text = json.dumps({"about": about, "history": values})
    write_atomically(path, [gzip.compress(text.encode(), mtime=0)])


def load_history(path: Path) -> tuple[History, dict[str, Any]]:
    """What `save_history` wrote."""
    kept = json.loads(gzip.decompress(path.read_bytes()))
    values = kept["history"]
    history = History(
        recipe=make_recipe(values["recipe"]),
        classes=tuple(values["classes"]),
        steps=[{"step": step, "epoch": epoch, "loss": loss} for step, (epoch, loss) in enumerate(values["steps"], 1)],
        observations=[Observation.from_dict(line) for line in values["observations"]],
        openings=tuple(values["openings"]),
        shared={(first, second): names for first, second, names in values["shared"]},
        answers=values["answers"] and _answers(values["answers"]),
        **{name: values[name] for name in PLAIN},
    )
    return history, kept["about"]


def _plain(answers: Answers) -> dict[str, Any]:
    values = {field.name: getattr(answers, field.name) for field in fields(answers)}
    shares = answers.val_probabilities
    return values | {
        "val_probabilities": None if shares is None else np.round(shares, 4).tolist(),
        "val_labels": answers.val_labels.tolist(),
        "copies": [asdict(copies) for copies in answers.copies],
        "turned": [asdict(turned) for turned in answers.turned],
    }


def _answers(values: dict[str, Any]) -> Answers:
    shares = values["val_probabilities"]
    return Answers(
        **values
        | {
            "val_probabilities": None if shares is None else np.array(shares, dtype=np.float64),
            "val_labels": np.array(values["val_labels"], dtype=np.int64),
            "copies": tuple(Copies(**row | {"names": tuple(row["names"])}) for row in values["copies"]),
            "turned": tuple(Turned(**row) for row in values["turned"]),
        }
    )
