"""Public helpers for those who test a projection of their own.

Give each function of `conformance.PROMISES` an empty, prepared projection and a
`sample.Sample` of the events that it follows; it raises `BrokenPromise` where the projection does
not keep the promise. `sample.catalog_items()` is a ready sample for stores that follow the
catalog's items, and `memory.MemoryProjection` the simplest projection that keeps every promise.
docs/projections.md shows a complete example under pytest:

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    async def test_my_store_keeps(promise: Promise) -> None:
        async with my_empty_store() as projection:
            await promise(projection, catalog_items())

The checks see what `scan` and `versions` return. They do not take a server away, and do not look at
what else a store makes of an event: test both yourself.
"""
