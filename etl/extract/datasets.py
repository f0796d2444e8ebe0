"""Dataset definitions, and what a service model says about their operations.

Built-in definitions are data (datasets.yaml); the configuration adds its own. Everything else about an operation is
read from the botocore service model: nothing here knows a service.
"""

import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from botocore import xform_name
from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.model import OperationModel, Shape
from botocore.session import Session
from ruamel.yaml import YAML

from etl.errors import ConfigError
from etl.model import Dataset, Kind, Member, Operation

_PROTOCOLS = ("json", "rest-json")
"""Those whose bodies are JSON."""
_KEY_KINDS = {"string", "integer", "long", "boolean", "timestamp", "blob"}

MODELS = resources.files("etl.extract") / "service_models"
_KINDS: Mapping[str, Kind] = {
    "string": "string", "character": "string", "integer": "integer", "long": "long", "float": "float",
    "double": "double", "boolean": "boolean", "timestamp": "timestamp", "blob": "blob",
    "structure": "structure", "map": "map", "list": "list",
}  # fmt: skip


def model_session() -> Session:
    """Return a botocore session that also finds the service models of this package, after those of botocore."""
    session = Session()
    session.get_component("data_loader").search_paths.append(str(MODELS))
    return session


def builtin_datasets() -> dict[str, Dataset]:
    """Return the definitions that come with the package, by name."""
    text = (resources.files("etl.extract") / "datasets.yaml").read_text(encoding="utf-8")
    return {entry["name"]: Dataset.model_validate(entry) for entry in YAML(typ="safe", pure=True).load(text)}


def select_datasets(wanted: Iterable[str | Dataset]) -> dict[str, Dataset]:
    """Return the wanted datasets and the parents that their slices come from, parents first.

    Raises:
        ConfigError: a name is not known, or parents form a circle.
    """
    wanted = list(wanted)
    known = builtin_datasets() | {entry.name: entry for entry in wanted if isinstance(entry, Dataset)}
    selected: dict[str, Dataset] = {}

    def add(name: str, children: tuple[str, ...]) -> None:
        if name not in known:
            raise ConfigError(f"datasets: {name!r} is not defined; known are {', '.join(known)}")
        if name in children:
            raise ConfigError(f"datasets: for_each goes in a circle: {' -> '.join((*children, name))}")
        parent = known[name].for_each
        if parent:
            add(parent.dataset, (*children, name))
        selected.setdefault(name, known[name])

    for entry in wanted:
        add(entry if isinstance(entry, str) else entry.name, ())
    return selected


def describe_operation(session: Session, dataset: Dataset) -> Operation:
    """Return what the service model says about a dataset's operation.

    Raises:
        ConfigError: no such service or operation, or it cannot be exported; says why.
    """
    where = f"dataset {dataset.name}"
    try:
        service_model = session.get_service_model(dataset.service)
        paginators = session.get_paginator_model(dataset.service)
    except (UnknownServiceError, DataNotFoundError):
        raise ConfigError(f"{where}: botocore has no service {dataset.service!r}; `aws help` lists the names") from None
    names = {xform_name(name): name for name in service_model.operation_names}
    if dataset.operation not in names:
        raise ConfigError(f"{where}: {dataset.service} has no operation {dataset.operation!r}")
    model = service_model.operation_model(names[dataset.operation])
    try:
        pagination = paginators.get_paginator(model.name)
    except ValueError:
        raise ConfigError(
            f"{where}: {model.name} has no paginator in botocore; it returns one page, with no token"
        ) from None
    if service_model.resolved_protocol not in _PROTOCOLS:
        speaks = f"{dataset.service} speaks {service_model.resolved_protocol}"
        raise ConfigError(f"{where}: {speaks}; supported are {' and '.join(_PROTOCOLS)}")
    keys = [_only(pagination[name]) for name in ("result_key", "output_token", "input_token")]
    result_member, token_member, input_token = keys
    if not result_member or not token_member or not input_token:
        raise ConfigError(f"{where}: {model.name} returns several lists or tokens; that is not supported")
    record = _record(model, result_member, where)
    _check_columns(dataset, record)
    not_parameters = {input_token, pagination.get("limit_key")}
    return Operation(
        service=dataset.service,
        name=model.name,
        api_version=service_model.api_version,
        result_key=_wire_name(model, result_member),
        token_key=_wire_name(model, token_member),
        result_member=result_member,
        token_member=token_member,
        input_token=input_token,
        record=record,
        parameters=tuple(name for name in model.input_shape.members if name not in not_parameters),
        documentation=_plain(model.documentation),
    )


def parameter_names(operation: Operation, filters: Mapping[str, str]) -> dict[str, str]:
    """Return the filters that an operation knows, under the names of its parameters: created_by -> createdBy."""
    names = {xform_name(name): name for name in operation.parameters}
    return {names[name]: value for name, value in filters.items() if name in names}


def _record(model: OperationModel, result_member: str, where: str) -> Member:
    """Return the structure of one item of the result list."""
    result = model.output_shape.members.get(result_member)
    if result is None or result.type_name != "list" or result.member.type_name != "structure":
        raise ConfigError(f"{where}: {model.name} returns no list of structures in {result_member!r}; not supported")
    return _member(result.member, _wire_name(model, result_member), ())


def _wire_name(model: OperationModel, member: str) -> str:
    """Return the name of a member of the response in its body: MediaLive's Channels are `channels` there."""
    shape = model.output_shape.members.get(member)
    return str(shape.serialization.get("name", member)) if shape is not None else member


def _member(shape: Shape, api_name: str, above: tuple[str, ...]) -> Member:
    """Return the neutral form of a shape, with all that lies below it."""
    kind = _KINDS.get(shape.type_name)
    empty = shape.type_name == "structure" and not shape.members
    if kind is None or shape.name in above or empty or getattr(shape, "is_document_type", False):
        kind = "document"
    above = (*above, shape.name) if kind == "structure" else above
    members: tuple[Member, ...] = ()
    element = None
    if kind == "structure":
        members = tuple(
            _member(child, child.serialization.get("name", name), above) for name, child in shape.members.items()
        )
    elif kind == "list":
        element = _member(shape.member, "element", above)
    elif kind == "map":
        element = _member(shape.value, "value", above)
    return Member(
        name=xform_name(api_name),
        api_name=api_name,
        kind=kind,
        members=members,
        element=element,
        enum=tuple(shape.metadata.get("enum", ())),
        minimum=shape.metadata.get("min"),
        maximum=shape.metadata.get("max"),
        sensitive=bool(shape.metadata.get("sensitive")),
        documentation=_plain(shape.documentation),
    )


def _check_columns(dataset: Dataset, record: Member) -> None:
    """Refuse a key or order column that the records do not have at their top level, or of a type that does not do."""
    kinds = {member.name: member.kind for member in record.members}
    for column in (*dataset.key, *([dataset.order_by] if dataset.order_by else [])):
        if column not in kinds:
            raise ConfigError(
                f"dataset {dataset.name}: key or order_by names {column!r}; the records have {', '.join(sorted(kinds))}"
            )
    for column in dataset.key:
        if kinds[column] not in _KEY_KINDS:
            found = f"{column!r}, a {kinds[column]}"
            raise ConfigError(f"dataset {dataset.name}: key names {found}; expected a plain value")
    if dataset.order_by and kinds[dataset.order_by] != "timestamp":
        found = f"{dataset.order_by!r}, a {kinds[dataset.order_by]}"
        raise ConfigError(f"dataset {dataset.name}: order_by names {found}; expected a timestamp: the newest wins")


def _only(value: Any) -> str | None:
    """Return the one simple name in a paginator's setting; None where there are several, or a path."""
    values = _as_list(value)
    return values[0] if len(values) == 1 and re.fullmatch(r"\w+", values[0]) else None


def _as_list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _plain(documentation: str) -> str:
    """Return the HTML of a service model as one line of text."""
    return " ".join(re.sub(r"<[^>]+>", "", documentation or "").split())
