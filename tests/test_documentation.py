"""What the documentation shows works as shown."""

import doctest
import importlib
import re
from pathlib import Path

import numpy as np
import pytest

import nnx

SOURCE = Path(nnx.__file__).parent
README = Path(__file__).parents[1] / "README.md"
MODULES = sorted(
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in SOURCE.rglob("*.py")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run(name):
    module = importlib.import_module(name.removesuffix(".__init__"))
    assert doctest.testmod(module).failed == 0


def test_the_python_of_the_readme_runs_as_one_lesson(capsys):
    lesson = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    lesson = [code for code in lesson if "set_backend" not in code]  # needs a GPU
    assert len(lesson) >= 4
    rng = np.random.default_rng(0)
    x, y = rng.random((40, 784)), rng.integers(0, 10, 40)
    activation, layer = nnx.TanH(), nnx.DenseLayer(784, 3)
    names = {"nnx": nnx, "x_train": x, "y_train": y, "x_test": x, "y_test": y}
    names |= {"x": x.astype(np.float32), "y": y, "activation": activation, "layer": layer}
    with nnx.use_backend("numpy", dtype="float32"):
        for code in lesson:
            if "activation.forward" in code:
                names["y"] = y
            exec(code, names)
            names["y"] = y
    scale = names["Scale"](784)
    assert nnx.SequentialNet(784, [scale]).train(x, 2 * x, 10, 2, progress=False).loss[1] > 0
