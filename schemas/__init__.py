"""Every message that crosses a process: its type, its limits, and how it looks on the wire.

Start with `envelope`: it defines Message, Command, Event and the Envelope around them. `catalog`
has the messages of the catalog service, and `registry` finds the class of a type and parses its
payload. `strict_json` and `limits` say what every reader and writer accepts, `wire` turns an
envelope into a Kafka record and back, and `compatibility` refuses changes that break somebody.
Nothing here does I/O, except `python -m schemas`, which writes and checks the files in `json/`.
"""
