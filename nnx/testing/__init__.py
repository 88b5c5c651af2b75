"""The tools that test nnx, for layers of your own: are they right, and do backends agree?

    check_gradients(layer, x)              is its backward the derivative of its forward?
    check_backends(layer, x)               do all backends give the same?
    assert_no_host_sync(step, net, x, y)   does a step leave the values on the device?
    Recorder()                             which array operations does a step make, and how many?

With pytest, the fixtures `nnx_backend` and `nnx_backend64` run a test on every backend; see
`nnx.testing.plugin`.
"""

from nnx.synonyms import asked
from nnx.testing._backend_reports import BackendMismatchError, BackendReport, BackendResult
from nnx.testing._gradient_reports import Comparison, GradientError, GradientReport
from nnx.testing.equivalence import check_backends, usable_backends
from nnx.testing.gradients import check_gradients
from nnx.testing.host import HostReport, HostSyncError, Recorder, assert_no_host_sync

__all__ = [
    "BackendMismatchError",
    "BackendReport",
    "BackendResult",
    "Comparison",
    "GradientError",
    "GradientReport",
    "HostReport",
    "HostSyncError",
    "Recorder",
    "assert_no_host_sync",
    "check_backends",
    "check_gradients",
    "usable_backends",
]

__getattr__ = asked(__name__, __all__)
