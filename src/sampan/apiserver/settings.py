"""What an installation decides about its API."""

from msgspec import Struct


class Settings(Struct, frozen=True, kw_only=True):
    """*advertise* is where Pods and other nodes reach the API; *root_ca* is PEM text."""

    service_cidr: str = "10.43.0.0/16"
    dns_ip: str = "10.43.0.10"
    first_node_port: int = 30000
    last_node_port: int = 32767
    advertise_address: str = "127.0.0.1"
    advertise_port: int = 6443
    root_ca: str = ""
