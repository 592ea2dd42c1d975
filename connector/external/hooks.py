"""What a target's answers mean beyond their status: one function for each target, of the handlers' author.

For a target that answers 200 with an error inside::

    @on_response("crm")
    def error_inside(response: TargetResponse) -> Verdict | None:
        error = response.json().get("error")
        return Verdict("retry", error, counts=True) if error == "maintenance" else None

It is asked for every answer whose status means that all is well.
"""

from collections.abc import Callable
from typing import Final, TypeVar, get_args

import msgspec

from connector.errors import StartError
from connector.external.response import TargetResponse
from connector.setting_values import StatusOutcome


class Verdict(msgspec.Struct, frozen=True):
    """What an answer means.

    ``outcome``  done, retry, dead or ignored
    ``reason``   what stands in the event's history; masked like everything that a target says
    ``counts``   whether it says that the target as a whole does not work: it counts for the breaker
    """

    outcome: StatusOutcome
    reason: str = ""
    counts: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for an outcome that there is not."""
        if self.outcome not in get_args(StatusOutcome):
            raise ValueError(f"an outcome is one of {', '.join(get_args(StatusOutcome))}, not {self.outcome!r}")


Hook = Callable[[TargetResponse], Verdict | None]
Function = TypeVar("Function", bound=Hook)

_hooks: Final[dict[str, Hook]] = {}


def on_response(target: str = "target") -> Callable[[Function], Function]:
    """Declare a function that says what an answer of this target means; None stands for what its status says.

    ``target``  a name from TARGETS; none for the one of TARGET_URL
    Raises StartError where another function was declared for the target.
    """

    def declare(function: Function) -> Function:
        other = _hooks.get(target)
        if other is not None and _name(other) != _name(function):
            raise StartError(f"@on_response({target!r}) stands before {_name(other)} and before {_name(function)}")
        _hooks[target] = function
        return function

    return declare


def verdict_on(target: str, response: TargetResponse) -> Verdict | None:
    """What the target's function says; None without one."""
    hook = _hooks.get(target)
    return None if hook is None else hook(response)


def has_hook(target: str) -> bool:
    """Whether a function was declared for the target."""
    return target in _hooks


def declared_targets() -> frozenset[str]:
    """The targets for which a function was declared."""
    return frozenset(_hooks)


def _name(function: Hook) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', function)}"
