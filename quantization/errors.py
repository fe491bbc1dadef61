"""What can go wrong between a trained network and a file that a device may run."""

from __future__ import annotations

from edge.core.errors import LeukoError


class QuantizationError(LeukoError):
    """The network could not be turned into the form that was asked for."""


class ParityError(LeukoError):
    """A variant of the network does not say what the network it was made from says."""
