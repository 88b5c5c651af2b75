"""A notebook is executed: the progress is text without warnings, a figure is a picture."""

import base64
import re

import pytest

nbclient = pytest.importorskip("nbclient", reason='pip install "nnx-array[notebook]"')
nbformat = pytest.importorskip("nbformat", reason='pip install "nnx-array[notebook]"')
pytest.importorskip("ipykernel", reason='pip install "nnx-array[notebook]"')

HIDE_IPYWIDGETS = "import sys; sys.modules['ipywidgets'] = None"
TRAIN = """
import numpy as np
import nnx
nnx.seed(0)
x = np.random.default_rng(0).standard_normal((200, 4)).astype("float32")
net = nnx.SequentialNet(4, [nnx.DenseLayer(4, 2, nnx.Linear())])
history = net.train(x, x[:, :2], 10, 3)
"""
PLOT = "import nnx.plotting\nnnx.plotting.plot_history(history)"
PYPLOT = "import matplotlib.pyplot as plt\nnnx.plotting.plot_history(history)"
KEPT = "figure = nnx.plotting.plot_history(history)"
TWO_TRAININGS = """
from rich.progress import track
for _ in track(range(2)):
    net.train(x, x[:, :2], 10, 1)
"""


def execute(*cells):
    """The outputs of each cell."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return [cell.outputs for cell in notebook.cells]


def streams(outputs, name):
    return "".join(o.text for o in outputs if o.output_type == "stream" and o.name == name)


def pictures(outputs):
    return [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]


@pytest.fixture(scope="module")
def plain():
    pytest.importorskip("matplotlib", reason='pip install "nnx-array[notebook]"')
    return execute(HIDE_IPYWIDGETS, TRAIN, "net.summary()", "net", PLOT, KEPT, PYPLOT, KEPT)


def test_without_ipywidgets_every_epoch_is_a_line_of_text(plain):
    _, trained, *_ = plain
    (output,) = trained
    assert output.name == "stdout"
    lines = output.text.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert all(re.search(r"loss \d+\.\d{4}", line) for line in lines)


def test_nothing_is_written_to_stderr(plain):
    assert [streams(outputs, "stderr") for outputs in plain] == [""] * len(plain)


def test_a_figure_that_ends_a_cell_is_shown_once_with_and_without_pyplot(plain):
    *_, plotted, kept, with_pyplot, kept_with_pyplot = plain
    for outputs in (plotted, with_pyplot):
        (picture,) = pictures(outputs)
        assert base64.b64decode(picture).startswith(b"\x89PNG")
        assert len(outputs) == 1
    assert kept == kept_with_pyplot == []


def test_the_summary_is_an_html_table_and_so_is_a_network_that_ends_a_cell(plain):
    _, _, (summary,), (net,), *_ = plain
    for output in (summary, net):
        assert output.data["text/html"].startswith("<table>")
        assert "DenseLayer(4, 2, afun=Linear())" in output.data["text/html"]
    assert "10 parameters, 10 of them trained" in summary.data["text/plain"]
    assert net.data["text/plain"].startswith("SequentialNet(")


def test_with_ipywidgets_a_bar_is_shown_and_the_lines_stay():
    pytest.importorskip("ipywidgets", reason='pip install "nnx-array[notebook]"')
    trained, nested = execute(TRAIN, TWO_TRAININGS)
    lines = streams(trained, "stdout").splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert any("application/vnd.jupyter.widget-view+json" in o.get("data", {}) for o in trained)
    # the display of rich around it turns what is printed into outputs of its own
    assert "".join(o.data["text/plain"] for o in nested if "data" in o).count("epoch 1/1") == 2
    for outputs in (trained, nested):
        assert streams(outputs, "stderr") == ""
        assert all(o.output_type != "error" for o in outputs)
