"""FD7: against an independent validator, with drawn schemas and documents."""

import json

import jsonschema_rs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.compatibility.alternatives import SchemaNode
from schemas.compatibility.inclusion import Comparison
from tests.kit.schemas.schema_drawing import Schema, changed, closed, documents, schemas

QUICK = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@QUICK
@given(st.data(), schemas())
def test_a_document_that_the_reader_refuses_is_always_foreseen(
    data: st.DataObject, writer: Schema
) -> None:
    """Against an independent validator: no change passes that breaks a drawn document."""
    reader = data.draw(changed(writer))
    found = Comparison(lossless=False).find_refusals(
        SchemaNode(writer, writer), SchemaNode(reader, reader)
    )
    writes = jsonschema_rs.validator_for(closed(writer))
    reads = jsonschema_rs.validator_for(reader)
    for _ in range(8):
        document = data.draw(documents(writer, writer))
        if writes.is_valid(document) and not reads.is_valid(document):
            assert found, document


@QUICK
@given(schemas())
def test_a_schema_breaks_no_document_of_its_own(schema: Schema) -> None:
    """Also where its text differs; a `oneOf` with arms that overlap cannot be told."""
    other = json.loads(json.dumps(schema))
    other["$defs"]["Other"] = {}
    found = Comparison(lossless=True).find_refusals(
        SchemaNode(schema, schema), SchemaNode(other, other)
    )
    assert all(refusal.keyword == "oneOf" for refusal in found)
