import numpy as np

from eyebright.inspection.style import BLUE, encode
from eyebright.lab.normalisation import AXES
from eyebright.lab.pictures import NORMALISATIONS, SIDE, _is_averaged, draw_axes, draw_numbers


def test_the_axes_picture_shows_what_is_averaged():
    """The values drawn as averaged are those on which the first value of the first sample depends."""
    figure = draw_axes()
    assert [axes.get_title() for axes in figure.axes] == [f"{name} norm" for name in NORMALISATIONS]
    for name, axes in AXES.items():
        marked = np.array([[_is_averaged(name, sample, channel) for channel in range(SIDE)] for sample in range(SIDE)])
        expected = np.zeros((SIDE, SIDE), bool)
        expected[slice(None) if 0 in axes else 0, slice(None) if 1 in axes else 0] = True
        np.testing.assert_array_equal(marked, expected)
    blue = [sum(patch.get_facecolor()[2] < 0.8 for patch in axes.patches) for axes in figure.axes]
    assert blue == [SIDE + SIDE, SIDE * SIDE + 2 * SIDE, SIDE + 1, 2 * SIDE + 2]
    assert BLUE.startswith("#")


def test_numbers_are_drawn():
    figure = draw_numbers([("a", [[1, 2], [3, 4.5]]), ("b", np.zeros((2, 3)))])
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2", "3", "4.5"]
    assert len(figure.axes[1].texts) == 6
    assert encode(figure, "png").startswith(b"\x89PNG")
