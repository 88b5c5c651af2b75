import _thread
import math
import pickle
import signal
import threading

import numpy as np
import pytest

import nnx
from nnx.training.history import check_parameters

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 6))
Y = (X[:, 0] > X[:, 1]).astype(int) + (X[:, 2] > 1).astype(int)


def classifier(eta=0.1, **options):
    nnx.seed(5)
    layers = [
        nnx.DenseLayer(6, 8, nnx.TanH(), nnx.SGD(eta), **options),
        nnx.DenseLayer(8, 3, nnx.SoftMax(), nnx.SGD(eta)),
    ]
    return nnx.SequentialNet(6, layers, nnx.CrossEntropy())


def fit(net, x, y, batch_size, epochs):
    return net.train(x, y, batch_size, epochs, progress=False, rng=np.random.default_rng(7))


def host(net):
    return [net.backend.to_numpy(p) for layer in net.layers for p in layer.parameters.values()]


def test_history_is_plain_floats_one_per_epoch(backend):
    net = classifier()
    history = net.train(X, Y, 16, 3, validation=(X[:20], Y[:20]), progress=False)
    for name in ("loss", "accuracy", "validation_loss", "validation_accuracy", "seconds"):
        values = getattr(history, name)
        assert [type(value) for value in values] == [float] * 3, name
    assert 0 <= history.accuracy[-1] <= 1
    assert not history.interrupted


def test_the_reported_loss_is_the_mean_over_the_samples_as_they_were_seen(backend64):
    """One step per epoch: the loss of an epoch is that of the network before the step."""
    net = classifier()
    before = net.score(X, Y)
    history = net.train(X, Y, len(X), 1, progress=False)
    assert history.loss[0] == pytest.approx(before.loss, rel=1e-12)
    assert history.accuracy[0] == before.accuracy
    # ... and a part batch counts by its samples: with a rate of 0 nothing depends on the batches
    still = classifier(eta=0.0)
    assert still.train(X, Y, 50, 1, progress=False).loss[0] == pytest.approx(before.loss, rel=1e-12)


def test_the_score_by_hand(backend):
    layer = nnx.DenseLayer(2, 2, nnx.Linear())
    layer.W = backend.asarray([[1.0, 0.0], [0.0, 1.0]])
    net = nnx.SequentialNet(2, [layer])
    score = net.score([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]], [0, 1, 1])
    # squares of a - y: 0; 1; 9 + 0: half of their mean is 10 / 6
    assert score.loss == pytest.approx(10 / 6)
    assert score.accuracy == pytest.approx(2 / 3)


def test_the_reported_loss_includes_the_penalty(backend):
    plain, penalised = classifier(), classifier(kernel_regularizer=nnx.L2Regularizer(0.1))
    W = backend.to_numpy(plain.layers[0].W)
    difference = penalised.score(X, Y).loss - plain.score(X, Y).loss
    assert difference == pytest.approx(0.05 * float((W**2).sum()), rel=1e-5)


def test_indices_and_one_hot_rows_train_the_same_network(backend):
    by_index, by_row = classifier(), classifier()
    a, b = fit(by_index, X, Y, 10, 2), fit(by_row, X, np.eye(3)[Y], 10, 2)
    assert a.loss == b.loss
    assert a.accuracy == b.accuracy
    for p, q in zip(host(by_index), host(by_row)):
        np.testing.assert_array_equal(p, q)


def test_a_sample_of_weight_two_counts_like_two_samples_and_one_of_zero_not_at_all(backend64):
    weighted, repeated = classifier(), classifier()
    weights = np.arange(120) % 3
    a = weighted.train(X, Y, 120, 3, sample_weights=weights, shuffle=False, progress=False)
    many = np.repeat(np.arange(120), weights)
    assert len(many) == weights.sum() == 120  # so both means are over 120 terms
    b = repeated.train(X[many], Y[many], 120, 3, shuffle=False, progress=False)
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-12)
    for p, q in zip(host(weighted), host(repeated)):
        np.testing.assert_allclose(p, q, rtol=1e-10, atol=1e-12)


def test_sample_weights_follow_their_samples_through_the_shuffle(backend64):
    """In batches of one the step of a sample of weight zero changes nothing."""
    layer = nnx.DenseLayer(6, 1, nnx.Linear(), nnx.SGD(0.05))
    net = nnx.SequentialNet(6, [layer])
    y = np.where(np.arange(120) < 60, 1e6, X @ np.arange(6.0))
    net.train(X, y, 1, 30, sample_weights=np.arange(120) >= 60, progress=False)
    np.testing.assert_allclose(backend64.to_numpy(layer.W), [np.arange(6.0)], atol=1e-6)


def test_more_classes_than_features_train_from_indices(backend):
    """Then labels are not turned into rows beforehand; the mathematics is the same."""
    x, y = X[:, :2], np.arange(120) % 5
    nnx.seed(1)
    layer = nnx.DenseLayer(2, 5, nnx.SoftMax())
    net = nnx.SequentialNet(2, [layer], nnx.CrossEntropy())
    twin = net.to(backend)
    a, b = fit(net, x, y, 10, 1), fit(twin, x, np.eye(5)[y], 10, 1)
    assert a.loss == pytest.approx(b.loss, rel=1e-6)


def test_fused_and_unfused_cross_entropy_take_the_same_step(backend64):
    fused, apart = classifier(), classifier()
    fused.train(X, Y, len(X), 1, progress=False)
    a = apart.evaluate(X)
    rows = backend64.asarray(np.eye(3)[Y])
    apart.backprop(nnx.CrossEntropy().gradient(a, rows))
    apart.update()
    for p, q in zip(host(fused), host(apart)):
        np.testing.assert_allclose(p, q, rtol=1e-12, atol=1e-14)


def test_training_equals_the_bare_loop_written_in_numpy():
    """The step by hand, in NumPy alone: z = x W^T + b, ReLU, SoftMax with cross-entropy, SGD."""
    with nnx.use_backend("numpy", dtype="float64"):
        nnx.seed(8)
        layers = [
            nnx.DenseLayer(6, 7, nnx.ReLU(), nnx.SGD(0.2)),
            nnx.DenseLayer(7, 3, nnx.SoftMax(), nnx.SGD(0.2)),
        ]
        net = nnx.SequentialNet(6, layers, nnx.CrossEntropy())
        W1, b1, W2, b2 = (p.copy() for p in host(net))
        net.train(X, Y, 10, 2, progress=False, rng=np.random.default_rng(4))
    order_rng, rows = np.random.default_rng(4), np.eye(3)[Y]
    for _ in range(2):
        order = order_rng.permutation(120)
        for start in range(0, 120, 10):
            x, y = X[order[start : start + 10]], rows[order[start : start + 10]]
            z1 = x @ W1.T + b1
            a1 = np.maximum(z1, 0)
            e = np.exp(a1 @ W2.T + b2)
            d2 = (e / e.sum(axis=1, keepdims=True) - y) / 10
            d1 = (d2 @ W2) * (z1 > 0)
            W2, b2 = W2 - 0.2 * d2.T @ a1, b2 - 0.2 * d2.sum(axis=0)
            W1, b1 = W1 - 0.2 * d1.T @ x, b1 - 0.2 * d1.sum(axis=0)
    for ours, theirs in zip(host(net), (W1, b1, W2, b2)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)


def test_without_shuffle_the_samples_come_in_their_order(backend):
    seen = []

    class Watch(nnx.Layer):
        traceable = False

        def forward(self, x, training=False):
            if training:
                seen.append(self.backend.to_numpy(x))
            return x, lambda delta: (delta, {})

        def output_shape(self, input_shape):
            return input_shape

    nnx.SequentialNet(6, [Watch()]).train(X, X, 50, 1, shuffle=False, progress=False)
    assert [len(batch) for batch in seen] == [50, 50, 20]
    np.testing.assert_array_equal(np.concatenate(seen), X.astype(np.float32))


def test_one_seed_one_training(backend):
    def train(seed):
        net = classifier()
        nnx.seed(seed)
        return net.train(X, Y, 10, 2, progress=False).loss

    assert train(2) == train(2)
    assert train(2) != train(3)


def test_an_optimizer_for_the_whole_network_equals_one_per_layer(backend):
    def build(layers_optim, net_optim):
        nnx.seed(5)
        layers = [
            nnx.DenseLayer(6, 8, nnx.TanH(), layers_optim),
            nnx.DenseLayer(8, 3, nnx.SoftMax(), layers_optim),
        ]
        net = nnx.SequentialNet(6, layers, nnx.CrossEntropy(), optim=net_optim)
        return net, net.train(X, Y, 10, 3, progress=False)

    momentum = nnx.SGD(0.05, momentum=0.9)
    (per_layer, a), (whole, b) = build(momentum, None), build(nnx.SGD(9.0), momentum)
    assert a.loss == b.loss
    for p, q in zip(host(per_layer), host(whole)):
        np.testing.assert_array_equal(p, q)


def test_a_network_moves_in_the_middle_of_its_training(backend):
    nnx.seed(5)
    layers = [nnx.DenseLayer(6, 3, nnx.SoftMax(), nnx.SGD(0.05, momentum=0.9))]
    net = nnx.SequentialNet(6, layers, nnx.CrossEntropy())
    net.train(X, Y, 10, 1, progress=False)
    moved = net.to("numpy")
    there = fit(moved, X, Y, 10, 2).loss
    assert moved.backend.name == "numpy"
    assert there == pytest.approx(
        fit(net, X, Y, 10, 2).loss, rel=1e-5
    )  # and the first one was left as it was


def test_parameters_keep_their_order_in_training(backend):
    """Optimizers keep their states in that order: another one would exchange them."""

    class Swapped(nnx.DenseLayer):
        def __init__(self, ni, no, afun, optim):
            super().__init__(ni, no, afun, optim)
            self.parameters = {"b": self.b, "W": self.W}

    net = nnx.SequentialNet(2, [Swapped(2, 2, nnx.SoftMax(), nnx.Adam())], nnx.CrossEntropy())
    for _ in range(2):
        net.train([[1.0, 2.0], [2.0, 1.0]], [0, 1], 1, 1, progress=False)
        assert list(net.layers[0].parameters) == ["b", "W"]


def test_predict_gives_the_same_in_batches_of_any_size(backend):
    net = classifier()
    whole = backend.to_numpy(net.evaluate(X))
    assert whole.shape == (120, 3)
    for batch_size in (1, 7, 120, 1000):
        a = net.predict(X, batch_size)
        assert backend.owns(a)
        np.testing.assert_allclose(backend.to_numpy(a), whole, rtol=1e-5, atol=1e-6)


def test_the_networks_own_arrays_are_taken_like_numpy_data(backend):
    one, other = classifier(), classifier()
    a, b = fit(one, X, Y, 10, 1), fit(other, backend.asarray(X), backend.asarray(Y), 10, 1)
    assert a.loss == b.loss


def test_a_callback_sees_every_epoch_and_can_end_the_training(backend):
    seen = []

    def callback(net, history):
        seen.append(len(history.loss))
        return len(history.loss) == 2

    history = classifier().train(X, Y, 10, 9, callbacks=[callback], progress=False)
    assert seen == [1, 2]
    assert len(history.loss) == 2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy says "overflow" on the way
def test_a_loss_that_is_not_finite_stops_the_training_and_keeps_the_history(backend):
    layers = [nnx.DenseLayer(6, 3, nnx.Linear(), nnx.SGD(1e4))]
    net = nnx.SequentialNet(6, layers)
    with pytest.raises(
        nnx.NonFiniteLossError, match=r"epoch \d+.*learning rate.*history"
    ) as caught:
        net.train(X, Y, 10, 50, progress=False)
    error = caught.value
    assert 1 <= error.epoch <= 50
    assert len(error.history.loss) == error.epoch - 1
    assert all(math.isfinite(loss) for loss in error.history.loss)
    again = pickle.loads(pickle.dumps(error))  # as when it comes from another process
    assert (str(again), again.epoch, again.history) == (str(error), error.epoch, error.history)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_only_parameters_that_are_not_finite_are_refused(backend):
    """Infinities that cancel are seen; a sum that is too large is not taken for one of them."""
    for numbers, wrong in (
        ((np.nan, 0.0), True),
        ((np.inf, -np.inf), True),
        ((3e38, 3e38), False),
        ((-1.5, 0.0), False),
    ):
        net = nnx.SequentialNet(1, [nnx.DenseLayer(1, 2, nnx.Linear())])
        net.layers[0].b = backend.asarray(np.array(numbers))
        if not wrong:
            check_parameters(net, nnx.History())
            continue
        with pytest.raises(nnx.NonFiniteLossError, match=r"parameter 0\.b is not finite"):
            check_parameters(net, nnx.History())


def test_ctrl_c_ends_training_with_the_history_so_far():
    def interrupt(net, history):
        if len(history.loss) == 2:
            raise KeyboardInterrupt

    history = classifier().train(X, Y, 10, 50, callbacks=[interrupt], progress=False)
    assert history.interrupted
    assert len(history.loss) == 2


def test_ctrl_c_in_the_middle_of_an_epoch_ends_training_too():
    # A shell starts what runs in the background with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.3, _thread.interrupt_main)
    net = classifier()
    timer.start()
    history = net.train(X, Y, 1, 1_000_000, progress=False)
    assert history.interrupted
    assert len(history.loss) == len(history.seconds) < 1_000_000
    assert all(np.isfinite(p).all() for p in host(net))


def test_zero_epochs_change_nothing():
    net = classifier()
    before = [p.copy() for p in host(net)]
    assert net.train(X, Y, 10, 0, progress=False).loss == []
    for p, q in zip(host(net), before):
        np.testing.assert_array_equal(p, q)


def test_targets_that_are_no_classes_have_no_accuracy(backend):
    net = nnx.SequentialNet(6, [nnx.DenseLayer(6, 1, nnx.Linear())])
    history = net.train(X, X[:, 0], 10, 3, progress=False)
    assert all(math.isnan(value) for value in history.accuracy)
    assert history.loss[-1] < history.loss[0]


@pytest.mark.parametrize(
    ("cost", "afun"),
    [
        (nnx.Hinge(), nnx.Linear()),
        (nnx.LogisticCrossEntropy(), nnx.Linear()),
        (nnx.BinaryCrossEntropy(), nnx.Logistic()),
    ],
)
def test_the_accuracy_of_a_single_output_knows_where_the_loss_decides(cost, afun, backend):
    layer = nnx.DenseLayer(1, 1, afun)
    layer.W = backend.asarray([[1.0]])
    net = nnx.SequentialNet(1, [layer], cost)
    # all three decide at z = 0; at z = 1/2 two of these four would be taken for the wrong class
    score = net.score([[-2.0], [0.1], [0.4], [2.0]], [0, 1, 1, 1])
    assert score.accuracy == 1.0


def test_accuracy_is_a_fraction_of_whole_numbers(backend):
    net = classifier()
    hits = (backend.to_numpy(net.predict(X)).argmax(axis=1) == Y).sum()
    assert net.score(X, Y).accuracy == hits / 120


def test_a_moved_network_keeps_its_dtype():
    with nnx.use_backend("numpy", dtype="float64"):
        net = classifier()
    assert net.to("numpy").layers[0].W.dtype == np.float64
    assert net.to("numpy", dtype="float32").layers[0].W.dtype == np.float32


def test_a_callback_may_answer_with_a_numpy_boolean():
    history = classifier().train(
        X, Y, 10, 5, callbacks=[lambda net, history: np.bool_(True)], progress=False
    )
    assert len(history.loss) == 1


def test_an_optimizer_goes_on_in_the_dtype_it_was_saved_in():
    optim = nnx.Adam()
    optim.update([np.ones(3)], [np.full(3, 1 / 3)])
    again = nnx.Adam()
    with nnx.use_backend("numpy", dtype="float32"):
        again.load_state_dict(optim.state_dict())
    np.testing.assert_array_equal(again.state[0][0], optim.state[0][0])
    assert again.state[0][0].dtype == np.float64


def test_the_past_of_a_tensor_is_left_at_the_door():
    torch = pytest.importorskip("torch")
    with nnx.use_backend("torch", dtype="float32"):
        net = classifier()
        x = torch.tensor(X, dtype=torch.float32, requires_grad=True)
        net.train(x, Y, 10, 1, progress=False)
        assert not net.layers[0].W.requires_grad


def test_to_numpy_gives_an_array_of_ones_own(backend):
    net = classifier()
    before = nnx.to_numpy(net.layers[0].W)
    kept = before.copy()
    net.train(X, Y, 10, 1, progress=False)
    np.testing.assert_array_equal(before, kept)


def test_two_names_of_one_device_are_one_backend():
    with nnx.use_backend("numpy"):
        first = nnx.DenseLayer(2, 2)
    with nnx.use_backend("numpy:cpu"):
        second = nnx.DenseLayer(2, 2)
    nnx.SequentialNet(2, [first, second])


def test_the_progress_bar_prints_one_line_per_epoch(capsys):
    classifier().train(X, Y, 10, 3, validation=(X, Y))
    printed = capsys.readouterr().out
    for word in ("epoch 1/3", "epoch 3/3", "loss", "accuracy", "validation"):
        assert word in printed
    classifier().train(X, Y, 10, 3, progress=False)
    assert capsys.readouterr().out == ""
