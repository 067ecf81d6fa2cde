"""What can go wrong with a store's file. Every message says what to do about it.

StoreError                503 to a client, since the request itself was fine
├── CannotOpen            the server should say so and stop
│   ├── Damaged           the file is not a database, or a broken one
│   ├── NewerFormat       a newer Sampan wrote it
│   ├── NotWritable       the directory or file cannot be written
│   └── InUse             another process has it open
├── WriteFailed           nothing was written; trying again may help
│   └── DiskFull
└── Closed                the server is shutting down
"""

from sampan.api.errors import ServiceUnavailable


class StoreError(ServiceUnavailable):
    @property
    def reason(self) -> str:
        return ServiceUnavailable.__name__


class CannotOpen(StoreError):
    retryable = False


class Damaged(CannotOpen):
    pass


class NewerFormat(CannotOpen):
    pass


class NotWritable(CannotOpen):
    pass


class InUse(CannotOpen):
    pass


class WriteFailed(StoreError):
    pass


class DiskFull(WriteFailed):
    pass


class Closed(StoreError):
    pass
