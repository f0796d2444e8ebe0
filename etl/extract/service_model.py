"""What botocore's service models say about operations. Nothing here knows a particular service."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib import resources
from typing import Any, get_args

from botocore import xform_name
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES as _VARIABLES
from botocore.exceptions import BotoCoreError, DataNotFoundError, UnknownServiceError
from botocore.loaders import Loader, create_loader
from botocore.model import OperationModel, ServiceModel, Shape
from botocore.parsers import ResponseParserError
from botocore.session import Session

from etl.errors import ConfigError, did_you_mean
from etl.extract.paging import Paging, UnsupportedError, listings, paging_of
from etl.extract.parsed import BODY_KEY, XML_PROTOCOLS
from etl.model import Dataset, Member, Operation, Pager, Paginate, ShapeKind, leaves

MODELS = resources.files("etl.extract") / "service_models"
_KINDS: Mapping[str, ShapeKind] = {kind: kind for kind in get_args(ShapeKind)} | {"character": "string"}


_PAGE_SIZE = 50
"""For requests that must say a page size of which the model does not know the largest."""


def model_session() -> Session:
    """Return a botocore session that also finds the service models of this package, after those of botocore.

    It is for whoever does not ask AWS: whatever the environment and the AWS configuration files say is not looked at,
    the directory of further service models apart.
    """
    unset = {name: (None, None, default, convert) for name, (_, _, default, convert) in _VARIABLES.items()}
    no_file = (None, None, os.devnull, None)
    session = Session(session_vars={**unset, "config_file": no_file, "credentials_file": no_file})
    data_path = os.environ.get("AWS_DATA_PATH")
    with suppress(BotoCoreError, OSError, ValueError):
        data_path = Session().get_config_variable("data_path")
    return _prepared(session, data_path)


def aws_session() -> Session:
    """Return the same for whoever asks AWS: it is configured as the operator's environment and files say.

    Raises:
        ConfigError: the profile that the environment names does not exist, or an AWS configuration file is invalid.
    """
    session = Session()
    try:
        data_path = session.get_config_variable("data_path")
    except (BotoCoreError, OSError, ValueError) as exc:
        raise ConfigError(f"AWS configuration: {exc}; see AWS_PROFILE, ~/.aws/config and ~/.aws/credentials") from exc
    return _prepared(session, data_path)


def _prepared(session: Session, data_path: str | None) -> Session:
    """Make a session find our models, and leave timestamps as they were sent: an invalid one would cost a page."""
    parsers = session.get_component("response_parser_factory")
    parsers.set_parser_defaults(timestamp_parser=lambda value: value)
    create_parser = parsers.create_parser
    parsers.create_parser = lambda protocol: _with_one_error(create_parser(protocol))
    session.register_component("data_loader", _loader(data_path))
    return session


def _with_one_error(parser: Any) -> Any:
    """Make a parser raise ResponseParserError for a body of wrong types: botocore lets any error of Python out."""
    parse = parser.parse

    def parse_strictly(response: Any, shape: Any) -> Any:
        try:
            return parse(response, shape)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as exc:
            kind = f"{type(exc).__name__}: {exc}"
            raise ResponseParserError(f"the body is not what the service model says: {kind}") from exc

    parser.parse = parse_strictly
    return parser


@cache
def _loader(data_path: str | None) -> Loader:
    """Return the reader of service models. It is kept because finding the files takes longer than reading them."""
    loader = create_loader(data_path)
    loader.search_paths.append(str(MODELS))
    return loader


def describe_operation(session: Session, dataset: Dataset) -> Operation:
    """Return what the service model says about a dataset's operation.

    Raises:
        ConfigError: there is no such service, operation or column, or the operation cannot be exported.
    """
    try:
        paging, model = dataset_paging(session, dataset)
        operation = _inspected(
            dataset.service, model, paging, dataset.result_key, may_miss_list=dataset.allow_missing_list
        )
    except UnsupportedError as exc:
        raise ConfigError(f"dataset {dataset.name}: {exc}") from None
    if dataset.page_size and not paging.definition.get("limit_key"):
        raise ConfigError(f"dataset {dataset.name}: page_size: {operation.name} takes no size of pages; leave it out")
    _check_columns(dataset, operation.record)
    return operation


def dataset_paging(session: Session, dataset: Dataset) -> tuple[Paging, OperationModel]:
    """Return how a dataset's operation pages, and its model.

    Raises:
        UnsupportedError: there is no such service or operation, or nobody says how it pages.
    """
    return _find(session, dataset.service, dataset.operation, dataset.result_key, dataset.paginate)


def inspect_operation(
    session: Session, service: str, name: str, result_key: str | None = None, *, may_miss_list: bool = False
) -> Operation:
    """Return what the service model says about an operation; service and operation have their names in boto3.

    `result_key` is a path to the list; None takes the first list that the paginator counts. With `may_miss_list`, a
    response without the list is an empty page.

    Raises:
        UnsupportedError: there is no such service or operation, or it cannot be exported.
    """
    paging, model = _find(session, service, name, result_key)
    return _inspected(service, model, paging, result_key, may_miss_list=may_miss_list)


def _find(
    session: Session, service: str, name: str, result_key: str | None, given: Paginate | None = None
) -> tuple[Paging, OperationModel]:
    service_model = _service_model(session, service)
    names = {xform_name(name): name for name in service_model.operation_names}
    if name not in names:
        raise UnsupportedError(f"{service} has no operation {name!r}{did_you_mean(name, names)}")
    model = service_model.operation_model(names[name])
    try:
        return paging_of(session, service, model, result_key, given), model
    except UnsupportedError as exc:
        raise UnsupportedError(f"{model.name}: {exc}") from None


def _inspected(
    service: str, model: OperationModel, paging: Paging, result_key: str | None, *, may_miss_list: bool
) -> Operation:
    result = result_key or paging.result_keys[0]
    try:
        pager, item = _pager(model, paging, result)
        result = pager.result
        is_raw = not may_miss_list and _is_raw(model, pager)
        wire = {name: _body_name(shape, name) for name, shape in model.output_shape.members.items()} if is_raw else {}
        record = _record(item, wire[result], _body_name) if is_raw else _record(item, "value", lambda _, name: name)
    except UnsupportedError as exc:
        raise UnsupportedError(f"{model.name}: {exc}") from None
    limit = paging.definition.get("limit_key")
    not_parameters = {*pager.input_tokens, *paging.parameters, limit}
    inputs = model.input_shape
    required = tuple(inputs.required_members) if inputs else ()
    token, *_ = *pager.output_tokens, ""
    input_token, *_ = *pager.input_tokens, ""
    page_size = int(inputs.members[limit].metadata.get("max", _PAGE_SIZE)) if limit in required else None
    return Operation(
        service=service,
        name=model.name,
        api_version=model.service_model.api_version,
        result_key=wire.get(result, BODY_KEY),
        token_key=wire.get(token, ""),
        result_member=result if is_raw else "",
        token_member=token if is_raw else "",
        input_token=input_token,
        record=record,
        # A token that must be sent has a value on the first page, which only the operator knows.
        parameters=tuple(
            name for name in _members(inputs) if name not in not_parameters or (name in required and name != limit)
        ),
        required=tuple(name for name in required if name != limit),
        page_size=page_size,
        documentation=_plain(model.documentation),
        pager=None if is_raw else pager,
    )


def listed_operations(session: Session, service: str) -> dict[str, tuple[str, ...]]:
    """Return boto3's methods of a service that list something, each with its result keys.

    Raises:
        UnsupportedError: there is no such service.
    """
    _service_model(session, service)
    return listings(session, service)


def parameter_values(session: Session, service: str, name: str) -> dict[str, tuple[str, ...]]:
    """Return the values that the model knows for parameters of an operation of botocore, for those that are enums."""
    inputs = _service_model(session, service).operation_model(name).input_shape
    shapes = {name: getattr(shape, "member", shape) for name, shape in inputs.members.items()} if inputs else {}
    return {name: tuple(shape.enum) for name, shape in shapes.items() if getattr(shape, "enum", ())}


def parameter_names(operation: Operation, filters: Mapping[str, str]) -> dict[str, str]:
    """Return the filters that are parameters of an operation, under their API names: created_by -> createdBy."""
    names = filter_names(operation)
    return {names[name]: value for name, value in filters.items() if name in names}


def filter_names(operation: Operation) -> dict[str, str]:
    """Return the API names of all parameters of an operation by the names that filters have."""
    return {xform_name(name): name for name in operation.parameters}


def _service_model(session: Session, service: str) -> ServiceModel:
    try:
        return session.get_service_model(service)
    except (UnknownServiceError, DataNotFoundError):
        meant = did_you_mean(service, session.get_available_services())
        raise UnsupportedError(f"botocore has no service {service!r}{meant}; `aws help` lists the names") from None


def _pager(model: OperationModel, paging: Paging, result: str) -> tuple[Pager, Shape]:
    """Return how pages are found in a parsed response, and the shape of one item of the list."""
    steps = re.findall(r"(\w+)(\[\])?(?:\.|$)", result)
    if ".".join(name + many for name, many in steps) != result:
        raise UnsupportedError(f"its result key is the expression {result!r}; expected a path of names")
    shape: Shape = model.output_shape
    many = False
    for step, (name, brackets) in enumerate(steps, start=1):
        if shape is None or shape.type_name != "structure" or name not in shape.members:
            raise UnsupportedError(f"its responses have no member {result!r}")
        shape = shape.members[name]
        is_last = step == len(steps)
        if is_last and shape.type_name == "structure" and not many and not brackets and paging.origin != "botocore":
            continue  # one record
        if (brackets or is_last) and shape.type_name != "list":
            raise UnsupportedError(f"{name!r} in its responses is a {shape.type_name}; expected a list")
        if is_last and many and not brackets:
            result = f"{result}[]"  # JMESPath makes lists of lists of it otherwise
        many = many or bool(brackets)
        shape = shape.member if brackets or is_last else shape
    protocol = model.service_model.resolved_protocol
    counted = paging.result_keys[0]
    pager = Pager(
        protocol=protocol,
        result=result,
        input_tokens=paging.input_tokens,
        output_tokens=paging.output_tokens,
        more_results=paging.definition.get("more_results"),
        is_plain=shape.type_name != "structure" or getattr(shape, "is_document_type", False),
        is_primary=counted in (result, f"[{result}]") and "[]" not in result,
        is_always_there=protocol not in XML_PROTOCOLS and len(steps) == 1,
        wire_members=tuple(_wire_members(model.output_shape)),
    )
    return pager, shape


def _record(item: Shape, name: str, name_of: Callable[[Shape, str], str]) -> Member:
    """Return the structure of one record: the item itself, or a structure with the item as its only member."""
    member = _member(item, name, (), name_of)
    if item.type_name == "structure" and not item.members:
        raise UnsupportedError("its records have no members")
    if member.kind == "structure":
        return member
    return Member(name="record", api_name="record", kind="structure", members=(member,))


def _members(shape: Shape | None) -> Mapping[str, Shape]:
    return shape.members if shape is not None else {}


def _wire_members(output: Shape) -> Iterator[str]:
    """Yield the names that can stand at the top of a response's body.

    Source: botocore, parsers.py, BaseXMLResponseParser._member_key_name.
    """
    body = output.members[output.serialization["payload"]] if "payload" in output.serialization else output
    for name, shape in getattr(body, "members", {}).items():
        if "location" not in shape.serialization:
            flat = shape.type_name == "list" and shape.serialization.get("flattened")
            of_element = shape.member.serialization.get("name") if flat else None
            yield of_element or shape.serialization.get("name", name)


def _is_raw(model: OperationModel, pager: Pager) -> bool:
    """Tell whether a body is a JSON object with one list of structures and at most one token, both at its top."""
    members = model.output_shape.members
    names = (pager.result, *pager.output_tokens)
    return (
        pager.protocol in ("json", "rest-json")
        and len(pager.output_tokens) <= 1
        and not pager.more_results
        and not pager.is_plain
        and all(name in members and "location" not in members[name].serialization for name in names)
        and "payload" not in model.output_shape.serialization
        and members[pager.result].type_name == "list"
        and all(members[name].type_name == "string" for name in pager.output_tokens)
    )


def _body_name(shape: Shape, name: str) -> str:
    """Return the name of a member in the body: MediaLive's Channels are `channels` there."""
    return str(shape.serialization.get("name", name))


def _member(
    shape: Shape, api_name: str, above: tuple[str, ...], name_of: Callable[[Shape, str], str], *, required: bool = False
) -> Member:
    """Return a shape and all shapes below it without botocore; `above` names the structures that contain it."""
    kind = _KINDS.get(shape.type_name)
    empty = shape.type_name == "structure" and not shape.members
    if kind is None or shape.name in above or empty or getattr(shape, "is_document_type", False):
        kind = "document"
    above = (*above, shape.name) if kind == "structure" else above
    members: tuple[Member, ...] = ()
    element = None
    if kind == "structure":
        members = tuple(
            _member(child, name_of(child, name), above, name_of, required=name in shape.required_members)
            for name, child in shape.members.items()
        )
    elif kind == "list":
        element = _member(shape.member, "element", above, name_of)
    elif kind == "map":
        element = _member(shape.value, "value", above, name_of)
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
        required=required,
        documentation=_plain(shape.documentation),
    )


def _check_columns(dataset: Dataset, record: Member) -> None:
    """Refuse a key or order column that the records do not have, and an order that is none."""
    kinds: dict[str, ShapeKind] = {member.name: member.kind for member in record.members}
    kinds |= {name: member.kind for name, _, member in leaves(record)}
    orders = [dataset.order_by] if dataset.order_by else []
    for setting, columns in (("key", dataset.key), ("order_by", orders)):
        for column in columns:
            place = f"dataset {dataset.name}: {setting} names {column!r}"
            if column not in kinds:
                raise ConfigError(f"{place}; the records have {', '.join(sorted(kinds))}")
            if setting == "order_by" and kinds[column] != "timestamp":
                expected = "a timestamp: the record with the newest one is kept"
                raise ConfigError(f"{place}, a {kinds[column]}; expected {expected}")


def _plain(documentation: str) -> str:
    """Return the HTML of a service model as one line of plain text."""
    return " ".join(re.sub(r"<[^>]+>", "", documentation or "").split())
