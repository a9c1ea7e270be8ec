"""The printed figures."""

import pytest

from attnbench.report.matplotlib_figures import draw


def plot_of(*lengths):
    """Return a plot of two curves over the given lengths, with intervals."""
    values = [float(length) for length in lengths]
    curves = [
        {
            "variant": name, "colour": "#000000", "marker": "o", "dash": [], "lengths": list(lengths),
            "values": values, "low": [0.9 * value for value in values], "high": [1.2 * value for value in values],
        }
        for name in ("alpha", "beta")
    ]  # fmt: skip
    facet = {"title": ("forward", "B1"), "ticks": {str(length): length for length in lengths}, "curves": curves}
    return {"files": {}, "axis_title": "latency", "log": True, "reference": None, "facets": [facet]}


def test_values_at_a_single_length_are_side_by_side_with_their_intervals():
    """At a single length, the variants have different places and visible intervals, and the only tick is the length."""
    (axes,) = draw(plot_of(3000)).axes
    assert [line.get_xdata().tolist() for line in axes.lines] == [[0], [1]]
    intervals = [segment.tolist() for lines in axes.collections for segment in lines.get_segments()]
    assert intervals == [[[0, 2700], [0, 3600]], [[1, 2700], [1, 3600]]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["3000"]


def test_values_at_several_lengths_are_at_their_lengths():
    """With several lengths, each variant has a line with points at the lengths, which are the ticks."""
    (axes,) = draw(plot_of(512, 1024)).axes
    assert [line.get_xdata().tolist() for line in axes.lines] == [[512, 1024]] * 2
    assert axes.get_xticks().tolist() == [512, 1024]


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_the_label_of_the_vertical_axis_is_inside_the_figure(columns):
    """The label of the vertical axis is not cut off, however many facets share the width."""
    plot = plot_of(512, 1024)
    figure = draw({**plot, "facets": plot["facets"] * columns})
    figure.draw_without_rendering()
    assert figure.axes[0].yaxis.label.get_window_extent().x0 >= 0
