"""Schedule: what an open loop does at set moments, whatever happened before."""

import time


def wait_until(moment: float) -> None:
    """Sleep until the monotonic clock shows `moment`; return at once where it is past."""
    while (left := moment - time.monotonic()) > 0:
        time.sleep(left)
