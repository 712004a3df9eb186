"""How much is tried: enough to notice a fault in `make test`, and much more with `--hypothesis-profile=thorough`."""

from hypothesis import settings

MORE_EXAMPLES = 10


def is_thorough() -> bool:
    return settings.get_current_profile_name() == "thorough"


def examples(few: int) -> int:
    """As many of a property's examples as this run tries."""
    return few * MORE_EXAMPLES if is_thorough() else few
