"""Optional dependencies: a leaf module that needs one is imported when it is used, and only then."""

import importlib
import importlib.util
from types import ModuleType

from hnet_lm.errors import UserError


def is_installed(package: str) -> bool:
    """Whether an optional package is there; it is not imported."""
    return importlib.util.find_spec(package) is not None


def import_leaf(module: str, extra: str, purpose: str, error_type: type[UserError] = UserError) -> ModuleType:
    """The module of this package that needs packages of an extra. The error names the extra if one is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "hnet_lm":
            raise
        raise error_type(f"{purpose} needs the package {error.name}: pip install 'hnet-lm[{extra}]'") from error
