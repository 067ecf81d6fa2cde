"""Two rules of our own: racks have a power budget, and cool racks are better.

    sampan server --scheduler-rules examples/07-own-rule/rules.py

Nodes are labelled `example.com/rack=r1`, `example.com/watts=8000`, `example.com/celsius=23`.
"""

import numpy as np
from numpy.typing import NDArray

from sampan.scheduler.own import Nodes, PodAsked

WATTS_PER_CORE = 12


def filter_power(pod: PodAsked, nodes: Nodes) -> NDArray[np.bool_]:
    """node(s) are in a rack without enough power"""
    _, rack = np.unique(nodes.label("example.com/rack"), return_inverse=True)
    drawn = np.bincount(rack, weights=nodes.used("cpu"))[rack] / 1000 * WATTS_PER_CORE
    wanted = pod.requests.get("cpu", 0) / 1000 * WATTS_PER_CORE
    return drawn + wanted <= nodes.numbers("example.com/watts", missing=np.finfo(float).max)


def score_cool(_pod: PodAsked, nodes: Nodes) -> NDArray[np.float64]:
    return 100 - 2 * (nodes.numbers("example.com/celsius", missing=25) - 15)


WEIGHTS = {"score_cool": 3}
PROFILES = {"default-scheduler": "spread", "night-shift": "binpack"}
