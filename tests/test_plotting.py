import pickle
import subprocess
import sys

import numpy as np
import pytest

import nnx
from nnx import plotting


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib", reason='pip install "nnx-array[examples]"')


def test_importing_plotting_does_not_import_matplotlib():
    code = "import sys, nnx.plotting; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "nnx.plotting.figure", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (plotting.require_matplotlib, lambda: plotting.plot_curves({"a": {"b": [1.0]}})):
        with pytest.raises(ImportError, match=r'pip install "nnx-array\[examples\]"'):
            draw()


def test_curves_stand_at_1_2_3_and_the_legend_has_the_order_of_their_ends(matplotlib, tmp_path):
    figure = plotting.plot_curves({"first": {"low": [1, 2], "high": [3, 4, 5]}, "second": {}})
    left, right = figure.axes
    assert [list(line.get_xdata()) for line in left.lines] == [[1, 2], [1, 2, 3]]
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["high", "low"]
    handles = left.get_legend().legend_handles
    assert [handle.get_color() for handle in handles] == ["C1", "C0"]
    assert (left.get_title(), right.get_title()) == ("first", "second")
    assert left.get_ylabel() == "test accuracy in %"
    figure.savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_the_axis_of_percentages_widens_towards_100(matplotlib, tmp_path):
    figure = plotting.plot_curves({"a": {"b": [50.0, 75.0, 87.5, 100.0]}})
    ax = figure.axes[0]
    heights = ax.transData.transform([(1, v) for v in (50, 75, 87.5)])[:, 1]
    np.testing.assert_allclose(heights[1] - heights[0], heights[2] - heights[1])
    figure.savefig(tmp_path / "percent.png")  # 100 % is no infinity
    linear = plotting.plot_curves({"a": {"b": [50.0, 75.0]}}, percent=False)
    assert linear.axes[0].get_yscale() == "linear"


def test_thirty_lines_of_a_panel_all_look_different(matplotlib):
    figure = plotting.plot_curves({"many": {str(i): [i] for i in range(30)}})
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 30


def test_history_has_loss_and_accuracy(matplotlib):
    history = nnx.History([0.5, 0.25], [0.5, 0.75], [0.75, 0.5], [0.25, 0.5], [1.0, 1.0])
    loss, accuracy = plotting.plot_history(history).axes
    assert [list(line.get_ydata()) for line in loss.lines] == [[0.5, 0.25], [0.75, 0.5]]
    assert [list(line.get_ydata()) for line in accuracy.lines] == [[50, 75], [25, 50]]
    without_validation = nnx.History([0.5], [0.5], [], [], [1.0])
    assert len(plotting.plot_history(without_validation).axes[0].lines) == 1


def test_the_history_of_a_regression_has_a_panel_for_each_of_its_quantities(matplotlib):
    x = np.linspace(0, 1, 20)[:, None]
    net = nnx.SequentialNet(1, [nnx.DenseLayer(1, 1, nnx.Linear())])
    history = net.train(x, 2 * x, 5, 2, validation=(x, x), progress=False)
    panels = {ax.get_title(): ax.lines for ax in plotting.plot_history(history).axes}
    assert list(panels) == ["loss", "mean absolute error", "r2"]
    for title, lines in panels.items():
        name = title.replace(" ", "_")
        assert list(lines[0].get_ydata()) == history[name]
        assert list(lines[1].get_ydata()) == history[f"validation_{name}"]


def test_activations_are_drawn_with_their_derivatives(matplotlib, backend):
    functions = [nnx.TanH(), nnx.SoftMax(), nnx.Linear()]
    figure = plotting.plot_activations(functions, limit=3.0)
    s = lambda t: 1 / (1 + np.exp(-t))
    expected = [
        (np.tanh, lambda t: 1 / np.cosh(t) ** 2),
        (s, lambda t: s(t) * s(-t)),  # the first entry of the row (t, 0)
        (lambda t: t, lambda t: 0 * t + 1),
    ]
    for ax, function, (value, derivative) in zip(figure.axes, functions, expected):
        assert ax.get_title() == type(function).__name__
        for line, formula in zip(ax.lines[2:], (value, derivative)):
            t, y = line.get_data()
            np.testing.assert_allclose(y, formula(t), atol=1e-6)
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["SignLike", "HeavisideLike", "no family", "derivative"]


def test_a_wrong_guess_is_red(matplotlib):
    images = np.arange(32.0).reshape(2, 16)
    figure = plotting.plot_digits(images, [7, 2], [7, 3])
    right, wrong = figure.axes
    assert (right.get_title(), wrong.get_title()) == ("7: 7", "2: 3")
    assert (right.title.get_color(), wrong.title.get_color()) == ("black", "red")
    np.testing.assert_array_equal(wrong.images[0].get_array(), images[1].reshape(4, 4))
    with pytest.raises(ValueError, match="got 15 pixels"):
        plotting.plot_digits(images[:, :15], [7, 2], [7, 3])


def test_histograms_count_every_weight(matplotlib):
    weights = np.array([[-2.0, 0.0], [0.5, 2.0]])
    figure = plotting.plot_weights({"net": {"a": weights, "b": weights[0]}, "other": {}})
    counts = [patch.get_data().values.sum() for patch in figure.axes[0].patches]
    assert counts == [4, 2]
    assert figure.axes[0].get_yscale() == "log"


def test_a_figure_is_a_picture_of_its_own_size_and_unknown_to_pyplot(matplotlib):
    figure = plotting.plot_curves({"a": {"b": [1.0, 2.0]}})
    png = figure._repr_png_()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    assert (width, height) == (int(5.2 * 120), int(3.8 * 120))
    assert pickle.loads(pickle.dumps(figure))._repr_png_().startswith(b"\x89PNG")
    code = (
        "import sys; from nnx import plotting; plotting.plot_curves({'a': {'b': [1.0]}}); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
