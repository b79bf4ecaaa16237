"""A bounded cache of decoded sources and rendered media.

The cache keeps the most recently used values up to a limit in bytes. A single value over the limit is kept too, because
the caller has it in memory anyway.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

from PIL import Image

Value = TypeVar("Value")


class BoundedCache(Generic[Value]):
    """A least-recently-used cache with a limit on the total size of its values. Threads may share one.

    Args:
        max_bytes: the limit in bytes; 0 keeps only the last value.
        size_of: size of a value in bytes.

    >>> cache = BoundedCache(max_bytes=10, size_of=len)
    >>> [cache.get(key, lambda key=key: key * 4) for key in "abc"]
    ['aaaa', 'bbbb', 'cccc']
    >>> len(cache)
    2
    """

    def __init__(self, max_bytes: int, size_of: Callable[[Value], int]) -> None:
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of `key`, which `make` creates if it is not in the cache."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()  # without the lock, so that threads can create different values at once
        with self._lock:
            if key in self._values:  # another thread was faster
                return self._values[key]
            self._values[key] = value
            self._bytes += self._size_of(value)
            while self._bytes > self._max_bytes and len(self._values) > 1:
                _, dropped = self._values.popitem(last=False)
                self._bytes -= self._size_of(dropped)
        return value

    def clear(self) -> None:
        """Remove all values."""
        with self._lock:
            self._values.clear()
            self._bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def __reduce__(self) -> tuple[type[BoundedCache[Value]], tuple[int, Callable[[Value], int]]]:
        # A copy in another process starts empty, because sending pixels is slower than decoding them.
        return (type(self), (self._max_bytes, self._size_of))


def picture_cache() -> BoundedCache[Image.Image]:
    """A cache of RGB pictures."""
    return BoundedCache(128 * 2**20, lambda picture: 3 * picture.width * picture.height)
