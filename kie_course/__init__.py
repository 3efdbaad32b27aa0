"""Helper package of the course *Attention as Memory: key information extraction*."""

__version__ = "0.1.0"

SEED = 20
"""The one seed from which every random choice of the course flows."""


class BadInput(ValueError):
    """Input or usage that cannot be worked with: one sentence, with the remedy."""
