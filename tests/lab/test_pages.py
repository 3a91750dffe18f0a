"""The pages of the lab run, and print what the lectures say."""

import runpy
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs" / "lab").glob("plot_*.py"))
SAID = {
    "plot_1_convolution": ["7 + 5 + 7 + 1 = 20", "896 parameters", "4,128 parameters", "on the curve: 6,600"],
    "plot_2_pooling_and_softmax": ["the same: True", "37,752,832", "sum 1.000000"],
    "plot_3_normalisation": ["instance norm: over 2 values each", "evaluating: difference 0.0; training"],
    "plot_4_depth": ["the large one has 81% more", "with a shortcut : output equals input: True"],
    "plot_5_outputs": ["3 output(s): 98"],
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs(page, capsys):
    runpy.run_path(str(page))
    printed = capsys.readouterr().out
    for text in SAID[page.stem]:
        assert text in printed


def test_there_are_pages():
    assert [page.stem for page in PAGES] == list(SAID)
