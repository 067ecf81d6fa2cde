"""A project as Kubernetes objects: one namespace, and in it a Deployment a service."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any

from sampan.compose.document import Node, Problem, Problems
from sampan.compose.mounts import mounts_of
from sampan.compose.names import SERVICE, STACK, dns_label, service_name
from sampan.compose.ports import ports_of, services_for
from sampan.compose.project import Project
from sampan.compose.workload import deployment_of

Object = dict[str, Any]


def namespace_of(project: Project) -> Object:
    metadata = {"name": project.name, "labels": {STACK: project.name}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def convert(project: Project) -> list[Object]:
    """Return what the project is made of, in the order in which to create it.

    Raises ComposeError with everything that cannot be done.
    """
    problems = Problems()
    with problems.caught():
        _check_networks(project)
    with problems.caught():
        _check_cycles(project)
    objects: list[Object] = []
    for name, service in project.services.items():
        with problems.caught():
            objects += _of_service(name, service, project)
    problems.check()
    for check in (_check_names, _check_published):
        with problems.caught():
            check(project, objects)
    problems.check()
    order = ("ConfigMap", "Secret", "PersistentVolumeClaim", "Service", "Deployment")
    unique = {(obj["kind"], obj["metadata"]["name"]): obj for obj in objects}
    ordered = sorted(unique.values(), key=lambda obj: order.index(obj["kind"]))
    return [namespace_of(project), *ordered]


def _of_service(name: str, service: Node, project: Project) -> Iterator[Object]:
    service_name(name, service)
    mounts, ports = mounts_of(service, project), ports_of(service)
    deployment = deployment_of(name, service, project, mounts, ports)
    for config in mounts.objects:
        yield _labelled(config, project)
    selector = deployment["spec"]["selector"]["matchLabels"]
    mode = service.get("deploy", "endpoint_mode")
    headless = mode is not None and mode.choice("vip", "dnsrr") == "dnsrr"
    made = services_for(name, ports, selector=selector, headless=headless)
    for other in _aliases(name, service, project):
        made += services_for(other, ports, selector=selector, headless=headless)[:1]
    for obj in (*made, deployment):
        yield _labelled(obj, project, name)


def _labelled(obj: Object, project: Project, service: str = "") -> Object:
    metadata = obj["metadata"]
    own = {STACK: project.name, **({SERVICE: service} if service else {})}
    given = {key: value for key, value in metadata.items() if value}
    labels = metadata.get("labels", {}) | own
    return {**obj, "metadata": {**given, "namespace": project.name, "labels": labels}}


def _aliases(name: str, service: Node, project: Project) -> list[str]:
    """The further names by which others call the service."""
    found: list[str] = []
    if named := service.get("container_name"):
        found.append(dns_label(named.text(), named))
    networks = service.get("networks")
    for network in networks.mapping().values() if networks else ():
        aliases = network.get("aliases")
        found += [dns_label(a.text(), a) for a in (aliases.sequence() if aliases else ())]
    for other in project.services.values():
        links = other.get("links")
        for link in links.sequence() if links else ():
            target, colon, alias = link.text().partition(":")
            if target == name and colon:
                found.append(dns_label(alias, link))
    return [alias for alias in dict.fromkeys(found) if alias != name]


def _check_names(project: Project, objects: Iterable[Object]) -> None:
    owners: dict[str, str] = {}
    for obj in objects:
        if obj["kind"] == "Service":
            name = obj["metadata"]["name"]
            owner = obj["metadata"]["labels"][SERVICE]
            other = owners.setdefault(name, owner)
            if other != owner:
                project.services[owner].fail(f"the name {name!r} is already that of {other}")


def _check_published(project: Project, objects: Iterable[Object]) -> None:
    owners: dict[tuple[int, str], str] = {}
    for obj in objects:
        if obj["kind"] != "Service" or obj["spec"].get("type") != "LoadBalancer":
            continue
        owner = obj["metadata"]["labels"][SERVICE]
        for port in obj["spec"]["ports"]:
            number, protocol = port["port"], port["protocol"]
            other = owners.setdefault((number, protocol), owner)
            if other != owner:
                ports = project.services[owner].mapping()["ports"]
                ports.fail(f"{other} publishes {number}/{protocol.lower()} already")


def cautions(project: Project, objects: Iterable[Object]) -> list[Problem]:
    """Tell what is done as asked, and may still surprise on more than one node."""
    found = []
    for obj in objects:
        if obj["kind"] != "Deployment":
            continue
        spec = obj["spec"]["template"]["spec"]
        pinned = "nodeSelector" in spec or not any("hostPath" in v for v in spec.get("volumes", ()))
        if obj["spec"]["strategy"]["type"] == "Recreate" and not pinned:
            service = project.services[obj["metadata"]["name"]]
            text = (
                f"{service.path} keeps data in a path of its node, and may run on any node: pin it "
                "with deploy.placement.constraints"
            )
            found.append(Problem(service.mapping()["volumes"].at, text))
    return found


def _check_networks(project: Project) -> None:
    """Refuse what one network a stack would join although the file keeps it apart."""
    declared = project.top("networks")
    for network in declared.values():
        if driver := network.get("driver"):
            driver.choice("bridge", "overlay")
    members = {name: _members(service, declared) for name, service in project.services.items()}
    for one, other in combinations(members, 2):
        if members[one] and members[other] and not members[one] & members[other]:
            project.services[other].fail(
                f"{one} and {other} share no network in the file; a stack has one network here, "
                "on which they would meet: put both on one network, or make two stacks"
            )


def _members(service: Node, declared: Mapping[str, Node]) -> set[str]:
    if service.get("network_mode"):
        return set()
    networks = service.get("networks")
    if networks is None:
        return {"default"}
    for name, node in networks.mapping().items():
        if name != "default" and name not in declared:
            node.fail(f"there is no network {name!r} at the top level of the file")
    return set(networks.mapping())


def _check_cycles(project: Project) -> None:
    waits = {name: _dependencies(s) & set(project.services) for name, s in project.services.items()}
    free: set[str] = set()
    while ready := {name for name in waits if name not in free and waits[name] <= free}:
        free |= ready
    if stuck := [name for name in waits if name not in free]:
        project.services[stuck[0]].fail(f"{', '.join(stuck)} wait for each other: none could start")


def _dependencies(service: Node) -> set[str]:
    depends = service.get("depends_on")
    return set(depends.mapping()) if depends else set()
