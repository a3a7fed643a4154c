"""/metrics: the workers' tallies and the node's health in the text form that Prometheus reads.

Why here: what is counted (tallies) and how it is shown change for different reasons.
Must not: show a customer's data, an address, or a label whose values a client can choose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from intake.health import Health
from intake.tallies import BUCKETS, METHODS, STATUSES, Layout, Tallies

_MICROSECONDS = 1_000_000
_OTHER_STATUS = "other"


class Metrics:
    """What ``/metrics`` answers. ``webhooks``: how many messages wait, by what they wait for."""

    def __init__(
        self, *, tallies: Tallies, health: Health, webhooks: Callable[[], Mapping[str, int]]
    ) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(tallies, health, webhooks))

    def document(self, accept: str) -> tuple[bytes, str]:
        """The text and its media type, in the form that the Accept header asks for."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


class _Collector(Collector):
    def __init__(self, tallies: Tallies, health: Health, webhooks: Callable[[], Mapping[str, int]]) -> None:
        self._tallies = tallies
        self._health = health
        self._webhooks = webhooks

    def collect(self) -> Iterator[Metric]:
        layout, sums = self._tallies.layout, self._tallies.sums()
        yield _requests(layout, sums)
        yield _times(layout, sums)
        yield _counted("intake_refusals", "Refusals by rule.", "rule", layout.rules, sums, layout.rule(0))
        yield _counted(
            "intake_limited", "Requests beyond a rate limit.", "limit", layout.limits, sums, layout.limit(0)
        )
        yield from self._of_health()
        waiting = GaugeMetricFamily(
            "intake_webhooks_waiting", "Status messages that were not delivered yet.", labels=["state"]
        )
        for state, count in self._webhooks().items():
            waiting.add_metric([state], count)
        yield waiting

    def _of_health(self) -> Iterator[Metric]:
        report = self._health.report()
        yield GaugeMetricFamily("intake_ready", "1 while orders can be taken.", value=not report.reasons)
        yield GaugeMetricFamily(
            "intake_batch_keys_left", "Batch keys that can still be sealed to.", value=report.keys_left
        )
        notices = GaugeMetricFamily("intake_notices", "What the administrator must see to.", labels=["rule"])
        for rule, count in sorted(Counter(notice.rule for notice in report.notices).items()):
            notices.add_metric([rule], count)
        yield notices


def _requests(layout: Layout, sums: Sequence[int]) -> Metric:
    family = CounterMetricFamily(
        "intake_requests", "Answered requests.", labels=["route", "method", "status"]
    )
    for place, route in enumerate(layout.routes):
        for method in METHODS:
            for status in STATUSES:
                if count := sums[layout.request(place, method, status)]:
                    family.add_metric([route, method, str(status or _OTHER_STATUS)], count)
    return family


def _times(layout: Layout, sums: Sequence[int]) -> Metric:
    family = HistogramMetricFamily(
        "intake_request_seconds", "From the request's head to the answer's end.", labels=["route"]
    )
    bounds = [*map(str, BUCKETS), "+Inf"]
    for place, route in enumerate(layout.routes):
        start = layout.times(place)
        counts = list(accumulate(sums[start : start + len(bounds)]))
        if counts[-1]:
            buckets = list(zip(bounds, counts, strict=True))
            family.add_metric([route], buckets, sum_value=sums[start + len(bounds)] / _MICROSECONDS)
    return family


def _counted(
    name: str, text: str, label: str, values: Iterable[str], sums: Sequence[int], start: int
) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for place, value in enumerate(values):
        if count := sums[start + place]:
            family.add_metric([value], count)
    return family
