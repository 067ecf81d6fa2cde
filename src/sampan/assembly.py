"""Which classes a Sampan process is made of: the only module that names them.

A server is the API over a SQLite store, with the control plane beside it in the same process over
the in-process client; by default it is a node as well. An agent is a node that reaches its server
over HTTPS. What is heavy is imported where a role begins, so that a role loads only what it runs.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import uvloop
from msgspec import Struct

from sampan.agent.config import AgentConfig
from sampan.aio.supervise import Work, supervise
from sampan.api import kinds
from sampan.client.enrol import Credentials, enrol

if TYPE_CHECKING:
    from sampan.apiserver.pki import Pki
    from sampan.client.interface import Client
    from sampan.controllers.metering import Source
    from sampan.scheduler.own import OwnRules

LOG_LEVEL: Final = "SAMPAN_LOG_LEVEL"
"""The environment variable for more or less talk: DEBUG, INFO (the default), WARNING."""
VOLATILE: Final = (kinds.LEASES.key(),)
"""What is not worth an fsync, and is made anew within a second."""

_LOOK_FOR_CYCLES: Final = (50_000, 20, 20)

Started = Callable[[str], None]

log = logging.getLogger(__name__)


class CannotStart(Exception):
    """The process cannot run; the text says why and what to do."""


class ServerConfig(Struct, frozen=True, kw_only=True):
    data_dir: Path
    advertise: str
    """The address that nodes and Pods use."""
    listen: tuple[str, ...] = ("0.0.0.0",)
    port: int = 6443
    cluster_cidr: str = "10.42.0.0/16"
    service_cidr: str = "10.43.0.0/16"
    service_ip: str = "10.43.0.1"
    """The API server's own address among the Services'."""
    dns_ip: str = "10.43.0.10"
    scheduler_rules: Path | None = None
    """A file of scheduling rules of the user's own."""

    @property
    def url(self) -> str:
        return f"https://{self.advertise}:{self.port}"

    @property
    def nearest(self) -> str:
        """The address by which this machine itself reaches the server."""
        everywhere = {"0.0.0.0", "127.0.0.1", "::"} & set(self.listen)
        return "127.0.0.1" if everywhere else self.listen[0]


def run_server(config: ServerConfig, *, node: AgentConfig | None, started: Started) -> None:
    """Serve until a signal comes; tell *started* the join token once the API answers.

    With *node* be that node as well; its containers go on when this process ends.
    """
    _set_up_logging()
    _run(_server(config, node, started))


def run_agent(config: AgentConfig) -> None:
    """Be a node until a signal comes; its containers go on."""
    _set_up_logging()
    _run(_node(config))


async def _server(config: ServerConfig, node: AgentConfig | None, started: Started) -> None:
    from sampan.apiserver import pki as keys
    from sampan.apiserver.http.server import ApiServer, ApiServerSettings, CannotListen
    from sampan.apiserver.local import LocalClient
    from sampan.apiserver.registry import StoreRegistry
    from sampan.apiserver.settings import Settings
    from sampan.store.errors import CannotOpen
    from sampan.store.sqlite import SqliteStore

    own = _own_rules(config)
    try:
        config.data_dir.mkdir(parents=True, exist_ok=True)
        addresses = {config.advertise, config.service_ip, *config.listen} - {"0.0.0.0", "::"}
        pki = keys.load(config.data_dir, addresses=sorted(addresses))
        store = SqliteStore(config.data_dir / "state.db", volatile=VOLATILE)
    except (CannotOpen, OSError) as error:
        raise CannotStart(str(error)) from error
    try:
        registry = StoreRegistry(
            store,
            Settings(
                service_cidr=config.service_cidr,
                dns_ip=config.dns_ip,
                advertise_address=config.advertise,
                advertise_port=config.port,
                root_ca=pki.ca_pem.decode(),
            ),
        )
        await registry.start()
        settings = ApiServerSettings(
            data_dir=config.data_dir,
            listen=config.listen,
            port=config.port,
            advertise=f"{config.advertise}:{config.port}",
            cluster_cidr=config.cluster_cidr,
            service_cidr=config.service_cidr,
            dns_ip=config.dns_ip,
        )
        server = ApiServer(registry, pki, settings)
        async with server.serving():
            keys.write_kubeconfig(config.data_dir / "kubeconfig", config.url, pki)
            started(pki.join_token)
            control = (
                await asyncio.to_thread(  # what it imports would keep the first clients waiting
                    _control, pki, LocalClient(registry), server.stats.pods, own
                )
            )
            await supervise(_works(config, pki, control, node))
    except CannotListen as error:
        raise CannotStart(f"{error}; stop what listens there, or choose another --port") from error
    finally:
        await store.close()


def _own_rules(config: ServerConfig) -> "OwnRules | None":
    if config.scheduler_rules is None:
        return None
    from sampan.scheduler.own import BadRules, load

    try:
        return load(config.scheduler_rules)
    except BadRules as error:
        raise CannotStart(str(error)) from error


def _control(
    pki: "Pki", client: "Client", metrics: "Source", own: "OwnRules | None"
) -> Mapping[str, Work]:
    from sampan.apiserver.signing import RequestSigner
    from sampan.controllers.roster import run_all
    from sampan.scheduler.loop import run as schedule

    return {
        "controllers": partial(
            run_all,
            client,
            ca_pem=pki.ca_pem.decode(),
            metrics=metrics,
            sign=RequestSigner(pki.ca),
        ),
        "scheduler": partial(schedule, client, own=own),
    }


def _works(
    config: ServerConfig, pki: "Pki", control: Mapping[str, Work], node: AgentConfig | None
) -> Mapping[str, Work]:
    works = dict(control)
    if node:
        works["node"] = partial(_own_node, config, pki, node)
    _settle()
    return works


async def _own_node(config: ServerConfig, pki: "Pki", node: AgentConfig) -> None:
    """Be a node of this very server; it joins like any other."""
    url = f"https://{config.nearest}:{config.port}"
    credentials = await asyncio.to_thread(
        enrol, url, pki.join_token, node.node_name, node.ca.parent
    )
    await _node(joined(msgspec.structs.replace(node, server=url), credentials))


def joined(config: AgentConfig, credentials: Credentials) -> AgentConfig:
    """Add to *config* what the server told about its cluster when the node joined."""
    cluster = credentials.cluster
    return msgspec.structs.replace(
        config,
        cluster_cidr=cluster["clusterCIDR"],
        service_cidr=cluster["serviceCIDR"],
        dns_ip=cluster["dnsIP"],
    )


async def _node(config: AgentConfig) -> None:
    from sampan.agent.run import run
    from sampan.client.http import Connection, HttpClient

    connection = Connection.from_files(
        config.server, ca=config.ca, certificate=config.certificate, key=config.key
    )
    async with HttpClient(connection) as client:
        _settle()
        await run(config, client)


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Run *main* until it ends, or until SIGTERM or SIGINT cancels it."""

    async def until_signalled() -> None:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: task and task.cancel())
        with contextlib.suppress(asyncio.CancelledError):
            await main

    uvloop.run(until_signalled())


def _settle() -> None:
    """Take what start-up made out of the garbage collector's sight; it stays anyway.

    What comes later is mostly trees, which die without it, so it need not look often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_LOOK_FOR_CYCLES)


def _set_up_logging() -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=os.environ.get(LOG_LEVEL, "INFO").upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
