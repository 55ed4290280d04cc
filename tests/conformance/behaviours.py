"""Which calls a worker has to show a behaviour with: a JSON file of its own; see README.md."""
import json
import pathlib

NAMES = {"value", "effect", "slow", "bytes", "permanent", "transient", "deferred"}


class Missing(Exception):
    """The file does not say how this worker shows it."""


def filled(template, values):
    """The template with {name} replaced: by the value itself where a text is nothing else."""
    if isinstance(template, dict):
        return {key: filled(value, values) for key, value in template.items()}
    if isinstance(template, list):
        return [filled(value, values) for value in template]
    if not isinstance(template, str):
        return template
    for name, value in values.items():
        if template == "{" + name + "}":
            return value
        template = template.replace("{" + name + "}", str(value))
    return template


class Behaviours:
    def __init__(self, path=None):
        content = json.loads(pathlib.Path(path).read_text()) if path else {}
        self.environment = content.get("environment", {})
        self.of = content.get("behaviours", {})
        if unknown := set(content) - {"environment", "behaviours"} | set(self.of) - NAMES:
            raise ValueError(f"{path}: what is {', '.join(sorted(unknown))}?")

    def never(self, name):
        """The file says that the worker does not do this, with null."""
        return name in self.of and self.of[name] is None

    def call(self, name, **values):
        """(call, with)"""
        if self.of.get(name) is None:
            raise Missing(f"no behaviour '{name}'")
        return self.of[name]["call"], filled(self.of[name].get("with", {}), values)

    def error(self, name):
        """Fields that the error of this behaviour has."""
        return self.of[name].get("error", {})
