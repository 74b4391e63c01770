"""The error of a run that cannot go on."""

from ablate.core.validation import UsageError


class RunError(UsageError):
    """A run that cannot go on in its folder, or begin where it was told to; the message says what to type."""
