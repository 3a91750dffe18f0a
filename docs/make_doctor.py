"""Makes doctor.md from the sources: every rule, as its docstring says it. `make docs` calls it."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from eyebright.doctor.examine import EXPLAINS, RULES

PAGE = Path(__file__).with_name("doctor.md")


def render() -> str:
    """The page."""
    text = [
        "# The doctor",
        "<!-- made by docs/make_doctor.py from the sources: change those, then `make docs` -->",
        "`eyebright doctor RUN` applies these rules to a run, and training does as it goes on. A finding has a name, a "
        "severity (*error*: what was trained will not do, or its figures are not true; *warning*: it could be better, "
        "or its figures say less than they seem to; *note*: nothing need be done), the evidence with epochs and "
        "figures, why it comes about, and what to do. Of a healthy run nothing is said.",
        "What the rules look at: the figures of every epoch and step; what is seen inside the network every "
        "`training.observe_steps` steps (gradients, steps and inputs of each layer); and, once training is done, what "
        "the network answers to validation pictures, and to training pictures as they are and as training shows them, "
        "what a linear classifier on patches of the pictures answers, and copies between the parts. `--quick` leaves "
        "these answers out. The test part's labels are never looked at.",
    ]
    rooms = dict.fromkeys(rule.__module__ for rule in RULES)
    for room in rooms:
        about = inspect.cleandoc(sys.modules[room].__doc__ or "").removeprefix("Rules about ").rstrip(".")
        text.append(f"## {about[0].upper()}{about[1:]}")
        for rule in RULES:
            if rule.__module__ == room:
                text += [f"### `{rule.__name__}`", inspect.cleandoc(rule.__doc__ or "")]
                if explained := EXPLAINS.get(rule.__name__):
                    names = ", ".join(f"`{name}`" for name in sorted(explained))
                    text.append(f"Where it is found, these are left out, which it explains: {names}.")
    return "\n\n".join(text) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
