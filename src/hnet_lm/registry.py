"""Parts that a configuration chooses by name: chunkers, loss terms, data formats, op backends, families, evaluations.

A part is one class in one file: a frozen dataclass whose fields are its keys in a configuration and whose methods do
the work. Each kind of part has a `Kind`, which turns names into parts and back. A name is one of

- a short name of the kind's table (the built-in parts), or of an entry point that an installed package declares in the
  kind's group;
- `module:Class`, as in `my_module:Punctuation`, of a module that has been imported.

A configuration may come from a stranger, so a name never makes Python import what it says. The module behind
`module:Class` must be imported already, by the program or by `hnet-lm --import my_module`, or be one that an installed
package declares; and what it names must be derived from the base class of its kind. Nothing is registered as a side
effect: the tables are constants, and the state that counts is Python's own, `sys.modules`.
"""

import difflib
import importlib
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar

from hnet_lm.errors import ConfigError, UserError, first_line
from hnet_lm.tables import from_table, to_table

T = TypeVar("T")


class Kind(Generic[T]):
    """One kind of part; `T` is its base class."""

    def __init__(
        self,
        title: str,
        base: str,
        group: str,
        builtin: Mapping[str, str | T],
        error: type[UserError],
        *,
        are_objects: bool = False,
    ):
        """`base` and the values of `builtin` are `module:Class`, imported on first use; `group` is that of the entry
        points, and `error` what is raised for a name that does not fit. `are_objects`: names are of objects of the base
        class, not of classes; such parts have no options."""
        self.title = title
        self.group = group
        self.builtin = builtin
        self._base = base
        self._error = error
        self._are_objects = are_objects

    def __iter__(self) -> Iterator[str]:
        """The short names: of the built-in parts, then of installed packages."""
        yield from self.builtin
        yield from (entry.name for entry in self._declared() if entry.name not in self.builtin)

    def find(self, name: Any, where: str) -> Any:
        """What a name stands for, a class or an object. Raises the kind's error, which begins with `where` the name
        was given."""
        if isinstance(name, str) and name in self.builtin:
            built_in = self.builtin[name]
            return _resolved(built_in) if isinstance(built_in, str) else built_in
        module, is_reference, path = name.partition(":") if isinstance(name, str) else ("", "", "")
        if is_reference and module in sys.modules:
            part = _inside(sys.modules[module], path)
            if part is None:
                raise self._error(f"{where}: the module {module!r} has no {path!r}, which should be a {self.title}")
            return self._checked(part, name, where)
        for entry in self._declared():
            if name in (entry.name, entry.value):
                return self._checked(self._loaded(entry, where), name, where)
        if is_reference:
            raise self._error(
                f"{where}: the {self.title} {name!r} is in the module {module!r}, which has not been imported; if you "
                f"trust it: hnet-lm --import {module} COMMAND ..., or `import {module}` before this in Python"
            )
        near = difflib.get_close_matches(str(name), list(self), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "one of your own is named MODULE:NAME"
        raise self._error(f"{where}: no {self.title} {name!r}; there are {', '.join(self)}; {hint}")

    def name_of(self, part: type[T]) -> str:
        """The name by which a class is found again: its short one if it is built in, else `module:Class`."""
        reference = f"{part.__module__}:{part.__qualname__}"
        for name, built_in in self.builtin.items():
            if built_in == reference:
                return name
        for entry in self._declared():  # may lead to the class by another module than its own
            if entry.module in sys.modules and _inside(sys.modules[entry.module], entry.attr) is part:
                return entry.value
        return reference

    def parse(self, entry: Any, where: str) -> T:
        """The part that an entry of a configuration describes: its `name`, and values for its fields."""
        if not isinstance(entry, Mapping) or "name" not in entry:
            raise self._error(f"{where}: must be an object with a name ({', '.join(self)}), got {entry!r}")
        part = self.find(entry["name"], where)
        options = {str(key): value for key, value in entry.items() if key != "name"}
        try:
            return from_table(part, options, f"{where} ({entry['name']})")
        except ConfigError as error:
            raise self._error(str(error)) from error

    def written(self, part: T) -> dict[str, Any]:
        """The entry that describes this part; `parse` reads it."""
        return {"name": self.name_of(type(part)), **to_table(part)}

    def _declared(self) -> list[EntryPoint]:
        return sorted(entry_points(group=self.group), key=lambda entry: entry.name)

    def _loaded(self, entry: EntryPoint, where: str) -> Any:
        try:
            return entry.load()
        except Exception as error:  # whatever the code of somebody's package raises
            source = "" if entry.dist is None else f" of {entry.dist.name}"
            raise self._error(
                f"{where}: the {self.title} {entry.name!r}{source} cannot be imported: {first_line(error)}"
            ) from error

    def _checked(self, part: Any, name: str, where: str) -> Any:
        base = _resolved(self._base)
        if self._are_objects:
            if not isinstance(part, base):
                raise self._error(f"{where}: {name!r} is no {self.title}: not an object of {base.__name__}")
            return part
        if not isinstance(part, type) or not issubclass(part, base):
            raise self._error(f"{where}: {name!r} is no {self.title}: not a class derived from {base.__name__}")
        if open_methods := getattr(part, "__abstractmethods__", None):
            raise self._error(
                f"{where}: the {self.title} {name!r} leaves open what {', '.join(open_methods)} should do"
            )
        if "__dataclass_params__" not in vars(part) and part.__annotations__:
            raise self._error(f"{where}: the {self.title} {name!r} has fields, so it must be a dataclass")
        return part


def imported_module(name: str, group: str) -> ModuleType | None:
    """The module of that name that has been imported, or that an installed package declares in the group; else None."""
    if name not in sys.modules:
        for entry in entry_points(group=group, name=name):
            return entry.load()
    return sys.modules.get(name)


def import_module_of_user(name: str) -> None:
    """Import a module that the user named, so that configurations may name what is in it. Raises UserError."""
    try:
        importlib.import_module(name)
    except Exception as error:  # whatever the user's own code raises
        if isinstance(error, ModuleNotFoundError) and error.name in (name, name.partition(".")[0]):
            place = "this folder, on PYTHONPATH or among the installed packages"
            raise UserError(f"--import {name}: there is no such module in {place}") from error
        raise UserError(f"--import {name}: {first_line(error)}") from error


def _resolved(reference: str) -> Any:
    module, _, path = reference.partition(":")
    return _inside(importlib.import_module(module), path)


def _inside(module: ModuleType, path: str) -> Any:
    """What a dotted path names; None if there is nothing. Nothing is computed: no `__getattr__`, no property."""
    found: Any = module
    for name in path.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    return found
