"""The worker: claims runs, has each executed by a child process, and does its share of the clock's work.

`loop.py` is the worker's one thread, `children.py` its child processes, `execution.py` what happens inside one.
"""
