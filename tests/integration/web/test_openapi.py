"""OpenAPI (FD6): each status, its document and its headers stand there; the examples are true."""

from typing import Any

import pytest
from fastapi import FastAPI

from services.catalog.routes import routes
from services.catalog.views import Items, NewCatalog
from services.openapi import Problem
from services.problem import STATUS, TITLES, problem
from web.app import Mounted, create_app

STATUSES = {
    ("post", "/catalogs"): {201, 202, 400, 408, 409, 413, 415, 422, 500, 503},
    ("put", "/catalogs/{catalog_id}/items"): {200, 202, 404, 408, 413, 415, 422, 500, 503},
    ("delete", "/catalogs/{catalog_id}/items/{item_id}"): {
        200, 202, 404, 408, 413, 415, 422, 500, 503,
    },
    ("get", "/livez"): {200, 408, 413, 415, 500},
    ("get", "/readyz"): {200, 408, 413, 415, 500, 503},
}  # fmt: skip
READ = {200, 404, 408, 413, 415, 422, 500, 503}


@pytest.fixture
def app() -> FastAPI:
    return create_app([Mounted("catalog", routes, None)], {})


@pytest.fixture
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method, path): operation
        for path, by_method in document["paths"].items()
        for method, operation in by_method.items()
    }


def test_each_operation_says_every_status_that_it_answers(document: dict[str, Any]) -> None:
    for at, operation in operations(document).items():
        assert {int(status) for status in operation["responses"]} == STATUSES.get(at, READ), at


def test_each_refusal_is_a_problem_document_with_true_examples(document: dict[str, Any]) -> None:
    seen = set()
    for (_, path), operation in operations(document).items():
        for status, response in operation["responses"].items():
            if int(status) < 400 or (path == "/readyz" and status == "503"):
                continue
            [(media_type, content)] = response["content"].items()
            assert media_type == "application/problem+json"
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            for reason, example in content["examples"].items():
                said = Problem.model_validate(example["value"], strict=True, extra="forbid")
                answered = problem(reason, instance="/path")
                assert said.status == answered.status_code == int(status)
                assert (said.type.rpartition(":")[2], said.title) == (reason, TITLES[reason])
                seen.add(reason)
    nowhere = {"not-http", "method-not-allowed"}  # belong to no operation
    assert seen >= STATUS.keys() - nowhere


def test_nothing_of_fastapis_own_errors_is_left(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in str(document)
    assert {"Problem", "BrokenRule"} <= document["components"]["schemas"].keys()


def test_headers_are_declared_where_they_are_read_and_sent(document: dict[str, Any]) -> None:
    for (method, path), operation in operations(document).items():
        read = {each["name"]: each for each in operation.get("parameters", [])}
        for each in read.values():
            assert {"type": "null"} not in each["schema"].get("anyOf", [])
        if path in {"/livez", "/readyz"}:
            continue
        assert not read["traceparent"]["required"]
        assert "pattern" not in read["traceparent"]["schema"]  # a broken one is no error
        writes = method in {"post", "put", "delete"}
        assert ("Idempotency-Key" in read, "prefer" in read) == (writes, writes)
        assert read.get("Idempotency-Key", {"required": False})["required"] is (method == "post")
        assert operation["responses"]["503"]["headers"]["Retry-After"]["required"]
        if writes:
            assert "Preference-Applied" in operation["responses"]["202"]["headers"]
    created = document["paths"]["/catalogs"]["post"]["responses"]["201"]
    assert created["headers"]["Location"]["required"]


def test_a_body_says_what_strict_json_refuses(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for schema in (schemas["NewCatalog"], schemas["Items"], schemas["Item"]):
        assert schema["additionalProperties"] is False
    for name in ("name", "text"):
        assert schemas["Item"]["properties"][name]["pattern"] == r"^[^\u0000]*$"
    attributes = schemas["Item"]["properties"]["attributes"]
    assert attributes["additionalProperties"] is False
    [values] = attributes["patternProperties"].values()
    assert values["anyOf"][0]["pattern"] == r"^[^\u0000]*$"
    read = {each["name"]: each["schema"] for each in
            document["paths"]["/catalogs/{catalog_id}/search"]["get"]["parameters"]}  # fmt: skip
    assert (read["limit"]["minimum"], read["limit"]["maximum"]) == (1, 100)
    assert (read["offset"]["minimum"], read["offset"]["maximum"]) == (0, 10_000)
    assert read["where"]["items"]["pattern"].startswith("^[a-z]")


def test_examples_of_bodies_are_taken(document: dict[str, Any]) -> None:
    for model in (NewCatalog, Items):
        for example in document["components"]["schemas"][model.__name__]["examples"]:
            model.model_validate(example)


def test_the_document_is_the_same_each_time_it_is_asked_for(app: FastAPI) -> None:
    assert str(app.openapi()) == str(app.openapi())
