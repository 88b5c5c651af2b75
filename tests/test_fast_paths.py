"""What a backend or a layer computes in a faster way gives the numbers of the plain formula.

The references are written here in NumPy and `math`, in float64. Every comparison notices a
difference of 1e-11, which is planted.
"""

import math
import platform

import numpy as np
import pytest
from conftest import compile_on

import nnx
from nnx.activations import formulas
from nnx.backend import (
    add_product,
    elementwise,
    erfc,
    row_means,
    scan,
    subtract_quotient,
    transposed_product,
    whole,
)
from nnx.layers import _attention
from nnx.layers._attention import attend

RNG = np.random.default_rng(5)
x = np.concatenate([np.linspace(-8.0, 8.0, 4001), [0.0, -0.0]])
a, b = RNG.standard_normal((2, 3, 5, 9))
Q, K, V, delta = RNG.standard_normal((4, 2, 3, 7, 4))


def agrees(got, want):
    """Is every number within 1e-12 of the largest wanted one?"""
    pairs = zip(got, want, strict=True)
    return all(np.max(abs(nnx.to_numpy(g) - w)) <= 1e-12 * np.max(abs(w)) for g, w in pairs)


def of_gelu():
    Phi = np.array([math.erfc(-t / math.sqrt(2.0)) / 2.0 for t in x])
    return x * Phi, Phi + x * np.exp(-x * x / 2.0) / math.sqrt(2.0 * math.pi)


def of_attention():
    scores = np.exp(Q @ K.swapaxes(-1, -2))
    A = scores / scores.sum(axis=-1, keepdims=True)
    dA = delta @ V.swapaxes(-1, -2)
    dS = A * (dA - np.sum(dA * A, axis=-1, keepdims=True))
    return A @ V, dS @ K, dS.swapaxes(-1, -2) @ Q, A.swapaxes(-1, -2) @ delta


def attention(*rows):
    """`attend` takes a time step as a column."""
    turned = nnx.array_namespace(rows[0]).matrix_transpose
    q, k, v, d = map(turned, rows)
    O, backward = attend(q, k, v)  # noqa: E741
    return [turned(array) for array in (O, *backward(d))]


PATHS = {
    "gelu": (lambda t: elementwise(formulas.gelu, t), (x,), of_gelu),
    "rows": (lambda *t: (row_means(*t),), (a, b), lambda: (np.mean(a * b, -1, keepdims=True),)),
    "product": (lambda s, t: (add_product(s + 0.0, s, t),), (a, b), lambda: (a + a * b,)),
    "quotient": (
        lambda s, t: (subtract_quotient(s + 0.0, 0.3, s, t),),
        (a, b),
        lambda: (a - 0.3 * a / b,),
    ),
    "attention": (attention, (Q, K, V, delta), of_attention),
}


@pytest.fixture
def small(monkeypatch):
    """The arrays here need several parts and blocks."""
    monkeypatch.setattr(_attention, "SCORES", 2 * 3 * 7 * 3)  # three queries, the last block has 1
    monkeypatch.setattr("nnx_backends.numpy.PART", 1000)


@pytest.mark.parametrize("name", PATHS)
def test_a_fast_path_gives_the_numbers_of_the_formula(name, small, backend64):
    fast, arrays, reference = PATHS[name]
    got = [nnx.to_numpy(result) for result in fast(*map(backend64.asarray, arrays))]
    assert agrees(got, reference())
    for i in range(len(got)):
        assert not agrees([g * (1.0 + 1e-11 * (i == j)) for j, g in enumerate(got)], reference())


def test_attention_without_blocks(backend64):
    assert agrees(attention(*map(backend64.asarray, (Q, K, V, delta))), of_attention())


def test_erfc_of_a_library_is_that_of_python(backend64):
    found = erfc(0.75, backend64.asarray(x))
    if found is None:
        pytest.skip("the library has none")
    found, want = nnx.to_numpy(found), np.array([math.erfc(0.75 * t) for t in x])
    assert np.max(abs(found / want - 1.0)) < 1e-12
    assert not np.max(abs(found * (1.0 + 1e-11) / want - 1.0)) < 1e-12


def test_the_product_of_the_transposed(backend64):
    """For all orders of the three lengths: which way is faster depends on them."""
    sizes = [(16, 9, 2), (16, 2, 9), (9, 16, 2), (2, 16, 9), (9, 2, 16), (2, 9, 16), (8, 2, 2)]
    pairs = [(RNG.standard_normal((s, m)), RNG.standard_normal((s, n))) for s, m, n in sizes]
    wanted = [np.einsum("sm,sn->mn", left, right) for left, right in pairs]

    def products(*arrays):
        return list(map(transposed_product, arrays[::2], arrays[1::2]))

    arrays = [backend64.asarray(array) for pair in pairs for array in pair]
    for way in (products, compile_on(backend64, products, skip=False)):
        found = [nnx.to_numpy(array) for array in way(*arrays)]
        assert agrees(found, wanted)
        for i in range(len(found)):
            assert not agrees([f * (1 + 1e-11 * (i == j)) for j, f in enumerate(found)], wanted)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_loop_leaves_rows_that_are_needed_later(reverse, backend64):
    """Outputs may take the memory of rows; here two rows are of the size of the two outputs."""
    host = RNG.standard_normal((2, 5, 3))

    def step(carry, row):
        ((first, second),) = row
        total = carry[0] + first * second
        return (total,), ((total, first - second),)

    def work(first, second):
        zeros = nnx.array_namespace(first).zeros_like(first[0, ...])
        (last,), ((totals, differences),) = scan(step, (zeros,), ((first, second),), reverse)
        return [last, whole(totals), whole(differences), first, second]

    found = compile_on(backend64, work, skip=False)(*map(backend64.asarray, host))
    first, second = host
    turn = slice(None, None, -1 if reverse else 1)
    totals = np.cumsum((first * second)[turn], axis=0)[turn]
    wanted = [totals[0 if reverse else -1], totals, first - second, first, second]
    assert agrees(found, wanted)


@pytest.mark.parametrize("causal", [True, False], ids=str)
def test_blocks_of_queries_change_nothing(causal, small, monkeypatch, backend64):
    layer = nnx.MultiHeadAttentionLayer(12, 3, causal=causal, mask_value=0.0)
    host = RNG.standard_normal((2, 7, 12))
    host[1, 5:, :] = 0.0
    data, d = backend64.asarray(host), backend64.asarray(RNG.standard_normal((2, 7, 12)))

    def results():
        y, backward = layer.forward(data, True)
        dx, gradients = backward(d)
        return [nnx.to_numpy(array) for array in (y, dx, *gradients.values())]

    blocks = results()
    exact = _attention._gradients

    def planted(*arguments):
        dQ, dK, dV = exact(*arguments)
        return dQ, dK * (1.0 + 1e-11), dV

    with monkeypatch.context() as patch:
        patch.setattr(_attention, "_gradients", planted)
        off = results()
    monkeypatch.setattr(_attention, "SCORES", 1 << 22)
    whole = results()
    assert agrees(blocks, whole)
    assert not agrees(off, whole)


def test_blocks_in_a_compiled_loop(small, backend64):
    """A library that compiles loops over the blocks, too."""
    arrays = [backend64.asarray(t) for t in (Q, K, V, delta)]
    loop = backend64.compile_loop(lambda carry, row, data: (carry, attention(*data)))
    if loop is None:
        pytest.skip("the library does not compile")
    one = backend64.xp.zeros((1,), dtype=backend64.dtype)
    found = loop({"nothing": one}, {"row": one}, tuple(arrays))[1]
    assert agrees([result[0, ...] for result in found], of_attention())


def test_memory_of_long_sequences_grows_with_their_length(monkeypatch, backend):
    monkeypatch.setattr(_attention, "SCORES", 1 << 14)
    layer = nnx.MultiHeadAttentionLayer(8, 1)

    def peak(time):
        x = backend.asarray(RNG.standard_normal((1, time, 8)))
        block = backend.peak_memory()
        if block is None:
            pytest.skip("the library does not tell")
        with block as used:
            layer.forward(x, True)[1](x)
            return used()

    short, long = peak(256), peak(1024)
    scores = 4 * 1024**2
    assert long < 5 * short
    assert long < scores / 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_freed_memory_is_used_again():
    import resource

    nnx.backend.resolve("numpy")  # which connects it

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5):
            parts = [np.ones(1 << 18) for _ in range(8)]  # 16 MiB, 4096 pages
            del parts
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < 2000
