"""The bench: what is measured, and what each figure is held against.

Start reading in `__main__.py`, which lists the questions. Each question is one file with a function
`ask`, which returns figures; what the questions share is in `rig`. All parts run on one machine
and share its cores, so the ratios say more than the figures, and no figure is promised anywhere.
"""
