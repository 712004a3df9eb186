"""JavaScript modules joined into one plain script: a page that is opened as a file may load scripts, and no modules.

Of the language of modules it knows what the modules here use: `import { a, b } from "./file.js";`, and `export` before
`const`, `class` and functions. Each module becomes a function that returns what it exports, called once, after those
that it imports.
"""

import re
from collections.abc import Mapping

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w.-]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:const|class|(?:async )?function\*?) (\w+))", re.MULTILINE)


def bundle(modules: Mapping[str, str], entry: str, instead: Mapping[str, str] | None = None) -> str:
    """The script that `entry` is with all it imports. `instead` names modules that are taken in the place of others."""
    joined: dict[str, str] = {}
    _join(modules, entry, instead or {}, joined)
    return '"use strict";\n' + "".join(joined.values())


def _join(modules: Mapping[str, str], name: str, instead: Mapping[str, str], joined: dict[str, str]) -> None:
    name = instead.get(name, name)
    if name in joined:
        return
    source = modules[name]
    for _, imported in _IMPORT.findall(source):
        _join(modules, imported, instead, joined)
    exported = ", ".join(_EXPORT.findall(source))

    def unpacked(found: re.Match[str]) -> str:
        names = " ".join(found[1].split()).rstrip(",")
        return f"const {{ {names} }} = {_variable(instead.get(found[2], found[2]))};\n"

    body = _EXPORT.sub("", _IMPORT.sub(unpacked, source))
    if re.search(r"^(import|export)\b", body, re.MULTILINE):
        raise ValueError(f"{name}: imports or exports in a way that cannot be joined")
    joined[name] = f"const {_variable(name)} = (() => {{\n{body}return {{ {exported} }};\n}})();\n"


def _variable(name: str) -> str:
    return "module_" + re.sub(r"\W", "_", name.removesuffix(".js"))
