import io

import pytest
from rich.console import Console

from eyebright.training.progress import Display


@pytest.mark.parametrize(("total", "shown"), [(4, "3/4"), (0, "3/None")])
def test_a_bar_that_was_begun_moves_with_each_step(total, shown):
    display = Display(Console(file=io.StringIO(), force_terminal=True))
    with display:
        step = display.begin("looking", total)
        for _ in range(3):
            step()
        (task,) = display._bar.tasks
        assert (task.description, f"{task.completed:.0f}/{task.total}") == ("looking", shown)
        display.begin("comparing", 2)()
        (task,) = display._bar.tasks
        assert (task.description, task.completed, task.total) == ("comparing", 1, 2)


def test_where_there_is_no_terminal_nothing_is_written():
    file = io.StringIO()
    with Display(Console(file=file)) as display:
        display.begin("looking", 1)()
    assert file.getvalue().strip() == ""
