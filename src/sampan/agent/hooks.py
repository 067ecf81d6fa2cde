"""Lifecycle hooks: what a container is asked to do after its start and before its end."""

import asyncio

from sampan.agent.handlers import Target, connect, get, run_command
from sampan.agent.runtime import Runtime
from sampan.agent.spec import Handler


async def run_hook(runtime: Runtime, target: Target, hook: Handler, limit: float) -> str:
    """Run it for at most *limit* seconds (0 is for ever); return what went wrong, or ""."""
    try:
        async with asyncio.timeout(limit or None):
            return await _run(runtime, target, hook, limit)
    except TimeoutError:
        return f"not finished within {limit:g}s"
    except (OSError, LookupError) as error:
        return str(error)


async def _run(runtime: Runtime, target: Target, hook: Handler, limit: float) -> str:
    if hook.sleep:
        await asyncio.sleep(hook.sleep.seconds)
    elif hook.exec:
        answer = await run_command(runtime, target, hook.exec, limit)
        return "" if answer.ok else answer.message
    elif hook.http_get:
        answer = await get(target, hook.http_get)
        return "" if answer.ok else answer.message
    elif hook.tcp_socket:
        await connect(target, hook.tcp_socket)
    return ""
