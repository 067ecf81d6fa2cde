"""What the server counts, in Prometheus' text format and under Kubernetes' names."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG: Final = frozenset({"watch", "connect"})
_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


class Counted(Struct, frozen=True):
    """What a request was about; all empty for a path that is no resource."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""


class Metrics:
    def __init__(self) -> None:
        self._requests: Counter[tuple[Counted, int]] = Counter()
        self._buckets: Counter[tuple[str, int]] = Counter()
        self._seconds: dict[str, float] = defaultdict(float)
        self._timed: Counter[str] = Counter()

    def count(self, what: Counted, code: int, seconds: float) -> None:
        self._requests[what, code] += 1
        if what.verb in _LONG:
            return
        self._timed[what.verb] += 1
        self._seconds[what.verb] += seconds
        self._buckets[what.verb, bisect_left(_BUCKETS, seconds)] += 1

    def text(self, gauges: Mapping[str, float]) -> str:
        return "\n".join([*self._counters(), *self._histogram(), *_gauges(gauges), ""])

    def _counters(self) -> Iterable[str]:
        yield "# TYPE apiserver_request_total counter"
        for (what, code), number in self._requests.items():
            labels = {
                "verb": what.verb.upper(),
                "group": what.group,
                "resource": what.resource,
                "subresource": what.subresource,
                "code": str(code),
            }
            yield f"apiserver_request_total{_labels(labels)} {number}"

    def _histogram(self) -> Iterable[str]:
        name = "apiserver_request_duration_seconds"
        yield f"# TYPE {name} histogram"
        for verb, number in self._timed.items():
            within = 0
            for place, bound in enumerate(_BUCKETS):
                labels = {"verb": verb.upper(), "le": f"{bound:g}"}
                within += self._buckets[verb, place]
                yield f"{name}_bucket{_labels(labels)} {within}"
            labels = {"verb": verb.upper()}
            yield f"{name}_bucket{_labels({**labels, 'le': '+Inf'})} {number}"
            yield f"{name}_sum{_labels(labels)} {self._seconds[verb]:.6f}"
            yield f"{name}_count{_labels(labels)} {number}"


def _gauges(gauges: Mapping[str, float]) -> Iterable[str]:
    for name, value in gauges.items():
        yield f"# TYPE {name} gauge"
        yield f"{name} {value:g}"


def _labels(labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())
    return f"{{{inner}}}"
