"""What is wrong with a configuration, in the words of its file: place, setting, found, expected."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from etl.config import ENV_PREFIX, Settings
from etl.errors import did_you_mean
from etl.model import Dataset

_OTHER_VARIABLES = {"LOG_LEVEL", "LOG_FORMAT", "DEBUG", "FAILPOINT", "WORKER_FAILPOINT"}
"""Variables that are read elsewhere; the last two serve developers."""
_SHOWN = 80
_CREDENTIALS = "credentials do not belong in the configuration; use the AWS credential chain"
_SECRET = re.compile(r"access_?key|secret|session_?token|password|credential", re.IGNORECASE)
_EXPECTED = {
    "tuple_type": "a list, such as [one, two]",
    "dict_type": "settings, such as `name: value`",
    "model_type": "settings, such as `name: value`",
    "model_attributes_type": "settings, such as `name: value`",
    "string_type": "text; put it in quotes",
    "string_unicode": "text in UTF-8",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "path_type": "a path",
    "time_delta_type": "a duration such as 90s, 15m, 3h or 1h30m",
    "time_delta_parsing": "a duration such as 90s, 15m, 3h or 1h30m",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
}
"""Kind of a mistake, as pydantic names it -> what is expected."""


_FLAGS = {"kind": "--engine"}
"""Setting -> its flag, where they have different names."""


def flag(name: str) -> str:
    """Return the flag of the command line that gives a setting."""
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")


def explain(
    exc: ValidationError,
    path: object,
    document: Mapping[str, Any],
    flags: Mapping[str, Any],
    named: Callable[[str], str] = flag,
) -> str:
    """Return one line for each mistake: place, setting, found, expected. Values that may be secret are left out.

    `document` is what the file at `path` holds, and `flags` what the command line gives, as nested settings. `named`
    returns what the one who gave them calls a flag.
    """
    sentences = []
    for error in exc.errors(include_url=False):
        if error["loc"][-1:] == ("str",) and not isinstance(error["input"], str):
            continue  # an entry of `datasets` is a name or a definition; this one is no name
        # pydantic adds the class of the definition to the location; it is not a key of the file.
        keys = [key for key in error["loc"] if key != Dataset.__name__]
        name = ".".join(str(key) for key in keys)
        if keys[-1] in flags.get(str(keys[0]), {}):
            sentences.append(f"{named(str(keys[-1]))}: {_found(error, keys)}")
            continue
        variable = variable_of(keys)
        where = f"environment {variable}" if variable else f"{path}, line {line_of(document, keys)}"
        sentences.append(f"{where}: {name}: {_found(error, keys)}")
    return "\n".join(dict.fromkeys(sentences))


def _found(error: Any, keys: list[Any]) -> str:
    """Return what one validation error found and what it expected."""
    if error["type"] == "extra_forbidden":
        if _SECRET.search(".".join(map(str, keys))):
            return _CREDENTIALS
        return f"is not a setting{did_you_mean(keys[-1], _names_beside(keys))}; `nimble-etl config schema` lists them"
    if error["type"] == "missing":
        return "is missing"
    value, expected = error["input"], _expected(error, keys)
    if error["type"] == "value_error" and _model_at(keys).model_fields:
        return expected  # settings that do not agree
    # A URL may hold a password before its @, or a token. URLs of health checks, arguments of commands, and properties
    # may be keys.
    may_be_secret = isinstance(value, str) and ("@" in value or "token=" in value or error["loc"][0] == "on_finish")
    if may_be_secret or (error["loc"][:2] == ("iceberg", "catalog") and not isinstance(value, Mapping | list)):
        return f"found text that may be secret, not repeated here; {expected}"
    if value is None:
        return f"found nothing; {expected}, or remove the line"
    if isinstance(value, str | int | float | bool):
        shown = repr(value)
        return f"found {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + ' …'}; {expected}"
    kind = "a mapping" if isinstance(value, Mapping) else "a list" if isinstance(value, list | tuple) else "a value"
    return f"found {kind}; {expected}"


def _expected(error: Any, keys: list[Any]) -> str:
    if error["type"] == "string_pattern_mismatch":
        field = _model_at(keys[:-1]).model_fields.get(str(keys[-1]))
        return f"expected {field.examples[0]}" if field and field.examples else plain(error["msg"])
    if error["type"] in _EXPECTED:
        return f"expected {_EXPECTED[error['type']].format(**error.get('ctx', {}))}"
    return plain(error["msg"])


def plain(message: str) -> str:
    """Return a message of pydantic, which also checks the values of flags, without its own words."""
    message = message.replace("Value error, ", "").replace("Input should be", "expected")
    message = message.replace("expected greater than or equal to", "expected at least")
    message = message.replace("expected less than or equal to", "expected at most")
    message = re.sub(r"a valid integer, .*", "a whole number", message)
    return re.sub(r"a valid number, .*", "a number", message)


def check_variables() -> Iterator[str]:
    """Yield a sentence for each environment variable of ours that sets nothing."""
    known = {name: f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    nested = [f"{known[part]}__{name.upper()}" for part in known for name in _model_at([part]).model_fields]
    others = [ENV_PREFIX + name for name in _OTHER_VARIABLES]
    for variable in sorted(os.environ):
        part = variable.upper().removeprefix(ENV_PREFIX).partition("__")[0].lower()
        is_ours = variable.upper().startswith(ENV_PREFIX) and variable.upper() not in others
        if is_ours and part not in known:
            last = variable.upper().removeprefix(ENV_PREFIX)
            near = [name for name in nested if name.endswith(f"__{last}")] or [*known.values(), *nested, *others]
            meant = did_you_mean(variable.upper(), near)
            yield f"environment {variable}: is not a setting{meant}; `nimble-etl config schema` lists them"


def _names_beside(keys: list[Any]) -> list[str]:
    return list(_model_at(keys[:-1]).model_fields)


def _model_at(keys: Iterable[Any]) -> type[BaseModel]:
    """Return the model of the settings below some keys; one without settings if there is none."""
    model: type[BaseModel] = Settings
    for key in keys:
        if not isinstance(key, int):  # an entry of a list has the model of the list
            field = model.model_fields.get(str(key))
            model = next(_models(field.annotation), BaseModel) if field else BaseModel
    return model


def has_settings(keys: Iterable[str]) -> bool:
    """Tell whether there are further settings below some keys."""
    return bool(_model_at(keys).model_fields)


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for inner in get_args(kind):
        yield from _models(inner)


def variable_of(keys: Iterable[Any]) -> str | None:
    """Return the environment variable that sets what is below some keys; None if none does."""
    there = {name.upper(): name for name in os.environ}
    names = [str(key).upper() for key in keys]
    variables = [ENV_PREFIX + "__".join(names[:count]) for count in range(len(names), 0, -1)]
    return next((there[variable] for variable in variables if variable in there), None)


def line_of(document: Any, keys: Iterable[Any]) -> int:
    """Return the line number, from 1, of the deepest of these nested keys that the file has."""
    line = 1
    with suppress(AttributeError, KeyError, IndexError, TypeError):
        for key in keys:
            line = (document.lc.item(key) if isinstance(key, int) else document.lc.key(key))[0] + 1
            document = document[key]
    return line
