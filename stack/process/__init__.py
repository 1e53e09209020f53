"""Child processes: started, proved ready, stopped, and never left behind.

Start reading in `process.py`: a `Program` says what to run, a `Process` is one that runs. The other
modules are what it needs: the kernel's death signal (`parent_death.py`), the processes below a
process (`process_tree.py`), the account of a server, the question whether it is ready, and work
that no cancellation interrupts. A child ends when we end, also by a kill -9 of us, as long as the
main thread started it. Nothing here knows what a server does, and all of it runs on Linux only.
"""
