"""What the benchmarks share: asking another process, and writing a record."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eyebright.device import choose_plan, describe_machine


def said_by(command: list[str], environment: dict[str, str] | None = None) -> Any:
    """What a process says, as JSON; where it fails, this ends with what it complained of."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)
    return json.loads(done.stdout)


def dated(folder: Path, name: str) -> Path:
    """``folder/2026-11-21-name``, with today's date; the name has the file's ending."""
    return folder / f"{datetime.now(UTC):%Y-%m-%d}-{name}"


def by_plan(name: str, device: str = "cpu") -> str:
    """A record's name for figures by this machine's plan: those of processors that multiply bfloat16 stand apart."""
    half = device == "cpu" and choose_plan(device, training=False).number_format == "bfloat16"
    return f"{name}-bfloat16" if half else name


def write_record(folder: Path, name: str, figures: dict[str, Any]) -> Path:
    """Writes figures, and on which machine they were measured, to ``2026-11-21-name.json``."""
    path = dated(folder, f"{name}.json")
    text = json.dumps({"machine": describe_machine(), **figures}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path
