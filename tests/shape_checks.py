"""Types and shapes of the product, checked at every call while it is tested.

jaxtyping's import hook decorates each function and dataclass of the product; what it decorates them with is
`checked`, which asks the same as `jaxtyping.jaxtyped` at a fraction of its price: arguments are bound to
their names once, by the function itself, and only functions of arrays open a memo of sizes.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping._decorator import jaxtyped  # of jaxtyping itself it may be ours by now

# An int is welcome where a float is.
check = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))


def checked(thing: Any = None, *, typechecker: Any = None) -> Any:
    """Decorate a function, a method or the constructor of a dataclass; takes the place of `jaxtyped`."""
    if thing is None:
        return functools.partial(checked, typechecker=typechecker)
    if inspect.isclass(thing):
        if "__dataclass_fields__" in vars(thing):
            thing.__init__ = _checked_function(thing.__init__)
        return thing
    if isinstance(thing, classmethod | staticmethod):
        return type(thing)(_checked_function(thing.__func__))
    if isinstance(thing, property):
        return property(*(f and _checked_function(f) for f in (thing.fget, thing.fset, thing.fdel)))
    return _checked_function(thing)


def _checked_function(function: Callable[..., Any]) -> Callable[..., Any]:
    written = dict(function.__annotations__)
    hints = {name: _resolved(hint, function.__globals__) for name, hint in written.items()}
    function.__annotations__ = hints
    inner = check(function)
    function.__annotations__ = written
    if inner is not function:
        inner.__annotations__ = written
    if not any(_has_array(hint) for hint in hints.values()):
        return inner

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if jaxtyping.config.jaxtyping_disable:
            return function(*args, **kwargs)
        with jaxtyped("context"):
            return inner(*args, **kwargs)

    return wrapper


def _resolved(hint: Any, names: dict[str, Any]) -> Any:
    """What is imported for the type checker alone is anything here."""
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, names)
    except (NameError, AttributeError):
        return Any


def _has_array(hint: Any) -> bool:
    return (inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)) or any(
        _has_array(part) for part in typing.get_args(hint)
    )


# The hook imports this module with the first function that it decorates.
jaxtyping.jaxtyped = checked
