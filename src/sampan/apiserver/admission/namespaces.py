"""Nothing is created in a namespace that is not there, or on its way out."""

from sampan.api import kinds
from sampan.api.errors import Cause, Forbidden
from sampan.apiserver.admission.attempt import Attempt
from sampan.apiserver.problems import not_found
from sampan.apiserver.reading import Reader


async def check_namespace(reader: Reader, attempt: Attempt) -> None:
    found = await reader.find(kinds.NAMESPACES, "", attempt.namespace)
    if found is None:
        raise not_found(kinds.NAMESPACES, attempt.namespace)
    if found.object["metadata"].get("deletionTimestamp"):
        raise terminating(attempt)


def terminating(attempt: Attempt) -> Forbidden:
    namespace = attempt.namespace
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    error = attempt.refused(why)
    cause = Cause("NamespaceTerminating", f"namespace {namespace} is being terminated",
                  "metadata.namespace")  # fmt: skip
    return Forbidden(error.message, causes=(cause,), details=error.details)
