"""Schedule: an open loop does its work at set moments, whatever happened before."""

import time


def wait_until(moment: float) -> None:
    """Sleep until the monotonic clock shows `moment`; return at once if it is past."""
    while (left := moment - time.monotonic()) > 0:
        time.sleep(left)
