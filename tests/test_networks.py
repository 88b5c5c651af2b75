import numpy as np

import nnx


def test_training_learns_a_separable_problem_on_every_backend(backend):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 4))
    y = (x[:, 0] + x[:, 1] > 0).astype(int)
    layers = [
        nnx.DenseLayer(4, 8, nnx.TanH(), nnx.SGD(0.1)),
        nnx.DenseLayer(8, 2, nnx.SoftMax(), nnx.SGD(0.1)),
    ]
    net = nnx.SequentialNet(4, layers, nnx.CrossEntropy())
    history = net.train(x, y, batch_size=10, epochs=20, progress=False)
    assert history.accuracy[-1] > 0.95
    assert net.score(x, y).accuracy > 0.95
