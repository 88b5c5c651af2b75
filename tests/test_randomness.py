"""The random streams: a seed's promise, their state, and what threads and processes draw."""

import hashlib
import json
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import nnx
from nnx.randomness import fresh_generator, generator


def sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def weights(*shapes):
    nnx.seed(7)
    return [nnx.RandnAverage().wfun(*shape) for shape in shapes]


def test_a_layer_more_leaves_the_weights_of_the_others_as_they_were():
    first, last = weights((100, 784), (10, 100))
    again = weights((100, 784), (100, 100), (100, 100), (10, 100))
    np.testing.assert_array_equal(again[0], first)
    np.testing.assert_array_equal(again[3], last)
    assert not np.array_equal(again[1], again[2])


def test_a_shape_is_not_confused_with_another():
    nnx.seed(7)
    draws = [
        fresh_generator("weights", *key).random() for key in [(1, 2), (2, 1), (1, 2, 0), (1,), ()]
    ]
    assert len({*draws, generator("weights").random()}) == 6


def test_streams_are_independent_of_each_other():
    nnx.seed(1)
    expected = generator("batches").permutation(10)
    nnx.seed(1)
    generator("dropout").random(100)
    nnx.RandnAverage().wfun(50, 50)
    np.testing.assert_array_equal(generator("batches").permutation(10), expected)


def test_a_stream_goes_on_until_the_next_seed():
    nnx.seed(1)
    first, second = generator("batches").random(), generator("batches").random()
    nnx.seed(1)
    assert generator("batches").random() == first != second


def test_without_a_seed_nothing_repeats():
    nnx.seed()
    first = generator("batches").random()
    nnx.seed()
    assert generator("batches").random() != first


def test_the_draws_of_seed_0_are_those_of_every_version():
    """The recorded hashes are the promise that a seed means the same weights next year."""
    nnx.seed(0)
    with nnx.use_backend("numpy", dtype="float64"):
        found = {
            "normal": sha256(nnx.RandnAverage().wfun(10, 20)),
            "uniform": sha256(nnx.RandAverage().wfun(10, 20)),
            "batches": sha256(generator("batches").permutation(1000).astype("<i8")),
            "dropout": sha256(generator("dropout").random(1000)),
        }
    assert found == {
        "normal": "859caf2408414c5d",
        "uniform": "cecfd091de78aefe",
        "batches": "45dbe3f18454a07b",
        "dropout": "a72fbc96c4d4a04e",
    }


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        ("0", TypeError, r"got '0'; convert text first: int\('0'\)"),
        (1.5, TypeError, "got 1.5"),
        (True, TypeError, "got True"),
        ([1], TypeError, r"got \[1\]"),
        (-1, ValueError, "got -1"),
        (np.int64(-1), ValueError, "got .*-1"),
    ],
)
def test_a_seed_is_an_integer_of_at_least_0(value, error, match):
    before = nnx.randomness.state()
    with pytest.raises(error, match=f"^seed: expected number to be an integer >= 0, {match}"):
        nnx.seed(value)
    assert nnx.randomness.state() == before


def test_a_seed_may_be_an_integer_of_numpy():
    nnx.seed(3)
    expected = generator("batches").random()
    nnx.seed(np.int64(3))
    assert generator("batches").random() == expected


@pytest.mark.parametrize("purpose", ["unknown", "lottery", None, 1, ["weights"]])
@pytest.mark.parametrize("draw", [generator, fresh_generator])
def test_an_unknown_purpose_is_refused(draw, purpose):
    with pytest.raises(ValueError, match=r"expected purpose to be one of 'weights', 'batches', "):
        draw(purpose)


# The state of all streams.


def draws():
    return [
        generator("batches").random(),
        generator("dropout").random(),
        generator("augmentation").integers(0, 9, 5, dtype=np.int32).tolist(),
        fresh_generator("weights", 3, 4).random(),
        fresh_generator("weights", 5).random(),
    ]


def test_streams_go_on_from_a_state_that_a_file_holds():
    nnx.seed(4)
    draws()
    text = json.dumps(nnx.randomness.state())
    expected = [draws() for _ in range(3)]
    nnx.seed()
    draws()
    nnx.randomness.set_state(json.loads(text))
    assert json.dumps(nnx.randomness.state()) == text
    assert [draws() for _ in range(3)] == expected


def test_a_state_does_not_change_with_later_draws():
    saved = nnx.randomness.state()
    expected = draws()
    nnx.randomness.set_state(saved)
    assert draws() == expected
    nnx.randomness.set_state(saved)
    assert draws() == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("entropy"),
        lambda s: s.pop("drawn"),
        lambda s: s.update(entropy=-1),
        lambda s: s.update(entropy="no"),
        lambda s: s.update(forks=-1),
        lambda s: s.update(running={"lottery": {}}),
        lambda s: s.update(running={"weights": {"bit_generator": "MT19937"}}),
        lambda s: s.update(drawn=[1]),
    ],
)
def test_what_is_not_a_state_is_refused_and_changes_nothing(change):
    before, wrong = nnx.randomness.state(), nnx.randomness.state()
    change(wrong)
    for saved in (wrong, None, "state"):
        with pytest.raises(ValueError, match=r"^set_state: expected what .*state\(\) returns, got"):
            nnx.randomness.set_state(saved)
    assert nnx.randomness.state() == before


def test_threads_draw_different_numbers():
    nnx.seed(6)
    with ThreadPoolExecutor(8) as pool:
        weights = list(pool.map(lambda _: fresh_generator("weights", 2).random(), range(200)))
        found = list(pool.map(lambda _: generator("batches").random(), range(200)))
    assert len(set(weights)) == len(set(found)) == 200
    nnx.seed(6)
    assert sorted(weights) == sorted(fresh_generator("weights", 2).random() for _ in range(200))
    assert sorted(found) == sorted(generator("batches").random() for _ in range(200))


# Several processes.

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
# JAX and PyTorch warn of forks of a process with threads; the children here only draw.
forks = pytest.mark.filterwarnings("ignore:.*fork:Warning")


def in_a_fork(work):
    """What the function returns in a forked child."""
    receiving, sending = os.pipe()
    if os.fork() == 0:  # pragma: no cover
        try:
            os.write(sending, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(sending)
    with os.fdopen(receiving) as pipe:
        text = pipe.read()
    os.wait()
    return json.loads(text)


@needs_fork
@forks
def test_forked_processes_draw_different_numbers_in_every_run_the_same():
    def run():
        nnx.seed(0)
        generator("batches").random()
        children = [in_a_fork(draws) for _ in range(3)]
        grandchild = in_a_fork(lambda: in_a_fork(draws))
        return [*children, grandchild, draws()]

    nnx.seed(0)
    generator("batches").random()
    undisturbed = draws()
    first = run()
    assert first == run()
    assert first[-1] == undisturbed  # a fork takes nothing from the parent's streams
    for of_one_purpose in zip(*first, strict=True):
        assert len({str(draw) for draw in of_one_purpose}) == len(first)


@needs_fork
@forks
def test_a_forked_process_may_seed_itself():
    def child():
        nnx.seed(8)
        return draws()

    nnx.seed(8)
    expected = draws()
    assert in_a_fork(child) == in_a_fork(child) == expected


@needs_fork
@forks
def test_a_fork_while_another_thread_draws_does_not_hang():
    nnx.seed(1)
    stop = threading.Event()

    def draw():
        while not stop.is_set():
            fresh_generator("weights", 1)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        found = [in_a_fork(lambda: generator("batches").random()) for _ in range(10)]
    finally:
        stop.set()
        thread.join()
    assert len(set(found)) == 10


def a_draw(_):
    return os.getpid(), generator("batches").random()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@forks
def test_workers_of_multiprocessing_draw_different_numbers(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    nnx.seed(2)
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.map(a_draw, range(40), chunksize=1)
    found.append(a_draw(None))
    assert len({draw for _, draw in found}) == len(found)


def test_workers_of_joblib_draw_different_numbers():
    joblib = pytest.importorskip("joblib")
    nnx.seed(2)
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(a_draw)(i) for i in range(8))
    found.append(a_draw(None))
    assert len({draw for _, draw in found}) == len(found)
