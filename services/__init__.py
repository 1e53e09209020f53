"""The services: one folder for each, all of the same shape, and the few modules that they share.

Start with `catalog`, which is the one service today, and with `assembly`, which puts a service
together from settings. `dispatcher` runs a command once, wherever it came from. `problem`,
`openapi`, `methods`, `parameters`, `prefer_wait` and `trace` are what routes need; the HTTP server
itself is in `web`. Services never import each other, and know no projection: a search store is only
read here, and `consumers` writes it.
"""
