"""A node's Pods made real, and the node around them."""

import os

# Read when gRPC is imported. The agent only forks to run other programs, which needs none of its
# fork handlers; with them every such fork is a line of noise in the log.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
