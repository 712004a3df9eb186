"""Metrics for Prometheus, in a registry of their own, so that several servers in one process do not collide."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from hnet_lm.serving.observe import Exchange

_STEP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_PATHS = frozenset({"/", "/v1/completions", "/v1/chunks", "/v1/embeddings", "/v1/models", "/health", "/metrics"})
_REQUEST_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counters, gauges and histograms; safe to use from any thread."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = self._counter("requests", "HTTP requests", ("path", "status"))
        self.request_seconds = self._histogram("request_seconds", "To the end of the answer", "path", _REQUEST_SECONDS)
        self.first_byte_seconds = self._histogram(
            "first_byte_seconds", "From arrival to a completion's first byte", "model", _REQUEST_SECONDS
        )
        self.step_seconds = self._histogram("step_seconds", "One step of the engine", "model", _STEP_SECONDS)
        self.prompt_bytes = self._counter("prompt_bytes", "Prompt bytes accepted", ("model",))
        self.new_bytes = self._counter("new_bytes", "Bytes generated", ("model",))
        self.cancelled = self._counter("cancelled", "Completions cancelled before their end", ("model",))
        self.active = self._gauge("active", "Completions that run")
        self.queued = self._gauge("queued", "Completions that wait for a slot")
        self.calls = self._gauge("calls", "Texts being chunked or embedded, or waiting for it")
        self.state_bytes = self._gauge("state_bytes", "Bytes of state that the running completions hold")

    def count_request(self, exchange: Exchange) -> None:
        """Count and time a request under its path, or under "other"."""
        path = exchange.path if exchange.path in _PATHS else "other"
        self.requests.labels(path, exchange.status).inc()
        self.request_seconds.labels(path).observe(exchange.seconds)

    def exposition(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, labels: Iterable[str]) -> Counter:
        return Counter(f"hnet_lm_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"hnet_lm_{name}", text, ("model",), registry=self._registry)

    def _histogram(self, name: str, text: str, label: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"hnet_lm_{name}", text, (label,), buckets=buckets, registry=self._registry)
