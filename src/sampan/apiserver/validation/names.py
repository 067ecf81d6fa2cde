"""The forms that names, labels and keys may have. Source: k8s.io/apimachinery, util/validation."""

import re
from functools import lru_cache
from typing import Final

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED: Final = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_CONFIG_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")
_PORT_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_ENV: Final = re.compile(r"[^=\x00-\x1f\x7f-\U0010ffff]+")

_SUBDOMAIN_WANTED: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    r"for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_WANTED: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_1035_WANTED: Final = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', "
    "regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_VALUE_WANTED: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
    "or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_QUALIFIED_WANTED: Final = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


_remembered: Final = lru_cache(maxsize=4096)
"""The same few names and keys are in all objects of a cluster."""


def _too_long(limit: int) -> str:
    return f"must be no more than {limit} bytes"


@_remembered
def subdomain(name: str) -> str:
    """Return what is wrong with a DNS-1123 subdomain, or ""."""
    if len(name) > 253:  # noqa: PLR2004 - RFC 1123
        return _too_long(253)
    return "" if _SUBDOMAIN.fullmatch(name) else _SUBDOMAIN_WANTED


@_remembered
def label(name: str) -> str:
    """Return what is wrong with a DNS-1123 label, or ""."""
    if len(name) > 63:  # noqa: PLR2004 - RFC 1123
        return _too_long(63)
    return "" if _LABEL.fullmatch(name) else _LABEL_WANTED


@_remembered
def label_1035(name: str) -> str:
    """Return what is wrong with a DNS-1035 label (a Service's name), or ""."""
    if len(name) > 63:  # noqa: PLR2004 - RFC 1035
        return _too_long(63)
    return "" if _LABEL_1035.fullmatch(name) else _LABEL_1035_WANTED


def path_segment(name: str) -> str:
    """Return what is wrong with a name that only has to fit into a URL, or ""."""
    if name in {".", ".."}:
        return f"may not be '{name}'"
    for char in "/%":
        if char in name:
            return f"may not contain '{char}'"
    return ""


@_remembered
def qualified(name: str) -> str:
    """Return what is wrong with a label's or annotation's key, or ""."""
    prefix, slash, rest = name.rpartition("/")
    if slash and not prefix:
        return "prefix part must be non-empty"
    if prefix and (wrong := subdomain(prefix)):
        return f"prefix part {wrong}"
    if not rest:
        return "name part must be non-empty"
    if len(rest) > 63:  # noqa: PLR2004 - Kubernetes' limit for label keys
        return f"name part {_too_long(63)}"
    return "" if _QUALIFIED.fullmatch(rest) else _QUALIFIED_WANTED


@_remembered
def label_value(value: str) -> str:
    if len(value) > 63:  # noqa: PLR2004 - Kubernetes' limit for label values
        return _too_long(63)
    return "" if not value or _QUALIFIED.fullmatch(value) else _VALUE_WANTED


def config_key(key: str) -> str:
    """Return what is wrong with a key of a ConfigMap or Secret, or ""."""
    if len(key) > 253:  # noqa: PLR2004 - Kubernetes' limit for file names
        return _too_long(253)
    if key in {".", ".."} or key.startswith(".."):
        return f"must not be or start with '..': {key}"
    if _CONFIG_KEY.fullmatch(key):
        return ""
    return (
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
        "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is "
        "'[-._a-zA-Z0-9]+')"
    )


@_remembered
def port_name(name: str) -> str:
    """Return what is wrong with an IANA service name, or ""."""
    if len(name) > 15:  # noqa: PLR2004 - RFC 6335
        return "must be no more than 15 characters"
    if not _PORT_NAME.fullmatch(name):
        return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    if not re.search("[a-z]", name):
        return "must contain at least one letter (a-z)"
    return "must not contain consecutive hyphens" if "--" in name else ""


@_remembered
def env_name(name: str) -> str:
    if _ENV.fullmatch(name):
        return ""
    return (
        "a valid environment variable name must consist only of printable ASCII characters other "
        "than '='"
    )
