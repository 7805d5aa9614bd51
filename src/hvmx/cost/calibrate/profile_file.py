"""The file of a calibrated profile: the base's content, with what was measured in its place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from .bench import Finding
from .classes import sized_of

_SOURCE = "calibrate"
_HEAD = """\
# Measured by hvmx calibrate on this processor, and the figures of the profile {base} where that could not be
# (their marks and sources say so). What the keys mean is explained in hvmx's skylake.toml.
"""


def profile_text(
    base_name: str, base: Mapping[str, Any], processor: str, source: str, findings: Iterable[Finding]
) -> str:
    """The TOML of the new profile. What it holds of the base is unchanged, but for comments and layout."""
    content = {name: dict(value) if isinstance(value, Mapping) else value for name, value in base.items()}
    content["processor"] = processor
    key = _free(_SOURCE, content["sources"])
    content["sources"][key] = source
    for finding in findings:
        table, _, name = finding.key.partition(".")
        entries = content[table]
        before = entries[name] if name in entries else entries[sized_of(name)]
        entries[name] = {
            **before,
            **finding.values,
            "mark": "measured",
            "source": key,
            "where": finding.where,
        }
    return _HEAD.format(base=base_name) + _toml(content)


def _free(name: str, taken: Iterable[str]) -> str:
    """The name, or it with a number: the base may be a calibrated profile itself."""
    names, number = set(taken), 1
    while (free := name if number == 1 else f"{name}-{number}") in names:
        number += 1
    return free


def _toml(content: Mapping[str, Any]) -> str:
    plain = [f"{name} = {_value(value)}" for name, value in content.items() if not isinstance(value, Mapping)]
    tables = [
        "\n".join([f"[{name}]", *(f"{key} = {_value(entry)}" for key, entry in value.items())])
        for name, value in content.items()
        if isinstance(value, Mapping)
    ]
    return "\n\n".join(["\n".join(plain), *tables]) + "\n"


def _value(value: Any) -> str:
    """A value as TOML has it; a text is as in JSON."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_value(item)}" for name, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if isinstance(value, bool) else repr(value)
