"""What the C library does with memory that was freed."""

import ctypes
import sys

M_MMAP_THRESHOLD = -3
LARGE = 1024 * 1024


def give_large_blocks_back() -> None:
    """Let large blocks that are freed go back to the machine at once (Linux with glibc; elsewhere nothing happens).

    By default the first ones that are freed teach glibc to keep blocks of their size for each thread, up to 32 MB: what
    a password hash uses would then stay, once for each thread of a web process that ever hashed one.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, LARGE)
