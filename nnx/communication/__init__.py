"""Several processes that train one network: what they need from each other.

`contract` says what a communicator is, `selection` finds them, and `shares` knows which samples of
a batch are those of this process. A library of processes (MPI, NCCL) is not named here: the package
`nnx_backends` has one module for each.
"""

from nnx.communication.contract import CommunicationError, Communicator, SingleProcess
from nnx.communication.selection import communicator, installed_communicators, local_rank
from nnx.communication.shares import (
    Rows,
    Share,
    current_share,
    own_samples,
    sharing,
)

__all__ = [
    "CommunicationError",
    "Communicator",
    "Rows",
    "Share",
    "SingleProcess",
    "communicator",
    "current_share",
    "installed_communicators",
    "local_rank",
    "own_samples",
    "sharing",
]
