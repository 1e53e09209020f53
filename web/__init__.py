"""The HTTP server: it puts the services' routes on a port, and ends without losing a request.

Start with `app`, which makes the application from the services, and `server`, which runs it.
Around the routes stand, from the outside in: `target`, `draining`, `traced`, methods (in services)
and `strict_body`; `header_timeout` limits the connection itself. It promises that every request is
answered or ended within limits, that every refusal is a problem document, and that requests which
were accepted before SIGTERM are answered. It does not serve TLS, and knows no users.
"""
