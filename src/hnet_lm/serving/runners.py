"""The models that are served, by name."""

from collections.abc import Iterator, Mapping

from hnet_lm.serving.errors import ApiError, shown
from hnet_lm.serving.runner import ModelRunner


class Runners:
    """A runner a model; the first is what a request without a model's name gets."""

    def __init__(self, by_name: Mapping[str, ModelRunner]) -> None:
        assert by_name
        self._by_name = dict(by_name)

    def __iter__(self) -> Iterator[ModelRunner]:
        return iter(self._by_name.values())

    def find(self, name: str | None) -> ModelRunner:
        """Raises ApiError with 404 for a name that is not served."""
        if name is None:
            return next(iter(self))
        if name not in self._by_name:
            message = f"model {shown(name)!r} is not served here; there are {', '.join(map(repr, self._by_name))}"
            raise ApiError(404, message, param="model", code="model_not_found")
        return self._by_name[name]
