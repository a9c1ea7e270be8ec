"""The figure of the `steps` study."""

import pytest

from attnbench.study import steps
from attnbench.worker import study_experiments


def images(figure):
    """Return the image of each matrix in a figure, by the title of the matrix."""
    return {axes.get_title(): axes.images[0] for axes in figure.axes if axes.images}


@pytest.mark.parametrize("only", [None, ("scores", "scaled")])
def test_equal_colours_are_equal_values(only):
    """All matrices that are not weights share one colour scale, so that scaled scores look smaller than scores."""
    drawn = images(steps.draw(study_experiments.steps(), only))
    scores, scaled = drawn["scores Q Kᵀ"], drawn["scaled scores Q Kᵀ / √D"]
    assert scores.get_clim() == scaled.get_clim()
    assert scores.to_rgba(scores.get_array()).tolist() != scaled.to_rgba(scaled.get_array()).tolist()
    assert len({image.get_clim() for title, image in drawn.items() if "weights" not in title.split(":")[0]}) == 1


def test_weights_are_coloured_from_0_to_1():
    """All matrices of weights have the same colour scale, from 0 to 1."""
    drawn = images(steps.draw(study_experiments.steps(), ("weights", "heads")))
    assert {image.get_clim() for image in drawn.values()} == {(0, 1)}


def test_a_figure_has_a_colour_bar_for_each_scale_and_a_number_in_each_cell():
    """The figure has two colour bars, and the number of each cell is written in it."""
    rows = study_experiments.steps()
    figure = steps.draw(rows)
    assert {axes.get_ylabel() for axes in figure.axes} == {"", "attention weight", "value of any other matrix"}
    texts = {axes.get_title(): [text.get_text() for text in axes.texts] for axes in figure.axes if axes.images}
    for row in rows:
        assert texts[row["title"]] == [f"{value:.2f}" for line in row["matrix"] for value in line]
