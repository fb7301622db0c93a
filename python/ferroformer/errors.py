"""The exceptions of ferroformer.

Each one is a `FerroformerError` and also the builtin that callers of transformers already catch, so
`except OSError` around a load or `except ValueError` around a call keeps working. All of them take one message,
which says what was found, where, what is allowed and, if there is something, what to do.
"""

__all__ = [
    "ConfigError",
    "ConfigFileError",
    "CorruptModelError",
    "FerroformerError",
    "InputError",
    "InternalError",
    "NonFiniteLossError",
    "ResourceLimitError",
    "TokenIdError",
    "TokenizerError",
    "WeightMismatchError",
]


class FerroformerError(Exception):
    """Every error that ferroformer raises on purpose, except plain TypeError, FileNotFoundError and the like."""


class CorruptModelError(FerroformerError, OSError, ValueError):
    """A file of a model is damaged or says something that no such file may say."""


class ConfigError(FerroformerError, ValueError):
    """A configuration holds a value that no model can have, or one that ferroformer does not compute."""


class ConfigFileError(ConfigError, CorruptModelError):
    """A configuration file cannot be read as JSON (an OSError too, as in transformers)."""


class WeightMismatchError(FerroformerError, RuntimeError, ValueError):
    """The tensors of a checkpoint do not fit the model that its configuration describes."""


class TokenizerError(FerroformerError, ValueError):
    """A tokenizer file is malformed or asks for something that is not supported."""


class InputError(FerroformerError, ValueError):
    """An argument of a call has the wrong shape or an impossible value."""


class TokenIdError(InputError, IndexError):
    """A token id, token type or position lies outside its embedding table."""


class NonFiniteLossError(FerroformerError, FloatingPointError):
    """A training step has a loss or gradient that is not finite; the weights are those before it."""


class ResourceLimitError(FerroformerError, MemoryError):
    """The call needs more memory than there is."""


class InternalError(FerroformerError, RuntimeError):
    """A bug in ferroformer: the process goes on, and the message says how to report it."""
