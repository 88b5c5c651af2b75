"""The base class of optimizers: a rule for one array, with step count, schedule and clip."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from nnx.backend import Array, Backend, array_namespace, get_backend, to_numpy
from nnx.checks import instance, shapes
from nnx.clipping import Clip
from nnx.config import Watched, build, is_own, plain
from nnx.schedules import Schedule
from nnx.synonyms import not_called

__all__ = ["Factors", "Optimizer", "State", "check_rule", "zeros"]

State = tuple[Array, ...]
Factors = tuple[float, ...]


class Optimizer(Watched):
    """Base class: a learning rate, an optional clip, and the rule of a subclass.

    Subclasses define `init(p)`, a tuple of arrays of the shape and type of p, `rule(p, g, state,
    factors)` and, if the rule needs more than the learning rate, `factors(eta, t)`. They keep
    their constructor's arguments under their own names.

    Layers and networks keep the state of each of their parameters and the number of its steps;
    they only call `init`, `factors_of` and `rule`. `update` is the interface of the lecture, for
    lists of arrays; it keeps the state in the optimizer.

    Args:
        eta: the learning rate, a number >= 0 or a Schedule.
        clip: bounds the gradients before the step, ClipValue or ClipNorm; None does not.

    Attributes:
        t: the number of calls of `update`.
        state: one tuple of arrays per parameter of `update`, None before the first call.
        elementwise: False if the rule uses more than the entries in the same place, for example a
            norm of the array; each parameter then goes through the rule alone and as a whole.
        fusible: True if a backend may make one kernel of the rule: it traces the rule, with the
            hyper-parameters as constants.
    """

    elementwise: ClassVar[bool] = True
    fusible: ClassVar[bool] = False
    unwatched = frozenset({"t", "state"})

    def __init__(self, eta: float | Schedule, clip: Clip | None = None) -> None:
        self.eta = Schedule.accept(self, "eta", eta)
        if clip is not None:
            instance(self, "clip", clip, Clip, "ClipNorm(1.0)")
        self.clip = clip
        self.t = 0
        self.state: list[State] | None = None

    __call__ = not_called("optim.update(parameters, gradients), or net.step(x, y)")

    @property
    def name(self) -> str:
        """The optimizer in words: "Adam(0.001)"."""
        return f"{type(self).__name__}({self.eta!r})"

    def init(self, p: Array) -> State:
        """Return the state of one parameter before its first step."""
        return ()

    def factors(self, eta: float, t: int) -> Factors:
        """Return what the rule needs to know about step t = 1, 2, ...: a fixed number of floats."""
        return (eta,)

    def rule(self, p: Array, g: Array, state: State, factors: Factors) -> tuple[Array, State]:
        """Return the new parameter and the new state after one step with the gradient g.

        It may write to p and to the state, not to g.
        """
        raise NotImplementedError(f"{type(self).__name__} must define rule(p, g, state, factors)")

    def factors_of(self, t: int) -> Factors:
        """Return the factors of step t, with the learning rate of that step.

        Raises:
            TypeError: the schedule does not return a number.
            ValueError: it returns a negative or non-finite number.
        """
        eta = self.eta
        if type(eta) is not float or not 0.0 <= eta < math.inf:  # a schedule, or assigned later
            eta = Schedule.accept(self, "eta", eta)
            eta = eta.rate(t) if isinstance(eta, Schedule) else eta
        return self.factors(eta, t)

    def update(self, parameters: Sequence[Array], gradients: Sequence[Array]) -> list[Array]:
        """Return the parameters after one step; two lists of equal length, the same at every call.

        Parameters change in place where the library can write; use what is returned.

        Raises:
            TypeError: the arguments are not lists, an array is not float32 or float64, the types of
                a parameter and its gradient differ, or a method of a subclass breaks its contract.
            ValueError: the lists differ in length or shapes, or are not those of the last call.
            BackendError: a parameter and its gradient belong to different libraries.
        """
        _check_made(self)
        self.check(parameters, gradients)
        state = self.state
        if state is None:
            state = [_checked_init(self, p) for p in parameters]
        self._check_state(state, parameters)
        for p, of in zip(parameters, state, strict=True):
            array_namespace(p, *of)
            if any(s.dtype != p.dtype for s in of):
                raise TypeError(
                    f"{type(self).__name__}.update: expected a state of the type of its parameter, "
                    f"{p.dtype}, got {of[0].dtype}; convert it first: optimizer = "
                    "optimizer.move(lambda s: nnx.array_namespace(s).astype(s, p.dtype))"
                )
        if self.clip is not None:
            gradients = self.clip(gradients)
        factors = _checked_factors(self, self.t + 1)
        steps = [
            _checked_step(self, p, g, s, factors)
            for p, g, s in zip(parameters, gradients, state, strict=True)
        ]
        self.t += 1
        self.state = [s for _, s in steps]
        return [p for p, _ in steps]

    def check(self, parameters: Sequence[Array], gradients: Sequence[Array]) -> None:
        """Raise an error if the gradients do not fit the parameters.

        Raises:
            TypeError: they are not lists; one is not float32 or float64, or their types differ.
            ValueError: their number or shapes differ.
            BackendError: a parameter and its gradient belong to different libraries.
        """
        owner = f"{type(self).__name__}.update"
        if not isinstance(parameters, list | tuple) or not isinstance(gradients, list | tuple):
            raise TypeError(
                f"{owner}: expected lists of parameters and gradients, got "
                f"{_described(parameters)} and {_described(gradients)}; "
                "write update([W, b], [dW, db])"
            )
        if len(parameters) != len(gradients):
            raise ValueError(
                f"{owner}: expected one gradient for each of {len(parameters)} parameters, "
                f"got {len(gradients)}"
            )
        for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
            xp = array_namespace(p, g)
            if p.dtype not in (xp.float32, xp.float64):
                raise TypeError(
                    f"{owner}: expected parameters of type float32 or float64, got "
                    f"parameters[{i}] of type {p.dtype}; convert it first: "
                    "nnx.get_backend().asarray(p, dtype=nnx.get_backend().dtype)"
                )
            if g.dtype != p.dtype:
                raise TypeError(
                    f"{owner}: expected gradients[{i}] of the type of its parameter, {p.dtype}, "
                    f"got {g.dtype}; convert it first: nnx.array_namespace(p).astype(g, p.dtype)"
                )
            if p.shape != g.shape:
                raise ValueError(
                    f"{owner}: expected gradients[{i}] of the shape of its parameter, "
                    f"{tuple(p.shape)}, got {tuple(g.shape)}"
                )

    def move(self, convert: Callable[[Array], Array]) -> Optimizer:
        """Return the same optimizer with the arrays of its state passed through `convert`."""
        twin = copy.copy(self)
        if self.state is not None:
            twin.state = [tuple(convert(s) for s in state) for state in self.state]
        return twin

    def state_dict(self) -> dict[str, Any]:
        """Return hyper-parameters, t and state as plain data and NumPy arrays, all copied.

        An optimizer that loads it continues bit for bit as this one would.
        """
        state = self.state
        return {
            **plain(self),
            "t": self.t,
            "state": None if state is None else [[to_numpy(s) for s in of] for of in state],
        }

    def load_state_dict(self, saved: dict[str, Any], backend: Backend | None = None) -> None:
        """Restore what `state_dict` of an optimizer of this class returned.

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
                twin._check_state(twin.state, [of[0] for of in self.state if of])
        vars(self).update(vars(twin))

    def _check_state(self, state: list[State], parameters: Sequence[Array]) -> None:
        """Raise ValueError if this is not the state of these parameters."""
        if len(state) != len(parameters) or any(
            s.shape != p.shape for of, p in zip(state, parameters, strict=True) for s in of
        ):
            raise ValueError(
                f"{type(self).__name__}: expected the state of parameters of shapes "
                f"{shapes([p.shape for p in parameters])}, got that of "
                f"{shapes([of[0].shape for of in state if of]) or len(state)}; give each set of "
                "parameters an optimizer of its own: optimizer.clone()"
            )


def zeros(p: Array, arrays: int) -> State:
    """Return a state of this many arrays of zeros, of the shape and type of p."""
    xp = array_namespace(p)
    return tuple(xp.zeros_like(p) for _ in range(arrays))


def check_rule(optimizer: Optimizer, p: Array) -> None:
    """Run `init`, `factors` and `rule` once on small arrays, and check what they return.

    The arrays have the library, device, type and number of axes of p, at most two entries along
    each axis, and are filled with ones. Neither p nor the optimizer changes.

    Raises:
        TypeError: the constructor keeps too little, or a method returns what it should not.
        ValueError: a method returns an array of the wrong shape, or the number of factors changes.
    """
    _check_made(optimizer)
    xp, shape = array_namespace(p), tuple(min(n, 2) for n in p.shape)
    small, g = (xp.ones(shape, dtype=p.dtype, device=p.device) for _ in range(2))
    factors = _checked_factors(optimizer, 1)
    later = _checked_factors(optimizer, 2)
    if len(later) != len(factors):
        raise ValueError(
            f"{type(optimizer).__name__}.factors: expected equally many floats for every step, "
            f"got {len(factors)} for step 1 and {len(later)} for step 2; pad with 0.0"
        )
    _checked_step(optimizer, small, g, _checked_init(optimizer, small), factors)
    if optimizer.elementwise and not is_own(type(optimizer)):
        _check_elementwise(optimizer, p, factors)


def _check_elementwise(optimizer: Optimizer, p: Array, factors: Factors) -> None:
    """Compare one step for two numbers together with a step for each of them."""
    xp = array_namespace(p)

    def stepped(numbers: list[float]) -> list[float]:
        one, g = (xp.asarray(numbers, dtype=p.dtype, device=p.device) for _ in range(2))
        new, _ = optimizer.rule(one, g, optimizer.init(one), factors)
        return [float(n) for n in to_numpy(new)]

    if stepped([1.0, 2.0]) != stepped([1.0]) + stepped([2.0]):
        owner = type(optimizer).__name__
        raise ValueError(
            f"{owner}.rule: expected an elementwise rule, got other numbers for two entries "
            f"together than for each alone; set `elementwise = False` in {owner}"
        )


def _check_made(optimizer: Optimizer) -> None:
    if not {"eta", "clip", "t", "state"} <= set(vars(optimizer)):
        kind = type(optimizer).__name__
        raise TypeError(
            f"{kind}: expected its constructor to call that of Optimizer, which keeps eta and "
            f"clip; add `super().__init__(eta, clip)` to {kind}.__init__"
        )


def _checked_init(optimizer: Optimizer, p: Array) -> State:
    owner, state = f"{type(optimizer).__name__}.init", optimizer.init(p)
    if not isinstance(state, tuple):
        raise TypeError(
            f"{owner}: expected a tuple of arrays, () for none, got {_described(state)}; "
            "for one array write `return (array,)`"
        )
    _check_arrays(owner, "state", state, p)
    return state


def _checked_factors(optimizer: Optimizer, t: int) -> Factors:
    factors = optimizer.factors_of(t)
    # a NumPy scalar is a float, too, and turns a float32 array into float64
    if not isinstance(factors, tuple) or any(type(f) not in (float, int) for f in factors):
        raise TypeError(
            f"{type(optimizer).__name__}.factors: expected a tuple of Python floats, got "
            f"{_described(factors)}; write `return (eta,)`, and float(...) around other numbers"
        )
    return factors


def _checked_step(
    optimizer: Optimizer, p: Array, g: Array, state: State, factors: Factors
) -> tuple[Array, State]:
    owner, stepped = f"{type(optimizer).__name__}.rule", optimizer.rule(p, g, state, factors)
    if not isinstance(stepped, tuple) or len(stepped) != 2 or not isinstance(stepped[1], tuple):
        raise TypeError(
            f"{owner}: expected a pair of the new parameter and the tuple of its state, got "
            f"{_described(stepped)}; write `return p, state`"
        )
    if len(stepped[1]) != len(state):
        raise ValueError(
            f"{owner}: expected a state of as many arrays as init gives, {len(state)}, got "
            f"{len(stepped[1])}"
        )
    _check_arrays(owner, "p", stepped[:1], p)
    _check_arrays(owner, "state", stepped[1], p)
    return stepped


def _check_arrays(owner: str, name: str, arrays: Sequence[Array], p: Array) -> None:
    for array in arrays:
        if not hasattr(array, "dtype") or array.dtype != p.dtype or array.shape != p.shape:
            kind = ValueError if hasattr(array, "dtype") and array.shape != p.shape else TypeError
            raise kind(
                f"{owner}: expected {name} to have the shape and type of the parameter, "
                f"{tuple(p.shape)} and {p.dtype}, got {_described(array)}"
            )


def _described(value: Any) -> str:
    """A value in a message; an array by its shape and type, so that it is not read."""
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} ({', '.join(map(_described, value))})"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"an array of shape {tuple(value.shape)} and type {value.dtype}"
    return repr(value)
