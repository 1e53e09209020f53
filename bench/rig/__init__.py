"""The rig: servers, loads and small tools that the questions of the bench share.

Start reading in `rig.py`: a `Rig` has one PostgreSQL, and each question gets a new database and a
new broker from it. `effort.py` says how much a run does, and `figure.py` what a question answers.
Relay, consumers and writers run as processes of their own (`role_process.py`, `writer.py`), as in
production. The rig does not keep other programs off the machine: figures are only as steady as it.
"""
