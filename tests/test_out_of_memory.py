import re

import numpy as np
import pytest
from conftest import usable

import nnx


def build():
    layers = [nnx.DenseLayer(100, 200, nnx.TanH()), nnx.DenseLayer(200, 2, nnx.SoftMax())]
    return nnx.SequentialNet(100, layers, nnx.CrossEntropy())


def data(samples):
    rng = np.random.default_rng(0)
    return rng.random((samples, 100), dtype=np.float32), rng.integers(0, 2, samples)


@pytest.fixture
def small_gpu():
    """CuPy with a few megabytes to allocate."""
    usable("cupy")
    import cupy

    with nnx.use_backend("cupy") as backend:
        pool = cupy.get_default_memory_pool()
        pool.free_all_blocks()
        pool.set_limit(size=pool.used_bytes() + 8_000_000)
        yield backend
        pool.set_limit(size=0)


def test_a_full_gpu_is_an_error_with_the_bytes_and_the_network_lives_on(small_gpu):
    net = build()
    x, y = data(20_000)  # x alone has 8 MB
    for work in (
        lambda: net.train(x, y, 10, 1, progress=False),
        lambda: net.evaluate(x),
        lambda: net.predict(x),
        lambda: net.score(x, y),
    ):
        with pytest.raises(nnx.OutOfMemoryError, match=r"allocating [\d,]+ bytes.*free: [\d,]+ of"):
            work()
    # 8,000 samples fit, but not 8,000 rows of the hidden layer beside them
    x, y = data(8_000)
    with pytest.raises(nnx.OutOfMemoryError, match="smaller batch_size"):
        net.train(x, y, 8_000, 1, progress=False)
    history = net.train(x, y, 10, 1, progress=False)
    assert np.isfinite(history.loss).all()
    assert net.predict(x, batch_size=100).shape == (8_000, 2)


ERRORS = {
    "CuPy's pool": lambda cupy: cupy.cuda.memory.OutOfMemoryError(512, 0, 0),
    "CUDA's runtime": lambda cupy: cupy.cuda.runtime.CUDARuntimeError(2),
    "cuBLAS": lambda cupy: cupy.cuda.cublas.CUBLASError(3),
    # what cupy.cuda.driver.CUDADriverError(2) says
    "CUDA's driver": lambda cupy: RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
}


class Failing(nnx.Layer):
    """Raises an error in forward."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x, training=False):
        raise self.error

    def output_shape(self, input_shape):
        return input_shape


@pytest.mark.gpu
@pytest.mark.parametrize("part", ERRORS)
def test_every_part_of_cuda_says_it_in_its_own_way(part):
    with nnx.use_backend(usable("cupy")):
        import cupy

        error = ERRORS[part](cupy)
        net = nnx.SequentialNet(1, [Failing(error)])
        reason = re.escape(str(error).partition("\n")[0])
        with pytest.raises(nnx.OutOfMemoryError, match=rf"out of memory on cuda:0 .*{reason}"):
            net.predict([[1.0]])


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("malloc", "Out of memory allocating"),
        ("cublas", "CUBLAS_STATUS_ALLOC_FAILED"),
        ("launch", "CUDA_ERROR_OUT_OF_MEMORY"),
        ("event", "cudaErrorMemoryAllocation"),
    ],
)
def test_a_call_that_finds_no_memory_is_told_and_the_network_lives_on(call, reason):
    cpusim = pytest.importorskip("cpusim", reason="no simulated GPU here")

    class Marking(nnx.Layer):
        """Records an event, as work on several streams does."""

        def forward(self, x, training=False):
            import cupy

            cupy.cuda.Event().record()
            return x, lambda delta: (delta, {})

        def output_shape(self, input_shape):
            return input_shape

    with nnx.use_backend(usable("cupy")) as backend:
        layers = [Marking(), nnx.DenseLayer(100, 2, nnx.SoftMax())]
        net = nnx.SequentialNet(100, layers, nnx.CrossEntropy())
        x, y = data(2_000)
        net.train(x, y, 500, progress=False)
        backend.free_memory()
        cpusim.fail(call)
        try:
            with pytest.raises(nnx.OutOfMemoryError, match=f"out of memory on cuda:0 .*{reason}"):
                net.train(x, y, 500, progress=False)
        finally:
            cpusim.fail(call, 0)
        assert np.isfinite(net.train(x, y, 500, progress=False).loss).all()


def test_another_error_of_cuda_stays_what_it_is():
    with nnx.use_backend(usable("cupy")):
        import cupy

        net = nnx.SequentialNet(1, [Failing(cupy.cuda.runtime.CUDARuntimeError(700))])
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError):
            net.predict([[1.0]])


def test_an_error_that_is_none_of_memory_stays_what_it_is(backend):
    class Broken(nnx.Layer):
        def forward(self, x, training=False):
            raise KeyError("not a matter of memory")

        def output_shape(self, input_shape):
            return input_shape

    with pytest.raises(KeyError):
        nnx.SequentialNet(100, [Broken()]).predict(data(5)[0])


class Huge(nnx.Layer):
    """Asks for 2^50 bytes."""

    def forward(self, x, training=False):
        xp = nnx.array_namespace(x)
        return x + xp.zeros((1 << 48,), dtype=x.dtype, device=x.device), None

    def output_shape(self, input_shape):
        return input_shape


@pytest.mark.parametrize("spec", ["numpy", "torch", "jax", "strict"])
def test_every_library_says_it_in_its_own_way(spec):
    with nnx.use_backend(usable(spec)):
        net = nnx.SequentialNet(1, [Huge()])
        with pytest.raises(
            nnx.OutOfMemoryError, match=r"(?i)out of memory on cpu(.|\n)*batch_size"
        ):
            net.evaluate([[1.0]])
