"""Where Pods run: nodes as columns, rules as functions over them, and one loop that binds."""

import os

# Before numpy is first imported: a scheduler adds and compares, so BLAS threads only cost memory.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
