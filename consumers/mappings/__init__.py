"""Mappings: what a service's events look like in the secondary stores, one file a service.

Start with `catalog.py`: it says which point and which nodes a catalog's event becomes, and builds
the projections and generations of the catalog from that. A mapping is a pure function of a change,
so that a rebuild ends where the live store is. Nothing here talks to a store, and no service is
imported: only the events in `schemas` are known.
"""
