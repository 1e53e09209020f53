"""The demo: real data goes through every part of this project, and then the stores are compared.

Start reading in `demo.py`. `airports.py` is the data, `upstream.py` is a program that sends it as
commands to Kafka, and `report.py` prints the progress and the result. Every figure at the end is
counted in the store that it names. The demo shows that the parts agree; it measures no speed, and
on its default parts most servers are stand-ins.
"""
