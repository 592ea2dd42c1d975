"""An OpenAPI document as a validator."""

from typing import Any

from jsonschema_rs import Draft202012Validator


class Schemas:
    """The schemas of an OpenAPI document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def resolve(self, reference: str) -> dict[str, Any]:
        """The schema that ``#/components/schemas/...`` names."""
        found: dict[str, Any] = self._document["components"]["schemas"][reference.rpartition("/")[2]]
        return found

    def answer(self, path: str, method: str, status: int) -> dict[str, Any]:
        """The schema of an answer; KeyError where none is described."""
        found: dict[str, Any] = self._document["paths"][path][method]["responses"][str(status)]
        schema: dict[str, Any] = found["content"]["application/json"]["schema"]
        return schema

    def faults(self, value: Any, schema: dict[str, Any]) -> list[str]:
        """Where ``value`` does not meet ``schema``."""
        validator = Draft202012Validator({**schema, "components": self._document["components"]})
        return [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(value)]

    def undescribed(self, value: Any, schema: dict[str, Any], at: str = "$") -> list[str]:
        """The fields of ``value`` that ``schema`` does not name; what is below a free object is not looked at."""
        if "$ref" in schema:
            return self.undescribed(value, self.resolve(schema["$ref"]), at)
        if "allOf" in schema and "properties" not in schema:
            return self.undescribed(value, schema["allOf"][0], at)
        if "anyOf" in schema:
            return min((self.undescribed(value, option, at) for option in schema["anyOf"]), key=len)
        found: list[str] = []
        if isinstance(value, dict):
            if "properties" not in schema:
                return [] if schema.get("type") == "object" else [at]
            for name, inner in value.items():
                described = schema["properties"].get(name)
                found += [f"{at}.{name}"] if described is None else self.undescribed(inner, described, f"{at}.{name}")
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                found += self.undescribed(inner, schema.get("items", {}), f"{at}[{index}]")
        return found
