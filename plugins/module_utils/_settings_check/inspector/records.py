"""What the inspector says: one dictionary after the other, each as soon as it is known."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, Iterator

Record = Dict[str, Any]
Emit = Callable[[Record], None]

LENGTH = 1000


def text_of(error: BaseException) -> str:
    """Return the text of an error on one line."""
    try:
        return " ".join(str(error).split())[:LENGTH]
    except Exception:
        return "an error that has no text"


def name_error(error: BaseException) -> str:
    return f"{type(error).__name__}: {text_of(error)}"


@contextlib.contextmanager
def skipping(emit: Emit, check: str) -> Iterator[None]:
    """Go on after a check that could not be made, and tell which one it is."""
    try:
        yield
    except (Exception, SystemExit) as error:
        emit({"skipped": {"check": check, "reason": name_error(error)}})
