"""The Kubernetes API over HTTPS: paths in, stored bytes out.

`server.ApiServer` is the way in. The registry decides and the history remembers; what is here only
speaks HTTP: who asks, for what, and in which form the answer goes back.
"""
