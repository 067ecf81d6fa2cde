"""Many who ask the same thing at the same time get one answer."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    """The first who asks does the work; whoever asks meanwhile waits for the same outcome."""

    def __init__(self) -> None:
        self._flights: dict[K, asyncio.Future[T]] = {}

    async def do(self, key: K, work: Callable[[], Awaitable[T]]) -> T:
        if flight := self._flights.get(key):
            return await asyncio.shield(flight)
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        try:
            result = await work()
        except Exception as error:
            flight.set_exception(error)
            flight.exception()  # raised below; perhaps nobody else waits
            raise
        except BaseException:
            flight.cancel()
            raise
        else:
            flight.set_result(result)
            return result
        finally:
            del self._flights[key]
