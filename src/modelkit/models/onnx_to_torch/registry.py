"""Which function translates which ONNX operator. Each translation is a small function registered under the operator's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Translation:
    """How to call a translating function.

    Called as `function(node, *inputs)`; absent optional inputs are None. Inputs arrive as torch tensors, those whose
    position is in `host` as numpy arrays of ints (or symbolic ints), and if `raw` all of them as they are (`values.Value`).
    """

    function: Callable[..., Any]
    host: tuple[int, ...]
    raw: bool


_TRANSLATIONS: dict[tuple[str, str], Translation] = {}
_ON_HOST: dict[str, Callable[..., Any]] = {}


def translates(
    *operators: str, domain: str = "", host: tuple[int, ...] = (), raw: bool = False
) -> Callable[[Function], Function]:
    """Register a function as the translation of ONNX operators of a domain ("" is ONNX's own)."""

    def register(function: Function) -> Function:
        for operator in operators:
            _TRANSLATIONS[domain, operator] = Translation(function, host, raw)
        return function

    return register


def on_host(*operators: str) -> Callable[[Function], Function]:
    """Register a function `(node, *arrays) -> array` that computes an operator on shapes, so that they stay symbolic."""

    def register(function: Function) -> Function:
        for operator in operators:
            _ON_HOST[operator] = function
        return function

    return register


def translation_of(domain: str, operator: str) -> Translation | None:
    """The registered translation, or None."""
    return _TRANSLATIONS.get((domain, operator))


def host_function_of(domain: str, operator: str) -> Callable[..., Any] | None:
    """The shape arithmetic registered for an operator, or None."""
    return _ON_HOST.get(operator) if domain == "" else None


def translated_operators() -> list[tuple[str, str]]:
    """All (domain, operator) pairs that can be translated."""
    return sorted(_TRANSLATIONS)
