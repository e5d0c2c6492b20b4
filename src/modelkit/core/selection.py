"""Which layers a command may touch, by name: `--ignore` and `--only`, each a glob or `re:REGEX`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from .errors import ModelkitError


@dataclass(frozen=True)
class Selection:
    """A layer is taken when it matches any of `only` (if there are any) and none of `ignore`."""

    ignore: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def reason(self, name: str) -> str | None:
        """None, or why the layer is not taken."""
        if any(_matches(pattern, name) for pattern in self.ignore):
            return "ignored by --ignore"
        if self.only and not any(_matches(pattern, name) for pattern in self.only):
            return "not named by --only"
        return None

    def check(self, names: list[str]) -> None:
        """Raises ModelkitError for a pattern that matches no layer (a typing slip would be silent)."""
        for option, patterns in (("--ignore", self.ignore), ("--only", self.only)):
            for pattern in patterns:
                if not any(_matches(pattern, name) for name in names):
                    some = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
                    raise ModelkitError(f"{option} {pattern!r} matches no layer.", f"The layers are: {some}")


def nothing_left(what: str, skipped: Mapping[str, str], kinds: str, otherwise: str = "") -> ModelkitError:
    """The error of a command that has nothing to change. what: "No layer can be pruned". skipped: why, by layer. kinds: of the
    layers that there should be. otherwise: what else could be done."""
    reasons = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:5])
    return ModelkitError(
        f"{what} ({reasons or f'the model has no {kinds} layer'}).",
        f"See `modelkit inspect` for its layers; widen --only / --ignore if you gave them{otherwise}.",
    )


def _matches(pattern: str, name: str) -> bool:
    if not pattern.startswith("re:"):
        return fnmatchcase(name, pattern)
    try:
        return re.search(pattern[3:], name) is not None
    except re.error as error:
        raise ModelkitError(
            f"{pattern!r} is not a regular expression ({error}).", "Mend it, or use a glob such as 'layer1.*'."
        ) from None
