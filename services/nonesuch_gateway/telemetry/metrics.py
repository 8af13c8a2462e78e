"""What Prometheus is told of this gateway. `scrape` adds what Redis knows of the service.

Labels are names of ours only (routes, formats, states), so no client can make up another time series.
"""

import platform

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector

import nonesuch

SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """The counters of one application, in a registry of its own. Safe to use from any thread."""

    def __init__(self) -> None:
        # A second time series for each counter, which Prometheus does not use.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.in_flight = Gauge(
            "nonesuch_gateway_requests_in_flight", "Requests whose answer has not ended.", registry=self.registry
        )
        self._requests = self._counter("requests", "Requests that ended.", "method", "route", "status")
        self._aborted = self._counter("requests_aborted", "Of these, those whose client went away early.", "route")
        self._seconds = self._histogram("request_duration_seconds", "From the request to the end of its answer.")
        self._first_byte = self._histogram("first_byte_seconds", "From the request to the head of its answer.")
        self._bytes = self._counter("response_bytes", "Of the bodies of answers.", "route")
        self._images = self._counter("images", "Images that were sent.", "format")
        self._image_bytes = self._counter("image_bytes", "What they took.", "format")
        self._orders = self._counter("orders", "Orders that ended here, by how they ended.", "priority", "outcome")
        build = Info("nonesuch_gateway_build", "What runs here.", registry=self.registry)
        build.info({"version": nonesuch.__version__, "python": platform.python_version()})

    def request_ended(
        self, method: str, route: str, status: int, seconds: float, first_byte_s: float | None, size: int, aborted: bool
    ) -> None:
        """Count one request and its answer of `size` bytes."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)
        if first_byte_s is not None:
            self._first_byte.labels(method, route).observe(first_byte_s)
        self._bytes.labels(route).inc(size)
        if aborted:
            self._aborted.labels(route).inc()

    def images_served(self, form: str, images: int, size: int) -> None:
        """Count the images of one answer in a format, also of one that was cut off."""
        self._images.labels(form).inc(images)
        self._image_bytes.labels(form).inc(size)

    def order_ended(self, priority: str, outcome: str) -> None:
        """Count an order that ended by or during a request."""
        self._orders.labels(priority, outcome).inc()

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"nonesuch_gateway_{name}", words, labels, registry=self.registry)

    def _histogram(self, name: str, words: str) -> Histogram:
        labels = ("method", "route")
        return Histogram(f"nonesuch_gateway_{name}", words, labels, buckets=SECONDS, registry=self.registry)
