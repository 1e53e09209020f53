"""The drift drill: two stores are broken on purpose while writers go on, then checked and repaired.

Start reading in `drill.py`, which goes through the steps. `planting.py` breaks the stores,
`contents.py` reads all that they hold, `traffic.py` writes meanwhile, and `outcome.py` says what
came of it. A drill is right only if the check found exactly what was planted, the repair left none
of it, and everything else is what it was before. It does not say how fast a check is on other
machines, and it knows the catalog's items only.
"""
