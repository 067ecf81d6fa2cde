"""A real container registry (Debian's docker-registry) while a test or example needs it."""

import http.client
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sampan.testing.images import OCI_MANIFEST, Blob, Image

PATIENCE: Final = 10.0
_CONFIG: Final = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {directory}}}, delete: {{enabled: true}}}}
http: {{addr: {address}}}
"""


@dataclass(frozen=True, slots=True)
class Registry:
    """*address* is host:port, the first part of the names of images that are kept here."""

    address: str

    def push(self, repository: str, tag: str, image: Image) -> str:
        """Put *image* into the registry; return the name by which nodes can pull it."""
        for blob in (image.config, *image.packed_layers):
            self._push_blob(repository, blob)
        path = f"/v2/{repository}/manifests/{tag}"
        self._call("PUT", path, image.manifest.data, {"Content-Type": OCI_MANIFEST}, 201)
        return f"{self.address}/{repository}:{tag}"

    def answers(self) -> bool:
        try:
            self._call("GET", "/v2/", b"", {}, 200)
        except OSError:
            return False
        return True

    def _push_blob(self, repository: str, blob: Blob) -> None:
        started = self._call("POST", f"/v2/{repository}/blobs/uploads/", b"", {}, 202)
        upload = urlsplit(started["Location"])
        path = f"{upload.path}?{upload.query}&digest={blob.digest}"
        self._call("PUT", path, blob.data, {"Content-Type": "application/octet-stream"}, 201)

    def _call(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], expected: int
    ) -> Mapping[str, str]:
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != expected:
                raise RuntimeError(f"{method} {path}: HTTP {answer.status}: {text!r}")
            return dict(answer.getheaders())
        finally:
            connection.close()


@contextmanager
def registry(address: str) -> Iterator[Registry]:
    """Run a registry at *address* (host:port) that forgets everything at the end."""
    with tempfile.TemporaryDirectory(prefix="sampan-registry-") as scratch:
        config = Path(scratch, "config.yml")
        config.write_text(_CONFIG.format(directory=scratch, address=address))
        log = Path(scratch, "log")
        with (
            log.open("wb") as sink,
            subprocess.Popen(
                ["docker-registry", "serve", str(config)], stdout=sink, stderr=sink
            ) as process,
        ):
            try:
                running = Registry(address)
                _wait(running, process, log)
                yield running
            finally:
                process.terminate()


def _wait(running: Registry, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not running.answers():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"docker-registry does not serve: {log.read_text()}")
        time.sleep(0.05)
