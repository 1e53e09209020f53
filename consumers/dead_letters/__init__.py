"""Dead letters: messages that a consumer could not apply, and the messages that wait behind them.

Start with `store.py` (what a consumer writes and reads) and `redelivery.py` (the interface that a
runner sees). `listing.py`, `repair.py` and `outcome.py` are what an operator uses: to look at
letters, to retry, discard or prune them, and to learn what became of them.
The package promises that a letter keeps its original bytes and that the order of a key holds
through retries. It does not promise that a letter is applied only once.
"""
