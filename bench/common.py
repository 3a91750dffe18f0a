"""What the benchmarks share: asking another process, keeping what took long, and writing a record."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eyebright.device import describe_machine
from eyebright.files import write_atomically
from eyebright.training.recipe import Recipe, load_recipe


def said_by(command: list[str], environment: dict[str, str] | None = None) -> Any:
    """What a process says, as JSON; where it fails, this ends with what it complained of."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)
    return json.loads(done.stdout)


def shortened(name: str, epochs: int) -> Recipe:
    """A recipe of a lecture in fewer epochs; where its rate falls, after half and after three quarters of them."""
    recipe = load_recipe(name)
    changes = [f"training.epochs={epochs}"]
    if recipe.training.schedule == "multi_step":
        changes.append(f"training.milestones={[max(1, epochs // 2), max(2, math.ceil(epochs * 3 / 4))]}")
    elif recipe.training.schedule == "plateau":  # without a validation part nothing can stand still
        changes.append('training.schedule="constant"')
    return load_recipe(name, changes)


def keep(folder: Path, name: str, about: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` gives, from a file where it was kept before under this name and with all that `about` says."""
    place = folder / f"{name}-{hashlib.blake2b(repr(about).encode(), digest_size=6).hexdigest()}.json"
    if not place.exists():
        made = json.dumps(make())
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, [made.encode()])
    kept: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    return kept


def dated(folder: Path, name: str) -> Path:
    """``folder/2026-11-21-name``, with today's date; the name has the file's ending."""
    return folder / f"{datetime.now(UTC):%Y-%m-%d}-{name}"


def write_record(folder: Path, name: str, figures: dict[str, Any]) -> Path:
    """Writes figures, and on which machine they were measured, to ``2026-11-21-name.json``."""
    path = dated(folder, f"{name}.json")
    text = json.dumps({"machine": describe_machine(), **figures}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path
