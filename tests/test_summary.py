"""The table of a network's layers, as text and as HTML."""

import html
import re
import xml.etree.ElementTree as ET

import pytest

import nnx
from nnx.layers.summary import Summary


class Own(nnx.Container):
    """A container of a user's own, with an argument that is not a layer."""

    def __init__(self, inner, gain=1.0, name=None):
        super().__init__(name)
        self.inner, self.gain = inner, gain

    def forward(self, x, training=False):
        return self.inner.forward(x, training)

    def output_shape(self, input_shape):
        return self.inner.output_shape(input_shape)


@pytest.fixture
def net():
    with nnx.use_backend("numpy"):
        block = [nnx.Conv2DLayer(2, 2, 3, padding="same"), nnx.BatchNormLayer(2)]
        branches = [nnx.Conv2DLayer(2, 1, 1), [nnx.Conv2DLayer(2, 3, 1)]]
        shared = nnx.DenseLayer(4, 4, name="<b>&'twice'")
        frozen = nnx.DenseLayer(4, 3, nnx.SoftMax())
        frozen.frozen = True
        return nnx.SequentialNet(
            (1, 6, 6),
            [
                nnx.Conv2DLayer(1, 2, 3, padding="same"),
                nnx.ResidualLayer(block),
                nnx.ParallelLayer(branches),
                nnx.GlobalAvgPoolLayer(),
                shared,
                Own(shared, gain=2.0),
                frozen,
            ],
        )


# Worked by hand: a filter has channels * height * width weights and a bias.
TABLE = [
    ("", "input", "(1, 6, 6)", ""),
    ("1", "Conv2DLayer(1, 2, 3, padding='same')", "(2, 6, 6)", "20"),
    ("2", "ResidualLayer()", "(2, 6, 6)", "(42)"),
    ("2.1", "SequentialLayer()", "(2, 6, 6)", "(42)"),
    ("2.1.1", "Conv2DLayer(2, 2, 3, padding='same')", "(2, 6, 6)", "38"),
    ("2.1.2", "BatchNormLayer(2)", "(2, 6, 6)", "4"),
    ("3", "ParallelLayer()", "(4, 6, 6)", "(12)"),
    ("3.1", "Conv2DLayer(2, 1, 1)", "(1, 6, 6)", "3"),
    ("3.2", "SequentialLayer()", "(3, 6, 6)", "(9)"),
    ("3.2.1", "Conv2DLayer(2, 3, 1)", "(3, 6, 6)", "9"),
    ("4", "GlobalAvgPoolLayer()", "(4,)", "0"),
    ("5", "DenseLayer(4, 4, name=\"<b>&'twice'\")", "(4,)", "20"),
    ("6", "Own(gain=2.0)", "(4,)", "(20)"),
    ("6.1", "DenseLayer(4, 4, name=\"<b>&'twice'\"), shared with 5", "", ""),
    ("7", "DenseLayer(4, 3, afun=SoftMax()), frozen", "(3,)", "15"),
]
TOTAL = "109 parameters, 94 of them trained"


def test_the_text_has_nested_layers_under_their_containers(net, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert net.summary() is None
    printed = capsys.readouterr().out
    rows = [line.split("│")[1:-1] for line in printed.splitlines() if "│" in line]
    assert [tuple(cell.strip() for cell in row) for row in rows] == TABLE
    assert TOTAL in printed
    depth = {row[0].strip(): len(row[1]) - len(row[1].lstrip()) - 1 for row in rows}
    assert (depth["2"], depth["2.1"], depth["2.1.1"]) == (0, 2, 4)


def test_the_html_is_the_same_table_and_is_escaped(net):
    page = net._repr_html_()
    assert "<b>" not in page
    tree = ET.fromstring(f"<div>{page}</div>")  # well-formed
    rows = [tuple(cell.text or "" for cell in row) for row in tree.iter("tr")]
    assert rows == [("", "layer", "output shape", "parameters"), *TABLE]
    assert html.unescape(tree.find("p").text) == TOTAL
    indents = [float(i) for i in re.findall(r"padding-left:([\d.]+)em", page)]
    assert indents[3:6] == [0.5, 2.0, 3.5]  # header, input, 1, then 2, 2.1, 2.1.1
    assert "color" not in page  # dark and light notebooks have their own


def test_the_repr_is_the_text_and_needs_no_terminal(net, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    text = repr(Summary(net))
    assert "\x1b" not in text
    assert "│ 2.1.2 │     BatchNormLayer(2)" in text
    assert text.endswith(TOTAL)
