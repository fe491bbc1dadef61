"""Every error a user can meet. Each has a code that never changes, a message, and the cure.

LeukoError
├── UsageError            wrong arguments or configuration                   exit 2
├── InputError            one file or frame could not be used                exit 1 (the rest goes on)
├── NothingToDoError      no input could be used at all                      exit 3
├── BundleError           a model bundle is missing, damaged or refused      exit 3
├── RuntimeUnavailableError   no inference runtime can run the bundle        exit 3
├── CameraError           a camera could not be opened or used               exit 3
│   └── CameraLostError   a camera froze, vanished or missed its deadline    exit 3
├── StoreError            a result could not be saved or read                exit 3
└── MissingExtraError     an optional package is not installed               exit 3
"""

from __future__ import annotations


class LeukoError(Exception):
    """Base of all errors that are shown to a user.

    `code` is a stable kebab-case identifier, `cure` one sentence that says what to do next.
    """

    exit_code: int = 3

    def __init__(self, code: str, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.message} {self.cure}".strip()


class UsageError(LeukoError):
    """Wrong arguments or a wrong configuration."""

    exit_code = 2


class InputError(LeukoError):
    """One input file or frame could not be used; the others can."""

    exit_code = 1


class NothingToDoError(LeukoError):
    """No input could be used at all."""


class BundleError(LeukoError):
    """A model bundle is missing, damaged, or does not reproduce its golden vectors."""


class RuntimeUnavailableError(LeukoError):
    """No installed inference runtime can run the bundle."""


class CameraError(LeukoError):
    """A camera could not be opened or used."""


class CameraLostError(CameraError):
    """A camera froze, vanished, or missed its deadline."""


class StoreError(LeukoError):
    """A result could not be saved or read."""


class MissingExtraError(LeukoError):
    """An optional package is not installed."""
