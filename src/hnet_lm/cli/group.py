"""A command that is a group of others: `hnet-lm evaluate NAME`, `hnet-lm export NAME`."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hnet_lm.errors import UserError
from hnet_lm.registry import Kind


@dataclass(frozen=True)
class Group:
    """Its members are dataclasses whose fields are their arguments, found by name."""

    name: str
    members: Kind[Any]
    question: str
    """What its first argument names."""

    def parse(self, arguments: Sequence[str], cli: Callable[..., Any]) -> Any:
        """The named member, filled from the arguments after its name. Raises UserError."""
        match arguments:
            case ["-h" | "--help", *_]:
                print(self._help())
                sys.exit()
            case [member, *rest] if not member.startswith("-"):
                return cli(self.members.find(member, self.name), args=rest, prog=f"hnet-lm {self.name} {member}")
        raise UserError(f"{self.name}: name {self.question}: {', '.join(self.members)}; see hnet-lm {self.name} --help")

    def _help(self) -> str:
        named = {name: self.members.find(name, self.name).__doc__ or "" for name in self.members}
        width = max(map(len, named))
        rows = "\n".join(f"  {name:{width}}  {' '.join(text.split())}" for name, text in named.items())
        return (
            f"usage: hnet-lm {self.name} NAME [arguments]\n\n"
            f"{rows}\n\n"
            f"hnet-lm {self.name} NAME --help lists its arguments; one of your own is named MODULE:CLASS."
        )
