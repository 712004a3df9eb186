"""Who imports whom in a package, read from its source without running it, and the rules that its layers set."""

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

IMPORTING_CALLS = {"import_module", "import_leaf"}


@dataclass(frozen=True)
class Import:
    """One import statement, or call that imports, of a module."""

    importer: str
    imported: str
    line: int
    in_function: bool = False
    is_call: bool = False
    for_types_only: bool = False

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}: imports {self.imported}"


@dataclass(frozen=True)
class Package:
    """The modules of a package by dotted name (a package's `__init__` has the package's name), and their imports."""

    name: str
    modules: frozenset[str]
    imports: tuple[Import, ...]

    @classmethod
    def read(cls, folder: Path) -> "Package":
        files = {_dotted(folder, path): path for path in sorted(folder.rglob("*.py"))}
        modules = frozenset(files)
        imports = [found for name, path in files.items() for found in _imports(name, path, modules)]
        return cls(folder.name, modules, tuple(imports))

    def own(self) -> list[Import]:
        """The imports of modules of the package itself."""
        return [found for found in self.imports if is_within(found.imported, self.name)]

    def foreign(self) -> list[Import]:
        """The imports of other packages, without the standard library."""
        return [
            found
            for found in self.imports
            if not is_within(found.imported, self.name) and top(found.imported) not in sys.stdlib_module_names
        ]


def top(module: str) -> str:
    return module.partition(".")[0]


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def wrong_edges(package: Package, allowed: Mapping[str, Sequence[str]]) -> list[Import]:
    """Imports that no rule allows. `allowed` says of a unit of the package which others its modules may import.

    Units are dotted names below the package, "" the package's own `__init__`; the longest one that holds a module
    speaks for it. A unit may import itself and what it holds; "*" allows everything.
    """

    def unit_of(module: str) -> str:
        within = module[len(package.name) + 1 :]
        holding = [unit for unit in allowed if unit and is_within(within, unit)]
        return max(holding, key=len, default=within)

    def is_allowed(found: Import) -> bool:
        unit, target = unit_of(found.importer), found.imported[len(package.name) + 1 :]
        return is_within(target, unit) or any(rule == "*" or is_within(target, rule) for rule in allowed.get(unit, ()))

    return [found for found in package.own() if not is_allowed(found)]


def imports_in_functions(package: Package) -> list[Import]:
    """Import statements of the package's own modules that hide in a function."""
    return [found for found in package.own() if found.in_function and not found.is_call]


def careless_optional_imports(package: Package, core: frozenset[str], leaf_folders: Sequence[str] = ()) -> list[Import]:
    """Imports through which a package that is not `core` would be needed by more than its leaf files.

    A leaf is a module that imports such a package, at its top; within a leaf folder also one that imports a leaf. Other
    modules may import a leaf only by a call.
    """
    optional = [found for found in package.foreign() if top(found.imported) not in core]
    hidden = [found for found in optional if found.in_function]
    leaves = {found.importer for found in optional if not found.in_function}
    eager = [found for found in package.own() if not (found.is_call or found.for_types_only or found.in_function)]
    for _ in package.modules:  # a chain of imports is no longer than this
        leaves |= {
            found.importer
            for found in eager
            if found.imported in leaves and any(is_within(found.importer, folder) for folder in leaf_folders)
        }
    return hidden + [found for found in eager if found.imported in leaves and found.importer not in leaves]


def _dotted(folder: Path, path: Path) -> str:
    parts = path.relative_to(folder.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(module: str, path: Path, modules: frozenset[str]) -> Iterator[Import]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def visit(node: ast.AST, in_function: bool, for_types_only: bool) -> Iterator[Import]:
        for name, is_call in _imported(node, package, modules):
            line = getattr(node, "lineno", 0)
            yield Import(module, name, line, in_function, is_call, for_types_only)
        in_function = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in ast.iter_child_nodes(node):
            yield from visit(child, in_function, for_types_only or typing_only)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), False, False)


def _imported(node: ast.AST, package: str, modules: frozenset[str]) -> Iterator[tuple[str, bool]]:
    """Names of the modules that this node itself imports, and whether by a call."""
    match node:
        case ast.Import(names=names):
            yield from ((alias.name, False) for alias in names)
        case ast.ImportFrom(module=source, names=names, level=level):
            if level:
                base = package.split(".")[: len(package.split(".")) - level + 1]
                source = ".".join(base + ([source] if source else []))
            for alias in names:
                submodule = f"{source}.{alias.name}"
                yield (submodule if submodule in modules else source or ""), False
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[argument, *_]) if (
            name in IMPORTING_CALLS
        ):
            text = _leading_text(argument)
            if text:
                yield text.rstrip("."), True


def _leading_text(argument: ast.expr) -> str:
    """What a name is known to start with: all of a plain string, of an f-string what stands before the first brace."""
    match argument:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
            return text
    return ""
