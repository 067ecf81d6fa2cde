"""The container of a service: what runs, as whom, with which environment and limits."""

import re
import shlex
from typing import Any

from sampan.compose import units
from sampan.compose.document import Node
from sampan.compose.probes import probes_of
from sampan.compose.project import Project, read_dotenv

Object = dict[str, Any]
_PULL = {"always": "Always", "never": "Never", "missing": "IfNotPresent", "if_not_present": "IfNotPresent"}  # fmt: skip  # noqa: E501


def container_of(name: str, service: Node, project: Project) -> Object:
    image = service.get("image")
    if image is None:
        service.fail("`image` is missing")
    container: Object = {
        "name": name,
        "image": image.text(),
        "imagePullPolicy": _pull_policy(service),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **_command(service),
        **probes_of(service),
    }
    if env := _environment(service, project):
        container["env"] = env
    if directory := service.get("working_dir"):
        container["workingDir"] = directory.text()
    for key, field in (("tty", "tty"), ("stdin_open", "stdin")):
        if (flag := service.get(key)) and flag.flag():
            container[field] = True
    optional = {
        "resources": _resources(service),
        "securityContext": _security(service),
        "lifecycle": _hooks(service),
    }
    return container | {key: value for key, value in optional.items() if value}


def literal(text: str) -> str:
    """Keep Kubernetes from putting variables into *text*: Compose has done that already."""
    return re.sub(r"\$(?=[$(])", "$$", text)


def _pull_policy(service: Node) -> str:
    policy = service.get("pull_policy")
    return _PULL[policy.choice(*_PULL)] if policy else "IfNotPresent"


def _command(service: Node) -> Object:
    """Compose's entrypoint is Kubernetes' command, and its command are the arguments."""
    entrypoint, command = _words(service, "entrypoint"), _words(service, "command")
    if entrypoint == []:
        if not command:
            service.fail("an empty `entrypoint` needs a `command`")
        return {"command": command}
    given = {"command": entrypoint, "args": command}
    return {key: words for key, words in given.items() if words}


def _words(service: Node, key: str) -> list[str] | None:
    node = service.get(key)
    if node is None:
        return None
    if isinstance(node.value, list):
        return [literal(word) for word in node.texts()]
    try:
        return [literal(word) for word in shlex.split(node.text())]
    except ValueError as error:
        node.fail(f"a quotation is never closed ({error})")


def _environment(service: Node, project: Project) -> list[Object]:
    values: dict[str, str | None] = {}
    files = service.get("env_file")
    for file in files.sequence() if files else ():
        values |= _env_file(file, project)
    own = service.get("environment")
    for name, value in (own.mapping() if own else {}).items():
        values[name] = project.env.get(name) if value.empty else value.text()
    return [
        {"name": name, "value": literal(value)}
        for name, value in values.items()
        if value is not None
    ]


def _env_file(file: Node, project: Project) -> dict[str, str | None]:
    named, required = file, True
    if isinstance(file.value, dict):
        if not (path := file.get("path")):
            file.fail("`path` is missing")
        named, flag = path, file.get("required")
        required = flag is None or flag.flag()
    place = named.at.base / named.text()
    if not place.exists() and not required:
        return {}
    return read_dotenv(place, project.env, named.at)


def _resources(service: Node) -> Object:
    limits = {
        "cpu": service.get("deploy", "resources", "limits", "cpus") or service.get("cpus"),
        "memory": service.get("deploy", "resources", "limits", "memory")
        or service.get("mem_limit"),
    }
    reserved = {
        "cpu": service.get("deploy", "resources", "reservations", "cpus"),
        "memory": service.get("deploy", "resources", "reservations", "memory")
        or service.get("mem_reservation"),
    }
    amounts = {"limits": _amounts(limits), "requests": _amounts(reserved)}
    # a limit reserves nothing in Compose; Kubernetes would reserve all of it
    amounts["requests"] = dict.fromkeys(amounts["limits"], "0") | amounts["requests"]
    return {kind: each for kind, each in amounts.items() if each}


def _amounts(nodes: dict[str, Node | None]) -> dict[str, str]:
    read = {"cpu": units.cpus, "memory": units.size}
    return {name: read[name](node) for name, node in nodes.items() if node}


def _security(service: Node) -> Object:
    context: Object = {}
    if user := service.get("user"):
        context |= _user(user)
    for key, field in (("privileged", "privileged"), ("read_only", "readOnlyRootFilesystem")):
        if (flag := service.get(key)) and flag.flag():
            context[field] = True
    capabilities = {
        field: [name.upper().removeprefix("CAP_") for name in node.texts()]
        for key, field in (("cap_add", "add"), ("cap_drop", "drop"))
        if (node := service.get(key))
    }
    if capabilities:
        context["capabilities"] = capabilities
    options = service.get("security_opt")
    for option in options.sequence() if options else ():
        if option.text() not in {"no-new-privileges", "no-new-privileges:true"}:
            option.fail(f"{option.raw!r} is refused: only no-new-privileges is supported")
        context["allowPrivilegeEscalation"] = False
    return context


def _user(user: Node) -> Object:
    uid, colon, gid = user.text().partition(":")
    if not uid.isdigit() or (colon and not gid.isdigit()):
        user.fail(f"{user.raw!r} is refused: Kubernetes takes numbers only, UID or UID:GID")
    return {"runAsUser": int(uid), **({"runAsGroup": int(gid)} if colon else {})}


def _hooks(service: Node) -> Object:
    hooks: Object = {}
    for key, field in (("post_start", "postStart"), ("pre_stop", "preStop")):
        if not (node := service.get(key)):
            continue
        if len(node.sequence()) != 1 or not (command := node.sequence()[0].get("command")):
            node.fail("one hook with one `command` is possible, not more")
        words = (
            command.texts() if isinstance(command.value, list) else ["/bin/sh", "-c", command.raw]
        )
        hooks[field] = {"exec": {"command": words}}
    return hooks
