"""As much of JSON Schema as an OpenAPI document made by msgspec has in it."""

import re
from typing import Any

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "number": (int, float),
    "integer": int,
}
_KNOWN = {
    "$ref", "anyOf", "type", "enum", "properties", "required", "items", "minLength", "maxLength", "pattern",
    "additionalProperties", "title", "description", "default",
}  # fmt: skip


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

    def faults(self, value: Any, schema: dict[str, Any], at: str = "$") -> list[str]:
        """Where ``value`` does not meet ``schema``."""
        assert set(schema) <= _KNOWN, f"nothing here checks {set(schema) - _KNOWN}"
        if "$ref" in schema:
            return self.faults(value, self.resolve(schema["$ref"]), at)
        if "anyOf" in schema:
            found = [self.faults(value, option, at) for option in schema["anyOf"]]
            return [] if [] in found else [f"{at}: none of {len(found)} forms: {found}"]
        if "enum" in schema:
            return [] if value in schema["enum"] else [f"{at}: {value!r} is none of {schema['enum']}"]
        kind = schema.get("type")
        if kind and (
            not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind in ("number", "integer"))
        ):
            return [f"{at}: {value!r} is no {kind}"]
        if isinstance(value, str) and not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**9):
            return [f"{at}: {len(value)} characters"]
        if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
            return [f"{at}: {value!r} is not like {schema['pattern']}"]
        found = [[f"{at}: no {name}"] for name in schema.get("required", ()) if name not in value]
        if isinstance(value, dict):
            properties = schema.get("properties", {})
            found += [
                self.faults(value[name], properties[name], f"{at}.{name}") for name in value if name in properties
            ]
        if isinstance(value, list) and "items" in schema:
            found += [self.faults(inner, schema["items"], f"{at}[{index}]") for index, inner in enumerate(value)]
        return [fault for faults in found for fault in faults]

    def undescribed(self, value: Any, schema: dict[str, Any], at: str = "$") -> list[str]:
        """The fields of ``value`` that ``schema`` does not name; what is below a free object is not looked at."""
        if "$ref" in schema:
            return self.undescribed(value, self.resolve(schema["$ref"]), at)
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
