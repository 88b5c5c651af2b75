"""Two GPUs: everything that a network does happens on its own, and the current one stays."""

import pytest
from conftest import usable
from simulated import printed

pytestmark = pytest.mark.gpu
pytest.importorskip("cpusim", reason="no simulated GPU here")

START = """
import copy, pickle, tempfile, threading
import numpy as np
import nnx
from nnx.commands.check import items

def where(*arrays):
    return {array.device.id for array in arrays}

def current():
    return cupy.cuda.runtime.getDevice()

rng = np.random.default_rng(0)
x, y = rng.random((8, 6)), rng.integers(0, 3, 8)

def build():
    first = nnx.DenseLayer(6, 4, nnx.TanH(), kernel_regularizer=nnx.L2Regularizer())
    layers = [first, nnx.BatchNormLayer(4), nnx.DropoutLayer(0.2), nnx.DenseLayer(4, 3, nnx.SoftMax())]
    return nnx.SequentialNet(6, layers, nnx.CrossEntropy(), nnx.Adam())
"""  # noqa: E501


@pytest.fixture(autouse=True)
def simulator():
    usable("cupy")


def on_two(code):
    return printed(START + code, CUSIM_DEVICES=2)


def test_all_that_a_network_does_is_on_its_device():
    assert (
        on_two(
            """
with nnx.use_backend("cupy:1") as backend:
    net = build()
    a, b = backend.asarray(x), backend.asarray(y)
    delta = backend.xp.ones((8, 3), dtype=backend.dtype, device=backend.device)
plan = net.plan()
file = tempfile.mkdtemp() + "/net.safetensors"
dense = net.layers[0]
def assign():
    dense.W = np.ones((4, 6))
    return dense.parameters["W"]
works = {
    "evaluate": lambda: net.evaluate(x),
    "backprop": lambda: net.backprop(delta),
    "gradients": lambda: dense.dW,
    "update": lambda: (net.update(), dense.parameters["W"])[1],
    "plan.step": lambda: plan.step(a, b),
    "net.step": lambda: net.step(a, b),
    "plan.gradients": lambda: plan.gradients(a, b)[1][0],
    "plan.outputs": lambda: plan.outputs(a),
    "train": lambda: (net.train(x, y, 4, 2, progress=False), dense.parameters["W"])[1],
    "states": lambda: dense.states["W"].arrays[0],
    "predict": lambda: net.predict(x),
    "score": lambda: (net.score(x, y), a)[1],
    "layer.evaluate": lambda: dense.evaluate(x),
    "layer.backprop": lambda: dense.backprop(backend.xp.ones_like(dense.evaluate(x))),
    "read": lambda: dense.W,
    "assign": assign,
    "penalty": lambda: net.penalty(),
    "from_numpy": lambda: backend.from_numpy(x),
    "copy": lambda: copy.deepcopy(net).layers[0].parameters["W"],
    "pickle": lambda: pickle.loads(pickle.dumps(net)).layers[0].parameters["W"],
    "load": lambda: (net.save(file), nnx.load(file, "cupy:1"))[1].layers[0].parameters["W"],
    "load_weights": lambda: (net.load_weights(file), dense.parameters["W"])[1],
    "to": lambda: net.to("numpy").to("cupy:1").layers[0].parameters["W"],
}
for name, work in works.items():
    try:
        found = where(work())
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    if (found, current()) != ({1}, 0):
        print(name, found, current())
"""
        )
        == []
    )


def test_layers_and_optimizers_are_made_and_work_in_a_thread_of_their_own():
    """A new thread starts on device 0, whatever the setting of the process says."""
    assert on_two(
        """
def work(item):
    made = item.make()
    if isinstance(made, nnx.Layer) and item.shape is not None:
        out = made.evaluate(item.inputs(np.random.default_rng(0)), training=True)
        dx = made.backprop(nnx.array_namespace(out).ones_like(out))
        made.update()
        arrays = [out, *made.parameters.values(), *made.buffers.values()]
        arrays += [dx] if hasattr(dx, "device") else []
        if where(*arrays) != {1}:
            print(item.name, where(*arrays))
    elif isinstance(made, nnx.SequentialNet):
        made.train(item.inputs(rng), rng.integers(0, 5, 200), 10, progress=False)
    elif isinstance(made, nnx.Optimizer):
        net = nnx.SequentialNet(6, [nnx.DenseLayer(6, 3, nnx.SoftMax(), made)], nnx.CrossEntropy())
        net.train(x, y, 4, 2, progress=False)
        if where(*net.parameters.values()) != {1}:
            print(item.name)
    elif isinstance(made, nnx.Initializer):
        if where(made.weights((4, 3))) != {1}:
            print(item.name)
    else:
        return
    done.append(item.name)

def thread():
    for item in items():
        try:
            work(item)
        except Exception as error:
            print(item.name, type(error).__name__, str(error)[:300])
        if current() != 0:
            print(item.name, "leaves device", current())

done = []
nnx.set_backend("cupy:1")
assert current() == 1
worker = threading.Thread(target=thread)
worker.start()
worker.join()
of = ("Layer", "SequentialNet", "Optimizer", "Initializer")
print(done == [item.name for item in items() if item.kind in of] and len(done) > 50)
"""
    ) == ["True"]


def test_a_block_leaves_the_device_that_was_current():
    assert on_two(
        """
print(current())
with nnx.use_backend("cupy:1"):
    print(current())
    with nnx.use_backend("numpy"):
        pass
    print(current())
    with nnx.use_backend("cupy:0"):
        print(current())
    print(current())
print(current())
with cupy.cuda.Device(1):
    with nnx.use_backend("cupy:0"):
        pass
    print(current())
"""
    ) == ["0", "1", "1", "0", "1", "0", "1"]


def test_arrays_are_made_where_device_says():
    assert on_two(
        """
xp, device = nnx.backend.resolve("cupy:1").xp, nnx.backend.resolve("cupy:1").device
there = xp.ones((2, 2), device=device)
made = {
    "asarray": xp.asarray([1.0], device=device), "a copy": xp.asarray(there, copy=True),
    "arange": xp.arange(3, device=device), "empty": xp.empty(2, device=device),
    "eye": xp.eye(2, device=device), "full": xp.full((2,), 1.0, device=device),
    "linspace": xp.linspace(0.0, 1.0, 3, device=device), "ones": xp.ones(2, device=device),
    "zeros": xp.zeros(2, device=device), "empty_like": xp.empty_like(there),
    "full_like": xp.full_like(there, 1.0), "ones_like": xp.ones_like(there),
    "zeros_like": xp.zeros_like(there),
}
print({name: array.device.id for name, array in made.items() if array.device.id != 1})
print(xp.zeros(2).device.id, current())
"""
    ) == ["{}", "0 0"]


def test_two_networks_on_two_devices_train_by_turns():
    assert on_two(
        """
losses = []
for spec in ("cupy:0", "cupy:1"):
    nnx.seed(1)
    with nnx.use_backend(spec):
        net = build()
    losses.append(net.train(x, y, 4, 3, progress=False).loss)
    print(where(*net.parameters.values()))
print(losses[0] == losses[1])
"""
    ) == ["{0}", "{1}", "True"]


def test_out_of_memory_frees_the_device_of_the_network_and_names_it():
    assert printed(
        START
        + """
with nnx.use_backend("cupy:1") as backend:
    net = build()
pool = cupy.get_default_memory_pool()
with cupy.cuda.Device(0):
    kept = cupy.zeros(1 << 20, dtype="u1")
    del kept
    free = pool.free_bytes()
try:
    net.train(np.zeros((1 << 20, 6)), np.zeros(1 << 20, dtype=int), progress=False, on_device=True)
except nnx.OutOfMemoryError as error:
    print("cuda:1" in str(error))
print(pool.free_bytes() == free)
with cupy.cuda.Device(1):
    print(pool.free_bytes())
print(net.predict(x).shape)
""",
        CUSIM_DEVICES=2,
        CUSIM_MEM_MB=16,
    ) == ["True", "True", "0", "(8, 3)"]
