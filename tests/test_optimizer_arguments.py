"""Every argument of optimizers, schedules and clips, given what is wrong; and how they travel."""

import copy
import inspect
import json
import math
import pickle

import numpy as np
import pytest

import nnx
from nnx import clipping, optimizers, schedules
from nnx.config import build, plain

BASES = {"Factors", "Optimizer", "State", "Schedule"}
CLASSES = {
    name: getattr(room, name)
    for room in (optimizers, schedules, clipping)
    for name in room.__all__
    if name not in BASES
}
GOOD = {"eta": 0.1, "schedule": 0.1, "every": 3, "steps": 9, "factor": 0.5, "limit": 1.0}
NO_NUMBERS = ("0.1", None, True, [0.1], np.ones(2), 1j, dict)
NO_COUNTS = (0, -1, 2.5, math.nan, "3", None, True, [3])
BELOW_0 = (-0.1, math.nan, math.inf, -math.inf)
WRONG = {
    "eta": (*BELOW_0, *NO_NUMBERS, nnx.CosineSchedule, lambda t: 0.1),
    "schedule": (*BELOW_0, *NO_NUMBERS, nnx.CosineSchedule, lambda t: 0.1),
    **dict.fromkeys(("momentum", "beta1", "beta2", "rho"), (-0.9, 1.0, math.nan, *NO_NUMBERS)),
    **dict.fromkeys(("eps", "limit", "factor", "power"), (0.0, *BELOW_0, *NO_NUMBERS)),
    **dict.fromkeys(("weight_decay", "momentum_decay"), (*BELOW_0, *NO_NUMBERS)),
    "nesterov": ("True", None, 1, 0.0, []),
    "clip": (1.0, "norm", nnx.ClipNorm, [nnx.ClipNorm(1.0)], True),
    **dict.fromkeys(("every", "steps", "growth"), NO_COUNTS),
    "rise": (0.0, 0.6, -0.1, math.nan, *NO_NUMBERS),
    "start": (*BELOW_0, "0.1", True, [0.1]),
    "end": (*BELOW_0, "0.1", True, [0.1]),
}


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_every_argument_is_checked(kind):
    names = inspect.signature(kind).parameters
    good = {name: value for name, value in GOOD.items() if name in names}
    kind(**good)
    for name in names:
        for value in WRONG[name]:
            with pytest.raises((TypeError, ValueError)) as caught:
                kind(**good | {name: value})
            message = str(caught.value)
            assert message.startswith(f"{kind.__name__}: expected {name} to be "), message
            assert f", got {value!r}" in message
            numeric = isinstance(value, int | float) and not isinstance(value, bool)
            of_numbers = name not in ("clip", "nesterov")
            if numeric and of_numbers and not (WRONG[name] is NO_COUNTS and value != int_of(value)):
                assert caught.type is ValueError, message
            if isinstance(value, str) and of_numbers:
                assert "convert text first: " in message
            takes_object = name in ("clip", "schedule") or kind.__name__ in optimizers.__all__
            if takes_object and isinstance(value, type) and value is not dict:
                assert message.endswith(f"; write {value.__name__}()")


def int_of(value):
    return int(value) if math.isfinite(value) else None


def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match=r"a momentum > 0 with nesterov=True.*write SGD"):
        nnx.SGD(nesterov=True)


# How they travel.

EXAMPLES = [
    *(kind() for name, kind in CLASSES.items() if name in optimizers.__all__),
    nnx.SGD(nnx.WarmUpSchedule(nnx.CosineSchedule(0.1, 40), 5), 0.9, True, clip=nnx.ClipNorm(2.0)),
    nnx.NAdam(0.1, momentum_decay=0.5, clip=nnx.ClipValue(1.0)),
    *(
        kind(**{n: v for n, v in GOOD.items() if n in inspect.signature(kind).parameters})
        for name, kind in CLASSES.items()
        if name not in optimizers.__all__ and name != "Clip"
    ),
]


@pytest.mark.parametrize("thing", EXAMPLES, ids=repr)
def test_a_round_trip_has_the_same_plain_data(thing):
    data = plain(thing)
    twins = {
        "repr": eval(repr(thing), vars(nnx)),
        "clone": thing.clone(),
        "json": build(json.loads(json.dumps(data))),
        "pickle": pickle.loads(pickle.dumps(thing)),
        "deepcopy": copy.deepcopy(thing),
    }
    for how, twin in twins.items():
        assert twin is not thing, how
        assert type(twin) is type(thing)
        assert plain(twin) == data, how
        is_value = not isinstance(thing, nnx.Optimizer)
        assert (twin == thing) == is_value
        assert (hash(twin) == hash(thing)) == is_value


@pytest.mark.parametrize("thing", EXAMPLES, ids=repr)
def test_joblib_hashes_equal_things_alike_and_stores_them(thing, tmp_path):
    joblib = pytest.importorskip("joblib")
    assert joblib.hash(thing) == joblib.hash(thing.clone())
    joblib.dump(thing, tmp_path / "thing")
    assert plain(joblib.load(tmp_path / "thing")) == plain(thing)


def test_a_pickled_optimizer_goes_on_bit_for_bit(backend):
    p, g = backend.asarray(np.ones((2, 3))), backend.asarray(np.full((2, 3), 0.5))
    optimizer = nnx.NAdam(0.1)
    for _ in range(3):
        (p,) = optimizer.update([p], [g])
    host = backend.to_numpy(p).copy()
    twins = copy.deepcopy(optimizer), optimizer.move(lambda s: backend.xp.asarray(s, copy=True))
    (expected,) = optimizer.update([p], [g])
    expected = backend.to_numpy(expected).copy()
    for twin in twins:
        (found,) = twin.update([backend.asarray(host.copy())], [g])
        np.testing.assert_array_equal(backend.to_numpy(found), expected)
