"""Which of Compose's names Kubernetes can say."""

import hashlib
import re
from typing import Final

from sampan.compose.document import Node

STACK: Final = "sampan.io/stack"
SERVICE: Final = "sampan.io/service"
AFTER: Final = "sampan.io/after"
ON_FAILURE: Final = "sampan.io/on-failure"
PUBLISHED: Final = "-published"
"""What the name of the Service that nodes answer ends in."""
LONGEST: Final = 63

_DNS: Final = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_KEY: Final = re.compile(
    r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
_LABEL_VALUE: Final = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_OURS: Final = ("sampan.io/", "kubernetes.io/", "k8s.io/")


def dns_label(name: str, at: Node) -> str:
    """Return *name* if it can be a Service's; names are never changed, others call them."""
    if not _DNS.fullmatch(name):
        at.fail(
            f"{name!r} cannot be a name on the cluster's DNS: use small letters, digits and "
            "dashes, beginning with a letter"
        )
    return name


def service_name(name: str, at: Node) -> str:
    """Return *name* if a service's Services can all be named after it."""
    if len(name) + len(PUBLISHED) > LONGEST:
        at.fail(f"a service's name may have {LONGEST - len(PUBLISHED)} characters at most")
    return dns_label(name, at)


def is_label(key: str, value: str) -> bool:
    return bool(_LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value))


def versioned(name: str, content: bytes) -> str:
    """Name an object after what is in it, so that a change is another object."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "file"
    return f"{slug}-{hashlib.sha256(content).hexdigest()[:10]}"


def split_labels(pairs: Node | None) -> tuple[dict[str, str], dict[str, str]]:
    """Sort labels into those that Kubernetes takes as labels, and annotations for the rest."""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    for key, value in (pairs.mapping() if pairs else {}).items():
        text = "" if value.empty else value.text()
        domain = key.partition("/")[0] + "/" if "/" in key else ""
        if any(domain.endswith(ours) for ours in _OURS):
            value.fail("the label belongs to the cluster; choose another")
        if is_label(key, text):
            labels[key] = text
        elif _LABEL_KEY.fullmatch(key):
            annotations[key] = text
        else:
            value.fail(f"{key!r} cannot be the name of a label or annotation")
    return labels, annotations
