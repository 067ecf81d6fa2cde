"""Which cluster a command means, and what becomes of it when the cluster does not answer."""

import os
from collections.abc import Coroutine
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from sampan.cli.processes import find
from sampan.cli.terminal import err, fail

if TYPE_CHECKING:
    from sampan.api.errors import ApiError
    from sampan.client.connection import Connection

T = TypeVar("T")

SERVER = Path("/var/lib/sampan/server/kubeconfig")
DEV_DATA = Path("/var/lib/sampan/dev")
DEV_RUN = Path("/run/sampan/dev")
Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig", help="The cluster's kubeconfig; else $KUBECONFIG, else what runs here."
    ),
]


def find_kubeconfig(given: Path | None = None, *, dev: str = "") -> Path:
    """Find the kubeconfig that is meant; end the command where that is not clear.

    What is *given* comes first, then the *dev* cluster's, $KUBECONFIG, this machine's server, and
    the one dev cluster that runs here.
    """
    if given:
        return given if given.is_file() else fail(f"there is no kubeconfig {given}")
    if dev:
        path = DEV_DATA / dev / "server" / "kubeconfig"
        hint = f"dev clusters here: {', '.join(_dev_clusters())}" if _dev_clusters() else ""
        return path if path.is_file() else fail(f"there is no dev cluster {dev!r}", hint=hint)
    if named := os.environ.get("KUBECONFIG"):
        return _from_environment(named)
    if SERVER.is_file():
        return SERVER
    return _only_dev_cluster()


def _from_environment(named: str) -> Path:
    paths = [Path(text) for text in named.split(os.pathsep) if text]
    found = next((path for path in paths if path.is_file()), None)
    return found or fail(f"$KUBECONFIG names no file that exists: {named}")


def _dev_clusters() -> list[str]:
    return [path.parents[1].name for path in sorted(DEV_DATA.glob("*/server/kubeconfig"))]


def _only_dev_cluster() -> Path:
    known = _dev_clusters()
    running = [name for name in known if find(DEV_RUN / name / "server" / "process.json")]
    if len(running) > 1:
        fail(
            f"several clusters run here: {', '.join(running)}",
            hint=f"say which: --kubeconfig {DEV_DATA}/NAME/server/kubeconfig, or set $KUBECONFIG",
        )
    if not running and known:
        fail(
            f"no cluster runs on this machine; stopped are: {', '.join(known)}",
            hint=f"start it: sampan dev up --name {known[0]}",
        )
    if not running:
        fail(
            "no cluster runs on this machine",
            hint="start one: sampan dev up --nodes 3; or name another: --kubeconfig FILE",
        )
    return DEV_DATA / running[0] / "server" / "kubeconfig"


def connect(given: Path | None) -> "Connection":
    """Read the kubeconfig that is meant."""
    from sampan.client.connection import Connection, KubeconfigError  # noqa: PLC0415 - slow imports

    try:
        return Connection.from_kubeconfig(find_kubeconfig(given))
    except KubeconfigError as error:
        fail(str(error))


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; what the cluster refuses ends it with one clear line."""
    import asyncio  # noqa: PLC0415

    from sampan.api.errors import ApiError  # noqa: PLC0415

    try:
        return asyncio.run(main)
    except ApiError as error:
        _refused(error)
    except BaseExceptionGroup as group:
        expected = group.subgroup((ApiError, typer.Exit))
        if expected is None or group.split((ApiError, typer.Exit))[1]:
            raise
        first = _first(expected)
        if isinstance(first, ApiError):
            _refused(first)
        raise first from None
    except KeyboardInterrupt:
        err.print("interrupted")
        raise typer.Exit(130) from None


def _refused(error: "ApiError") -> NoReturn:
    if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
        fail(str(error), hint="is it running? `sampan dev status` lists this machine's clusters")
    fail(f"the cluster refused: {error}")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    return group
