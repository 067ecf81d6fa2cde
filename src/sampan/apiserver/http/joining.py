"""How a machine becomes a node, the server's side: the CA for anyone, a certificate for a token."""

import hmac
import re
from typing import Final

from aiohttp import web
from msgspec import Struct

from sampan.api.errors import BadRequest, MethodNotAllowed, Unauthorized
from sampan.apiserver.http import answers, negotiate, queries
from sampan.apiserver.http.exchange import Exchange
from sampan.apiserver.pki import Pki

_BODY_LIMIT: Final = 64 << 10
_LONGEST_NAME: Final = 253
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class ClusterFacts(Struct, frozen=True):
    """What a node must know of the cluster's network."""

    cluster_cidr: str
    service_cidr: str
    dns_ip: str


class _Request(Struct, frozen=True):
    node: str
    csr: str


class Joining:
    def __init__(self, pki: Pki, facts: ClusterFacts) -> None:
        self._pki = pki
        self._facts = facts

    async def serve(self, exchange: Exchange) -> web.Response:
        match exchange.request.method, exchange.parts[-1]:
            case "GET" | "HEAD", "ca":
                return web.Response(body=self._pki.ca_pem, content_type="application/x-pem-file")
            case "POST", "join":
                return await self._join(exchange)
        raise MethodNotAllowed("the server does not allow this method on this path")

    async def _join(self, exchange: Exchange) -> web.Response:
        """Certify the machine's key for the name that it asks for.

        A name that is in use may be asked for again: a machine that was set up anew keeps its name.
        """
        scheme, _, token = exchange.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._is_ours(token.strip()):
            raise Unauthorized(
                "this is not the cluster's join token: it stands in the file `token` in the "
                "server's data directory"
            )
        body = negotiate.from_json(await exchange.body(_BODY_LIMIT))
        asked = queries.read(body, _Request, "join")
        check_node_name(asked.node)
        certificate = self._pki.sign_node(asked.node, asked.csr)
        return await answers.send_object(
            exchange,
            {
                "certificate": certificate.decode(),
                "ca": self._pki.ca_pem.decode(),
                "clusterCIDR": self._facts.cluster_cidr,
                "serviceCIDR": self._facts.service_cidr,
                "dnsIP": self._facts.dns_ip,
            },
        )

    def _is_ours(self, token: str) -> bool:
        return hmac.compare_digest(
            token.encode(errors="surrogateescape"), self._pki.join_token.encode()
        )


def check_node_name(name: str) -> None:
    """Raise BadRequest unless *name* can name a Node (RFC 1123, at most 253 characters)."""
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        raise BadRequest(
            f"node: {name[:80]!r} cannot name a node: use lower case letters, digits, '-' and '.'"
        )
