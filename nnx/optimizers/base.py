"""What an optimizer is: a rule for one array, and what counts, schedules and clips around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from nnx.backend import Array, Backend, array_namespace, get_backend, to_numpy
from nnx.checks import instance, number, shapes
from nnx.clipping import Clip
from nnx.config import Watched, build, plain
from nnx.schedules import Schedule

__all__ = ["Factors", "Optimizer", "State"]

State = tuple[Array, ...]
Factors = tuple[float, ...]


class Optimizer(Watched):
    """Base class: a learning rate, an optional clip, and the rule of a subclass.

    Subclasses define `init(p)`, a tuple of arrays of the shape of p, `rule(p, g, state, factors)`
    and, if the rule needs more than the learning rate, `factors(eta, t)`. They keep their
    constructor's arguments under their own names.

    Layers and networks keep the state of each of their parameters themselves, together with the
    number of its steps, and ask the optimizer for `init`, `factors` and `rule` alone. `update` is
    the interface of the lecture, for lists of arrays; it keeps the state here.

    Args:
        eta: the learning rate, a number >= 0 or a Schedule.
        clip: bounds the gradients before the step, ClipValue or ClipNorm; None does not.

    Attributes:
        t: the number of calls of `update`.
        state: one tuple of arrays per parameter of `update`, None before the first call.
        fusible: may a backend make one kernel of the rule? It traces the rule then, with the
            hyper-parameters as constants.
    """

    fusible: ClassVar[bool] = False
    unwatched = frozenset({"t", "state"})

    def __init__(self, eta: float | Schedule, clip: Clip | None = None) -> None:
        self.eta = eta if isinstance(eta, Schedule) else number(self, "eta", eta, ">= 0")
        if clip is not None:
            instance(self, "clip", clip, Clip, "ClipNorm(1.0)")
        self.clip = clip
        self.t = 0
        self.state: list[State] | None = None

    def init(self, p: Array) -> State:
        """Return the state of one parameter before its first step."""
        return ()

    def factors(self, eta: float, t: int) -> Factors:
        """Return what the rule must know of step t = 1, 2, ...: floats, always equally many."""
        return (eta,)

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """Return the new parameter and the new state after one step with the gradient g.

        It may write to p and to the state, not to g.
        """
        raise NotImplementedError(f"{type(self).__name__} must define rule(p, g, state, factors)")

    def factors_of(self, t: int) -> Factors:
        """Return the factors of step t, with the learning rate of that step."""
        return self.factors(self.eta(t) if isinstance(self.eta, Schedule) else self.eta, t)

    def update(self, parameters: Sequence[Array], gradients: Sequence[Array]) -> list[Array]:
        """Return the parameters after one step; two lists of equal length, the same at every call.

        Parameters change in place where the library can write; use what is returned.

        Raises:
            ValueError: the lists differ in length or shapes, or are not those of the last call.
            BackendError: a parameter and its gradient belong to different libraries.
        """
        self.check(parameters, gradients)
        if self.state is None:
            self.state = [self.init(p) for p in parameters]
        self._check_state(parameters)
        if self.clip is not None:
            gradients = self.clip(gradients)
        self.t += 1
        factors = self.factors_of(self.t)
        steps = [
            self.rule(p, g, state, factors)
            for p, g, state in zip(parameters, gradients, self.state, strict=True)
        ]
        self.state = [state for _, state in steps]
        return [p for p, _ in steps]

    def check(self, parameters: Sequence[Array], gradients: Sequence[Array]) -> None:
        """Refuse gradients that do not fit the parameters.

        Raises:
            ValueError: their number or shapes differ.
            BackendError: a parameter and its gradient belong to different libraries.
        """
        owner = type(self).__name__
        if len(parameters) != len(gradients):
            raise ValueError(
                f"{owner}.update: expected one gradient for each of {len(parameters)} parameters, "
                f"got {len(gradients)}"
            )
        for i, (p, g) in enumerate(zip(parameters, gradients, strict=True), start=1):
            if p.shape != g.shape:
                raise ValueError(
                    f"{owner}.update: parameter {i} has shape {tuple(p.shape)}, its gradient "
                    f"{tuple(g.shape)}"
                )
            array_namespace(p, g)

    def move(self, convert: Callable[[Array], Array]) -> Optimizer:
        """Return the same optimizer with the arrays of its state passed through `convert`."""
        twin = self.clone()
        twin.t = self.t
        if self.state is not None:
            twin.state = [tuple(convert(s) for s in state) for state in self.state]
        return twin

    def state_dict(self) -> dict[str, Any]:
        """Return hyper-parameters, t and state as plain data and NumPy arrays, all copied.

        An optimizer that loads it goes on, bit for bit, as this one.
        """
        state = self.state
        return {
            **plain(self),
            "t": self.t,
            "state": None if state is None else [[to_numpy(s) for s in of] for of in state],
        }

    def load_state_dict(self, saved: dict[str, Any], backend: Backend | None = None) -> None:
        """Take over what `state_dict` of an optimizer of this class returned.

        Args:
            saved: hyper-parameters, t and state are replaced by those in it.
            backend: where the arrays go; the current backend if not given.

        Raises:
            ValueError: it belongs to another class, or to parameters of other shapes.
        """
        owner = type(self).__name__
        arguments = {name: value for name, value in saved.items() if name not in ("t", "state")}
        if saved["class"] != owner:
            raise ValueError(f"{owner}.load_state_dict: got the state of {saved['class']}")
        twin = build(arguments, [type(self)])
        twin.t = int(saved["t"])
        if saved["state"] is not None:
            backend = backend or get_backend()
            twin.state = [tuple(backend.from_numpy(s.copy()) for s in of) for of in saved["state"]]
            if self.state is not None:
                twin._check_state([of[0] for of in self.state if of])
        vars(self).update(vars(twin))

    def _check_state(self, parameters: Sequence[Array]) -> None:
        """Is the state that of these parameters?"""
        state = self.state or []
        if len(state) != len(parameters) or any(
            s.shape != p.shape for of, p in zip(state, parameters, strict=True) for s in of
        ):
            owner = type(self).__name__
            raise ValueError(
                f"{owner}.update: got parameters of shapes {shapes([p.shape for p in parameters])}"
                f", and has the state of {len(state)} others, "
                f"{shapes([of[0].shape for of in state if of])}; give each set of parameters an "
                "optimizer of its own: optimizer.clone()"
            )
