"""`make bench`: every benchmark in turn, at the size that a coffee break allows."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ORDER = (
    "bench_store.py", "bench_api.py", "bench_controllers.py", "bench_scheduler.py", "bench_net.py",
    "bench_cluster.py", "bench_updates.py",
)  # fmt: skip


def main() -> None:
    failed = []
    for script in ORDER:
        print(f"\n## {script}\n", flush=True)
        if subprocess.run(
            [sys.executable, str(HERE / script), *sys.argv[1:]], check=False
        ).returncode:
            failed.append(script)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
