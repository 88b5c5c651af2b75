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


def test_without_matplotlib_every_function_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "nnx.plotting.figure", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    calls = {name: arguments for name, (arguments, _) in calls_with_axes().items()}
    for name in plotting.__all__:
        with pytest.raises(ImportError, match=r'pip install "nnx-array\[examples\]"'):
            getattr(plotting, name)(*calls.get(name, ()))


def test_curves_stand_at_1_2_3_and_the_legend_has_the_order_of_their_ends(matplotlib, tmp_path):
    figure = plotting.plot_curves({"first": {"low": [1, 2], "high": [3, 4, 5]}, "second": {}})
    left, right = figure.axes
    assert [list(line.get_xdata()) for line in left.lines] == [[1, 2], [1, 2, 3]]
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["high", "low"]
    handles = left.get_legend().legend_handles
    assert [handle.get_color() for handle in handles] == plotting._panels.COLORS[1::-1]
    assert (left.get_title(), right.get_title()) == ("first", "second")
    assert left.get_ylabel() == "test accuracy in %\n(stretched towards 100)"
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
    assert linear.axes[0].get_ylabel() == "test accuracy in %"
    for low, high in ((10, 99), (82, 91), (97.2, 98.1)):  # a narrow range has ticks, too
        ax = plotting.plot_curves({"a": {"b": [low, high]}}).axes[0]
        assert 4 <= sum(low <= tick <= high for tick in ax.get_yticks()) <= 12


def test_thirty_lines_of_a_panel_all_look_different(matplotlib):
    figure = plotting.plot_curves({"many": {str(i): [i] for i in range(30)}})
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 30


HISTORY = nnx.History([0.5, 0.25], [0.5, 0.75], [0.75, 0.5], [0.25, 0.5], [1.0, 2.0])
SHORT = nnx.History([2.0], [0.1], [], [], [3.0], metrics={"f1": [0.3]})


def lines_of(ax):
    return [(list(line.get_ydata()), line.get_color(), line.get_linestyle()) for line in ax.lines]


def words(legend):
    return [text.get_text() for text in legend.get_texts()]


def test_a_history_has_a_panel_for_each_quantity_with_its_unit(matplotlib):
    figure = plotting.plot_history(HISTORY)
    loss, accuracy = figure.axes
    blue = plotting._panels.COLORS[0]
    assert lines_of(loss) == [([0.5, 0.25], blue, "-"), ([0.75, 0.5], blue, "--")]
    assert lines_of(accuracy) == [([50, 75], blue, "-"), ([25, 50], blue, "--")]
    assert [ax.get_ylabel() for ax in (loss, accuracy)] == [
        "mean loss per sample",
        "accuracy in %",
    ]
    assert {(ax.get_xlabel(), ax.get_yscale()) for ax in figure.axes} == {("epoch", "linear")}
    assert list(loss.lines[0].get_xdata()) == [1, 2]
    assert words(figure.legends[0]) == ["training", "validation"]
    without_validation = plotting.plot_history(nnx.History([0.5], [0.5], [], [], [1.0]))
    assert len(without_validation.axes[0].lines) == 1
    assert without_validation.legends == []


def test_several_histories_keep_their_colours_in_every_panel(matplotlib):
    figure = plotting.plot_history({"long": HISTORY, "short": SHORT})
    loss, accuracy, f1 = figure.axes
    first, second = plotting._panels.COLORS[:2]
    assert [color for _, color, _ in lines_of(loss)] == [first, first, second]
    assert [color for _, color, _ in lines_of(accuracy)] == [first, first, second]
    assert lines_of(f1) == [([0.3], second, "-")]  # the other one has no f1
    assert f1.get_ylabel() == "f1"
    (legend,) = figure.legends
    assert words(legend) == ["long", "short", "training", "validation"]
    assert [line.get_color() for line in legend.legend_handles[:2]] == [first, second]
    assert [line.get_linestyle() for line in legend.legend_handles[2:]] == ["-", "--"]
    assert words(plotting.plot_history([HISTORY, SHORT]).legends[0])[0] == "training 1"


def test_a_logarithmic_axis_says_so_and_quantities_can_be_chosen(matplotlib):
    figure = plotting.plot_history(HISTORY, ["seconds", "loss"], yscale="log")
    assert [ax.get_ylabel() for ax in figure.axes] == [
        "time of an epoch in s, logarithmic",
        "mean loss per sample, logarithmic",
    ]
    assert [ax.get_yscale() for ax in figure.axes] == ["log", "log"]
    assert list(figure.axes[0].lines[0].get_ydata()) == [1, 2]


def test_the_history_of_a_regression_has_a_panel_for_each_of_its_quantities(matplotlib):
    x = np.linspace(0, 1, 20)[:, None]
    net = nnx.SequentialNet(1, [nnx.DenseLayer(1, 1, nnx.Linear())])
    history = net.train(x, 2 * x, 5, 2, validation=(x, x), progress=False)
    axes = plotting.plot_history(history).axes
    assert [ax.get_ylabel().partition("\n")[0] for ax in axes] == [
        "mean loss per sample",
        "mean absolute error",
        "R² (at most 1)",
    ]
    for ax, name in zip(axes, ("loss", "mean_absolute_error", "r2")):
        assert list(ax.lines[0].get_ydata()) == history[name]
        assert list(ax.lines[1].get_ydata()) == history[f"validation_{name}"]


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


def test_a_wrong_guess_is_red_and_bold(matplotlib):
    images = np.arange(32.0).reshape(2, 16)
    figure = plotting.plot_digits(images, [7, 2], [7, 3])
    right, wrong = figure.axes
    assert (right.get_title(), wrong.get_title()) == ("7: 7", "2: 3")
    assert (right.title.get_color(), wrong.title.get_color()) == ("black", plotting._panels.WRONG)
    assert wrong.title.get_fontweight() == "bold"
    np.testing.assert_array_equal(wrong.images[0].get_array(), images[1].reshape(4, 4))
    assert right.images[0].get_clim() == wrong.images[0].get_clim() == (0, 31)  # one scale
    with pytest.raises(ValueError, match="got 15 pixels"):
        plotting.plot_digits(images[:, :15], [7, 2], [7, 3])


def test_images_have_names_shapes_and_colours(matplotlib):
    pixels = np.arange(24.0).reshape(2, 12)
    figure = plotting.plot_images(pixels, ["a", "b"], shape=(3, 2, 2), columns=1)
    assert [ax.get_title() for ax in figure.axes] == ["a", "b"]
    # (channels, height, width) -> (height, width, channels), in [0, 1] from the smallest, 0
    expected = pixels[1].reshape(3, 2, 2).transpose(1, 2, 0) / 23
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), expected)
    bytes_ = np.full((1, 3, 2, 2), 51, dtype=np.uint8)
    picture = plotting.plot_images(bytes_).axes[0].images[0].get_array()
    np.testing.assert_allclose(picture, np.full((2, 2, 3), 0.2))
    long = plotting.plot_images(pixels[:, :4], [0, 1], [1, 1], names=["aeroplane", "automobile"])
    assert [ax.get_title() for ax in long.axes] == [
        "aeroplane:\nautomobile",
        "automobile:\nautomobile",
    ]


MATRIX = [[8, 2, 0], [0, 5, 5], [1, 0, 0]]


@pytest.mark.parametrize(
    ("normalize", "shown", "title"),
    [
        (None, MATRIX, "number of samples"),
        ("true", [[80, 20, 0], [0, 50, 50], [100, 0, 0]], "% of each true class"),
        ("pred", [[800 / 9, 200 / 7, 0], [0, 500 / 7, 100], [100 / 9, 0, 0]], "% of each guessed"),
        ("all", np.array(MATRIX) / 0.21, "% of all samples"),
    ],
)
def test_a_confusion_matrix_has_true_classes_as_rows(matplotlib, normalize, shown, title):
    figure = plotting.plot_confusion_matrix(MATRIX, ["cat", "dog", "bird"], normalize=normalize)
    (ax,) = figure.axes
    np.testing.assert_allclose(ax.images[0].get_array(), shown)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("guessed class", "true class")
    assert ax.get_title().startswith(title)
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["cat", "dog", "bird"]
    written = {text.get_position(): float(text.get_text()) for text in ax.texts}
    digits = 0 if normalize is None else 1
    cells = {(j, i): round(v, digits) for (i, j), v in np.ndenumerate(np.array(shown)) if v}
    assert written == cells


def test_a_confusion_matrix_of_many_classes_has_a_scale_in_place_of_numbers(matplotlib):
    ax, bar = plotting.plot_confusion_matrix(np.eye(30)).axes
    assert len(ax.texts) == 0
    assert bar.get_ylabel() == "number of samples"
    assert len(ax.get_xticklabels()) == 30  # of up to 40 classes, each has its name
    names = [f"kind {i}" for i in range(90)]
    ax, bar = plotting.plot_confusion_matrix(np.eye(90), names, normalize="true").axes
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert [label.get_text() for label in labels] == names[::3]
    assert bar.get_ylabel() == "% of each true class"
    matrix = nnx.metrics.confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]))
    np.testing.assert_array_equal(
        plotting.plot_confusion_matrix(matrix).axes[0].images[0].get_array(), [[1, 1], [0, 1]]
    )


def test_predictions_stand_over_targets_with_the_diagonal(matplotlib):
    targets, predictions = np.array([[0.0, 1], [10, 3]]), np.array([[2.0, 1], [9, 5]])
    names = ["height", "weight"]
    figure = plotting.plot_predictions(targets, predictions, names=names, unit="kg")
    for i, ax in enumerate(figure.axes):
        dots = np.stack([targets[:, i], predictions[:, i]], axis=1)
        np.testing.assert_array_equal(ax.collections[0].get_offsets(), dots)
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("target in kg", "prediction in kg")
        assert ax.get_title() == names[i]
        assert ax.get_xlim() == ax.get_ylim()
        assert ax.get_aspect() == 1
        assert ax.lines[0].get_slope() == 1
        x0, y0 = ax.lines[0].get_xy1()
        assert x0 == y0
    flat = plotting.plot_predictions(targets[:, 0], predictions[:, :1])  # (n,) beside (n, 1)
    assert len(flat.axes) == 1
    assert flat.axes[0].get_xlabel() == "target"


def test_units_are_images_of_the_shape_that_the_network_takes(matplotlib):
    layers = [nnx.FlattenLayer(), nnx.DenseLayer(6, 3)]
    net = nnx.SequentialNet((1, 2, 3), layers)
    W = nnx.to_numpy(layers[1].W)
    figure = plotting.plot_filters(net)
    ax, bar = figure.axes
    mosaic = ax.images[0].get_array()
    np.testing.assert_array_equal(mosaic[:2, :3], W[0].reshape(2, 3))
    np.testing.assert_array_equal(mosaic[:2, 4:7], W[1].reshape(2, 3))
    assert ax.get_title() == "3 units"
    assert bar.get_ylabel() == "weight"
    low, high = ax.images[0].get_clim()
    assert -low == high == np.abs(W).max()
    given = plotting.plot_filters(W, shape=(3, 2), limit=1).axes[0]
    np.testing.assert_array_equal(given.images[0].get_array(), W[0].reshape(3, 2))
    assert given.get_title() == "the first 1 of 3 units"


def test_filters_have_a_form_for_each_number_of_channels(matplotlib):
    rng = np.random.default_rng(0)
    one, many, colour = (rng.standard_normal((2, c, 3, 3)) for c in (1, 4, 3))
    mosaic = plotting.plot_filters(one).axes[0].images[0].get_array()
    np.testing.assert_array_equal(mosaic[:3, 4:7], one[1, 0])
    assert np.ma.getmaskarray(mosaic)[:, 3].all()  # the line between them
    ax = plotting.plot_filters(many).axes[0]
    np.testing.assert_array_equal(ax.images[0].get_array()[4:7, 8:11], many[1, 2])
    assert ax.get_title() == "2 filters (rows), channels (columns)"
    (ax,) = plotting.plot_filters(colour).axes  # colours need no scale
    largest = np.abs(colour).max()
    expected = 0.5 + colour[0].transpose(1, 2, 0) / (2 * largest)
    picture = ax.images[0].get_array()
    np.testing.assert_allclose(picture[:3, :3, :3], expected)
    assert (picture[:, 3, 3] == 0).all()
    assert (picture[:3, :3, 3] == 1).all()
    over_time = plotting.plot_filters(one[:, 0]).axes[0].images[0].get_array()
    np.testing.assert_array_equal(over_time[:3, :3], one[0, 0])


def test_histograms_count_every_weight(matplotlib):
    weights = np.array([[-2.0, 0.0], [0.5, 2.0]])
    figure = plotting.plot_weights({"net": {"a": weights, "b": weights[0]}, "other": {}})
    counts = [patch.get_data().values.sum() for patch in figure.axes[0].patches]
    assert counts == [4, 2]
    assert figure.axes[0].get_yscale() == "log"
    assert figure.axes[0].get_ylabel() == "number of weights, logarithmic"
    assert figure.axes[0].get_xlabel() == "weight"


def test_a_network_has_a_panel_of_weights_and_of_gradients_for_each_layer(matplotlib):
    block = nnx.ResidualLayer(nnx.DenseLayer(4, 4))
    net = nnx.SequentialNet(4, [nnx.DenseLayer(4, 4, name="first"), nnx.DropoutLayer(0.5), block])
    figure = plotting.plot_weights(net)
    assert [ax.get_title() for ax in figure.axes] == ["1 first", "3.1 DenseLayer"]
    for ax in figure.axes:
        assert [patch.get_data().values.sum() for patch in ax.patches] == [16, 4]
        assert words(ax.get_legend()) == ["W", "b"]
    with pytest.raises(ValueError, match=r"expected the gradients of a backprop, got none; write"):
        plotting.plot_gradients(net)
    x = np.ones((2, 4))
    net.backprop(net.cost.gradient(net.evaluate(x), net.backend.asarray(0 * x)))
    figure = plotting.plot_gradients(net, bins=3)
    assert [ax.get_title() for ax in figure.axes] == ["1 first", "3.1 DenseLayer"]
    assert {ax.get_xlabel() for ax in figure.axes} == {"gradient"}
    g, ax = nnx.to_numpy(block.block.dW), figure.axes[1]
    counts, edges = ax.patches[0].get_data()[:2]
    largest = max(np.abs(nnx.to_numpy(a)).max() for a in (block.block.dW, block.block.db))
    np.testing.assert_allclose(edges, largest * np.array([-1, -1 / 3, 1 / 3, 1]), rtol=1e-6)
    middle = np.abs(g) < largest / 3
    np.testing.assert_array_equal(
        counts, [(g[~middle] < 0).sum(), middle.sum(), (g[~middle] > 0).sum()]
    )


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


def pictures(convert):
    """A call of each function with the data converted."""
    rng = np.random.default_rng(0)
    a = lambda *shape: convert(rng.standard_normal(shape).astype("float32"))
    labels, guesses = convert(np.array([1, 0])), convert(np.array([1, 1]))
    weights = {"a": {"W": a(3, 3), "b": a(3)}}
    return {
        "plot_confusion_matrix": [convert(np.array([[2.0, 0], [1, 3]], dtype="float32"))],
        "plot_curves": [{"a": {"b": a(3)}}],
        "plot_digits": [a(2, 4, 4), labels, guesses],
        "plot_filters": [a(2, 1, 3, 3)],
        "plot_images": [a(2, 16), labels, guesses],
        "plot_predictions": [a(5), a(5)],
        "plot_weights": [weights],
    }


# These take no arrays.
WITHOUT_ARRAYS = {"plot_activations", "plot_gradients", "plot_history"}


def shown(figure):
    """Every number that is drawn, and every title."""
    for ax in figure.axes:
        yield ax.get_title()
        for line in ax.lines:
            yield np.asarray(line.get_ydata() if hasattr(line, "get_data") else 0)
        yield from (np.ma.filled(image.get_array(), 0) for image in ax.images)
        yield from (np.asarray(dots.get_offsets()) for dots in ax.collections)
        yield from (np.asarray(patch.get_data()[0]) for patch in ax.patches)


def test_arrays_of_every_backend_give_the_same_pictures(matplotlib, backend):
    calls, expected = pictures(nnx.get_backend().asarray), pictures(np.asarray)
    assert {*calls} | WITHOUT_ARRAYS | {"require_matplotlib"} == {*plotting.__all__}
    for name, arguments in calls.items():
        draw = getattr(plotting, name)
        ours, theirs = list(shown(draw(*arguments))), list(shown(draw(*expected[name])))
        assert len(ours) > 1
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


def calls_with_axes():
    """name -> arguments, and how many panels there are."""
    net = nnx.SequentialNet(4, [nnx.DenseLayer(4, 4), nnx.DenseLayer(4, 2)])
    net.evaluate(np.ones((2, 4)))
    net.backprop(net.backend.asarray(np.ones((2, 2))))
    more = {
        "plot_activations": ([[nnx.ReLU(), nnx.TanH()]], 2),
        "plot_gradients": ([net], 2),
        "plot_history": ([HISTORY], 2),
    }
    one = {"plot_digits": 2, "plot_images": 2}
    return more | {name: (a, one.get(name, 1)) for name, a in pictures(np.asarray).items()}


@pytest.mark.parametrize("name", sorted({*plotting.__all__} - {"require_matplotlib"}))
def test_axes_that_are_given_are_drawn_into_and_come_back(matplotlib, name):
    from matplotlib.figure import Figure

    arguments, count = calls_with_axes()[name]
    draw = getattr(plotting, name)
    axes = Figure().subplots(1, count + 1)[:count]
    given = axes if count > 1 else axes[0]
    assert draw(*arguments, ax=given) is given
    for ours, theirs in zip(axes, draw(*arguments).axes):
        assert ours.has_data()
        assert ours.get_ylabel() == theirs.get_ylabel()
        assert len(ours.lines) == len(theirs.lines)
    called = name.replace("digits", "images")
    with pytest.raises(
        ValueError, match=rf"^{called}.*expected {count} Axes.*, got {count + 2}; wr"
    ):
        draw(*arguments, ax=Figure().subplots(count + 2))
    with pytest.raises(
        TypeError, match=rf"^{called}: expected ax to be .*Axes.*, got 'left'; write"
    ):
        draw(*arguments, ax="left")


A, N = np.zeros((2, 3)), np.zeros((2, 2))
MISTAKES = [
    (lambda p: p.plot_history(3), TypeError, "plot_history: expected history to be a History"),
    (lambda p: p.plot_history({"a": [1.0]}), TypeError, r"expected history\['a'\] to be an obj"),
    (lambda p: p.plot_history([HISTORY] * 11), ValueError, "expected at most 10 .*, got 11; draw"),
    (
        lambda p: p.plot_history(HISTORY, ["f1"]),
        ValueError,
        "expected quantities to be .*, got 'f1",
    ),
    (lambda p: p.plot_history(HISTORY, "loss"), TypeError, r'a list of names such as \["loss"\]'),
    (
        lambda p: p.plot_history(HISTORY, yscale="ln"),
        ValueError,
        "one of 'linear', 'log', got 'ln'",
    ),
    (lambda p: p.plot_curves({"a": [1.0]}), TypeError, r'got .*; write \{"title": \{"name": val'),
    (lambda p: p.plot_curves({"a": {"b": A}}), ValueError, r"'b' of shape \(values,\), got \(2, 3"),
    (lambda p: p.plot_weights([A]), TypeError, "plot_weights: expected a dict from title"),
    (
        lambda p: p.plot_weights({"a": {"W": A / 0}}),
        ValueError,
        "expected finite numbers, got .*a, W",
    ),
    (lambda p: p.plot_predictions(A, A / 0), ValueError, "infinity or NaN in predictions; if a tr"),
    (lambda p: p.plot_images(N / 0), ValueError, "expected finite numbers, got .* in images; if"),
    (lambda p: p.plot_filters(A / 0), ValueError, "expected finite numbers, got .* in weights; if"),
    (lambda p: p.plot_weights({"a": {"W": A}}, bins=0), ValueError, "expected bins .*, got 0"),
    (
        lambda p: p.plot_weights(nnx.FlattenLayer()),
        ValueError,
        "a layer with parameters, got one wit",
    ),
    (lambda p: p.plot_gradients(A), TypeError, "plot_gradients: expected net to be an object"),
    (
        lambda p: p.plot_predictions(A, N),
        ValueError,
        r"shape of the targets, \(2, 3\), got \(2, 2\)",
    ),
    (
        lambda p: p.plot_predictions(A, "x"),
        TypeError,
        "expected predictions to be an array .*'x'; co",
    ),
    (
        lambda p: p.plot_predictions(A, A, names=["a"]),
        ValueError,
        r"a list of 3 names.*got \['a'\]",
    ),
    (
        lambda p: p.plot_confusion_matrix(A),
        ValueError,
        r"\(classes, classes\), got \(2, 3\); write nn",
    ),
    (
        lambda p: p.plot_confusion_matrix(N - 1),
        ValueError,
        "numbers of samples, >= 0, got -1.0; wr",
    ),
    (lambda p: p.plot_confusion_matrix(N / 0), ValueError, "numbers of samples, >= 0, got nan; wr"),
    (
        lambda p: p.plot_confusion_matrix(N, ["a"]),
        ValueError,
        "one for each class, got none for 1 in",
    ),
    (lambda p: p.plot_confusion_matrix(N, normalize="rows"), ValueError, "'true'.*got 'rows'"),
    (lambda p: p.plot_images(np.zeros((2, 4, 4, 3))), ValueError, r"got \(2, 4, 4, 3\).*moveaxis"),
    (
        lambda p: p.plot_images(np.zeros(4)),
        ValueError,
        r"got \(4,\); for one image, images\[None\]",
    ),
    (lambda p: p.plot_images(A), ValueError, "got 3 pixels; write shape="),
    (lambda p: p.plot_images(A, shape=(2, 2)), ValueError, r"with 3 pixels, got \(2, 2\)"),
    (lambda p: p.plot_images(np.zeros((2, 4)), A), ValueError, r"labels of shape \(2,\).*argmax"),
    (
        lambda p: p.plot_images(np.zeros((2, 4)), [1]),
        ValueError,
        r"labels of shape \(2,\), got \(1,\)",
    ),
    (lambda p: p.plot_images(np.zeros((2, 4)), [1, 2], names="a"), ValueError, "got none for 1"),
    (lambda p: p.plot_images(["cat"]), TypeError, "expected images to be an array or numbers"),
    (
        lambda p: p.plot_filters(nnx.FlattenLayer()),
        ValueError,
        "FlattenLayer, which has no W; pass",
    ),
    (lambda p: p.plot_filters(np.zeros(3)), ValueError, r"weights of shape .*, got \(3,\)"),
    (lambda p: p.plot_filters(A), ValueError, "got 3 pixels; write shape="),
    (lambda p: p.plot_filters(A, shape=(1, 3), limit=0), ValueError, "expected limit .*, got 0"),
    (lambda p: p.plot_activations(["relu"]), TypeError, r"expected activations\[0\] .*TanH\(\)"),
]


@pytest.mark.parametrize(("call", "kind", "message"), MISTAKES, ids=[m for _, _, m in MISTAKES])
def test_wrong_arguments_say_what_was_expected_what_came_and_what_to_do(
    matplotlib, call, kind, message
):
    with np.errstate(all="ignore"), pytest.raises(kind, match=message) as caught:
        call(plotting)
    assert str(caught.value).startswith("plot_")
