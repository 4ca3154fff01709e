"""Whether every example of an OpenAPI document is valid by its own schema, and each schema a schema (2020-12).

Usage: examples.py DOCUMENT
"""

import json
import sys

import jsonschema_rs


def carriers(node, path=""):
    """Everything that has a schema and examples of it: (where, schema, [example, …])."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from carriers(item, f"{path}/{index}")
    elif isinstance(node, dict):
        examples = [node["example"]] if "example" in node else []
        named = node.get("examples", {})
        examples += [named_one["value"] for named_one in named.values()] if isinstance(named, dict) else named
        if "schema" in node and examples:
            yield path, node["schema"], examples
        elif examples:
            # A schema with examples of its own, or a place that this does not know: neither goes unseen.
            yield path, {key: value for key, value in node.items() if key not in ("example", "examples")}, examples
        for key, value in node.items():
            if key not in ("example", "examples"):
                yield from carriers(value, f"{path}/{key}")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        document = json.load(file)
    faults = []
    for name, schema in document["components"]["schemas"].items():
        try:
            jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
        except jsonschema_rs.ValidationError as error:
            faults.append(f"schema {name}: {error}")
    count = 0
    for where, schema, examples in carriers(document):
        # References in it lead into the whole document.
        whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", "components": document["components"],
                 "allOf": [schema]}
        validator = jsonschema_rs.validator_for(whole)
        for example in examples:
            count += 1
            faults += [f"{where}: {error.message}" for error in validator.iter_errors(example)]
    # An operation with a JSON body or answer and no example would pass unseen.
    for path, item in document["paths"].items():
        for method, operation in item.items():
            contents = [operation.get("requestBody", {}).get("content", {})]
            contents += [answer.get("content", {}) for status, answer in operation["responses"].items() if status < "300"]
            for content in contents:
                media = content.get("application/json")
                if media and "$ref" in str(media.get("schema")) and not {"example", "examples"} & media.keys():
                    faults.append(f"{method} {path}: JSON without an example")
    print("\n".join(faults + [f"{count} examples, {len(faults)} faults"]))
    return 1 if faults or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
