"""How PyTorch's threads wait for each other: awake for a moment, and then asleep.

A product of matrices is shared among threads, and whichever ends first waits for the others, many
thousand times a second. On Linux the threads are libgomp's, which lets them spin: they stay awake
and look again and again for a good 10 milliseconds before they sleep. A spinning thread goes on at
once, and harms nobody while the machine is otherwise idle. Beside any other busy process it is a
disaster: a thread holds its core by waiting for another that waits for this very core, and work
takes ten times as long (book/speed.md). So here they spin for a fraction of a millisecond only.
"""

import os

LOOKS = 10_000
"""How often a waiting thread looks before it sleeps: some 0.5 milliseconds. By itself libgomp has
300,000."""
SAID_BY_THE_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""Variables that say how threads wait; where one is set, nothing is changed."""


def wait_briefly() -> None:
    """Have waiting threads sleep soon, in this process and those that it starts.

    libgomp reads the variable once, when torch is loaded, so this has to come before.
    """
    if not any(name in os.environ for name in SAID_BY_THE_USER):
        os.environ["GOMP_SPINCOUNT"] = str(LOOKS)
