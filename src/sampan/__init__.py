"""Sampan: a handful of Linux machines become one computer for containers."""

__version__ = "0.1.0"
KUBERNETES_VERSION = "1.37.0"
