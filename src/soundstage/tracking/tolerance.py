"""Tracking may fail without stopping the work it follows: the first failure warns, the work goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_logger = logging.getLogger(__name__)


class Tolerance:
    """Runs tracking calls; the first that fails warns, later ones are counted and logged for debugging."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self.failures = 0

    def attempt(self, what: str, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """The result of `action(...)`, or None when it raised. An interrupt or exit passes through."""
        try:
            return action(*args, **kwargs)
        except Exception as error:
            self.failures += 1
            if self.failures == 1:
                _logger.warning(
                    "tracking of %s: could not %s (%s: %s); the work goes on, its record in MLflow is incomplete; "
                    "further failures are not repeated here",
                    self._subject,
                    what,
                    type(error).__name__,
                    error,
                )
            else:
                _logger.debug("tracking of %s: could not %s", self._subject, what, exc_info=True)
            return None
