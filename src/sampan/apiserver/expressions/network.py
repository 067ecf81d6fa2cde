"""CEL's functions of Kubernetes for URLs, IP addresses and networks.

Source: Kubernetes, "CEL in Kubernetes"; k8s.io/apiserver, pkg/cel/library, urls.go, ip.go, cidr.go.
"""

from collections.abc import Callable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from cel_expr_python import cel

from sampan.apiserver.expressions.library import Tagged, declared, function

_T: Final = cel.Type
_TAGGED: Final = _T.Map(_T.STRING, _T.DYN)


def _url(text: str) -> Tagged:
    parts = urlsplit(text)
    if not (parts.scheme or text.startswith("/")) or any(c.isspace() for c in text):
        raise ValueError(f"{text!r} is no URL")
    return {"url": text, "port": str(parts.port or "")}


def _parts(value: Tagged) -> SplitResult:
    return urlsplit(value["url"])


def _query(value: Tagged) -> dict[str, list[str]]:
    return parse_qs(_parts(value).query, keep_blank_values=True)


def _ip(text: str) -> Tagged:
    if "%" in text or ("." in text and ":" in text):
        raise ValueError("IPv4-mapped addresses and zones are not allowed")
    return {"ip": str(ip_address(text))}


def _address(value: Tagged) -> IPv4Address | IPv6Address:
    return ip_address(value["ip"])


def _cidr(text: str) -> Tagged:
    if "/" not in text:
        raise ValueError(f"{text!r} is no CIDR: it has no prefix length")
    return {"cidr": str(ip_interface(text))}


def _network(value: Tagged) -> IPv4Network | IPv6Network:
    return ip_network(value["cidr"], strict=False)


def _contains_address(cidr: Tagged, other: Any) -> bool:
    address = _address(other if isinstance(other, dict) else _ip(other))
    return address in _network(cidr)


def _contains_network(cidr: Tagged, other: Any) -> bool:
    mine, theirs = _network(cidr), _network(other if isinstance(other, dict) else _cidr(other))
    return (
        mine.version == theirs.version
        and theirs.network_address in mine
        and (theirs.prefixlen >= mine.prefixlen)
    )


def _readable(read: Callable[[str], Any]) -> Callable[[str], bool]:
    def readable(text: str) -> bool:
        try:
            read(text)
        except ValueError:
            return False
        return True

    return readable


def _family(value: Tagged) -> int:
    return _address(value).version


_OF_URLS: Final = {
    "getScheme": lambda v: _parts(v).scheme,
    "getHost": lambda v: _parts(v).netloc.rpartition("@")[2],
    "getHostname": lambda v: _parts(v).hostname or "",
    "getPort": lambda v: v["port"],
    "getEscapedPath": lambda v: quote(unquote(_parts(v).path)),
}
_OF_ADDRESSES: Final[dict[str, Callable[[Tagged], bool]]] = {
    "isUnspecified": lambda v: _address(v).is_unspecified,
    "isLoopback": lambda v: _address(v).is_loopback,
    "isLinkLocalMulticast": lambda v: (
        _address(v).is_multicast and str(_address(v)).startswith(("224.0.0.", "ff02:"))
    ),
    "isLinkLocalUnicast": lambda v: _address(v).is_link_local,
    "isGlobalUnicast": lambda v: (
        not (
            _address(v).is_multicast
            or _address(v).is_loopback
            or _address(v).is_link_local
            or _address(v).is_unspecified
            or str(_address(v)) == "255.255.255.255"
        )
    ),
}

FUNCTIONS: Final = declared((
    function("url", _TAGGED, [_T.STRING], _url, member=False),
    function("isURL", _T.BOOL, [_T.STRING], _readable(_url), member=False),
    *(function(name, _T.STRING, [_TAGGED], impl, member=True) for name, impl in _OF_URLS.items()),
    function("getQuery", _T.Map(_T.STRING, _T.List(_T.STRING)), [_TAGGED], _query, member=True),
    function("ip", _TAGGED, [_T.STRING], _ip, member=False),
    function("isIP", _T.BOOL, [_T.STRING], _readable(_ip), member=False),
    function("ip.isCanonical", _T.BOOL, [_T.STRING], lambda t: _ip(t)["ip"] == t, member=False),
    function("family", _T.INT, [_TAGGED], _family, member=True),
    *(function(name, _T.BOOL, [_TAGGED], impl, member=True)
      for name, impl in _OF_ADDRESSES.items()),
    function("cidr", _TAGGED, [_T.STRING], _cidr, member=False),
    function("isCIDR", _T.BOOL, [_T.STRING], _readable(_cidr), member=False),
    *(function("containsIP", _T.BOOL, [_TAGGED, other], _contains_address, member=True)
      for other in (_TAGGED, _T.STRING)),
    *(function("containsCIDR", _T.BOOL, [_TAGGED, other], _contains_network, member=True)
      for other in (_TAGGED, _T.STRING)),
    function("ip", _TAGGED, [_TAGGED], lambda v: _ip(v["cidr"].partition("/")[0]), member=True),
    function("prefixLength", _T.INT, [_TAGGED], lambda v: _network(v).prefixlen, member=True),
    function("masked", _TAGGED, [_TAGGED], lambda v: {"cidr": str(_network(v))}, member=True),
))  # fmt: skip
