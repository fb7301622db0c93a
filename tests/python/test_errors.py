"""Every exception is a FerroformerError, is the builtin that callers know, and survives pickling."""

import pickle

import pytest

from ferroformer import errors

BUILTINS = {
    "CorruptModelError": (OSError, ValueError),
    "ConfigError": (ValueError,),
    "ConfigFileError": (errors.ConfigError, errors.CorruptModelError),
    "WeightMismatchError": (RuntimeError, ValueError),
    "TokenizerError": (ValueError,),
    "InputError": (ValueError,),
    "TokenIdError": (errors.InputError, IndexError),
    "NonFiniteLossError": (FloatingPointError,),
    "ResourceLimitError": (MemoryError,),
    "InternalError": (RuntimeError,),
}


def test_all_are_listed():
    assert set(errors.__all__) == {*BUILTINS, "FerroformerError"}


@pytest.mark.parametrize("name", BUILTINS)
def test_error(name):
    error = getattr(errors, name)("what, where")
    assert str(error) == "what, where"
    for base in (errors.FerroformerError, *BUILTINS[name]):
        assert isinstance(error, base)
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error) and str(twin) == str(error)
