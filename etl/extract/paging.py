"""How an operation pages: as botocore defines it, by botocore's own naming rule, in one page, or as a dataset says.

botocore defines paginators by hand, and for many list operations it does not. Its definitions follow a rule of names
all the same: `derived` finds the two tokens, the list and the page size in a service model, and gives the definition
that botocore would have. `make paginators` counts how many of botocore's own it reproduces.

A list is never taken for whole by mistake. If names in a model look like paging that the rule does not know, the
operation is refused, and `paginate` of the dataset can say how it pages.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any, Literal

import jmespath
from botocore import xform_name
from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.model import OperationModel, Shape
from botocore.paginate import Paginator
from botocore.session import Session
from jmespath.exceptions import JMESPathError

from etl.errors import did_you_mean
from etl.model import Paginate

Origin = Literal["botocore", "names", "one page", "paginate"]


class UnsupportedError(Exception):
    """An operation cannot be exported; the message says why."""


@dataclass(frozen=True, slots=True)
class Paging:
    """How the pages of one operation follow each other.

    Attributes:
        definition: in the words of botocore's files paginators-1.json. Without tokens, there is one page.
        origin: who says so: botocore, the names in the model, or the dataset's `paginate`.
        ends_with_same_token: after the last page, the service returns the token that it was sent.
        parameters: sent with every request, because the tokens mean what they should only with them.
    """

    definition: Mapping[str, Any]
    origin: Origin
    ends_with_same_token: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def result_keys(self) -> tuple[str, ...]:
        """Return the paths to the lists of a response; the paginator counts the first."""
        return as_tuple(self.definition["result_key"])

    @property
    def input_tokens(self) -> tuple[str, ...]:
        """Return the parameters that take a token."""
        return as_tuple(self.definition["input_token"])

    @property
    def output_tokens(self) -> tuple[str, ...]:
        """Return the paths to the tokens in a response, in the order of the parameters that take them."""
        return as_tuple(self.definition["output_token"])

    def paginator(self, method: Callable[..., Any], model: OperationModel) -> Paginator:
        """Return botocore's paginator for a method of a client: starting tokens mean what they mean in boto3."""
        return Paginator(method, dict(self.definition), model)


def as_tuple(value: Any) -> tuple[str, ...]:
    """Return the names of a definition, which stand there alone or in a list."""
    return (value,) if isinstance(value, str) else tuple(value)


# The rule

_TOKENS: Mapping[str, Sequence[str]] = {
    "nexttoken": ("nexttoken",),
    "marker": ("nextmarker", "marker", "nextpagemarker"),
    "pagetoken": ("nextpagetoken", "pagetoken"),
    "position": ("position",),
    "nextmarker": ("nextmarker",),
    "nextpagetoken": ("nextpagetoken",),
    "startingtoken": ("nexttoken",),
    "paginationtoken": ("paginationtoken",),
    "continuationtoken": ("nextcontinuationtoken", "continuationtoken"),
    "token": ("nexttoken",),
}
"""Parameter that takes the token -> member of the response that holds the next one, the first that is there; in small
letters. Source: all botocore definitions with one token, by their names; Amazon Pinpoint for the last one."""
_START, _LAST = "exclusivestart", "lastevaluated"
"""DynamoDB's way: ExclusiveStartTableName takes LastEvaluatedTableName."""
_LIMITS = ("maxresults", "maxrecords", "limit", "maxitems", "pagesize", "maximumpagesize")
_MORE = ("istruncated", "truncated", "hasmoreresults")
_READS = re.compile(
    r"(list|describe|get|search|query|lookup|scan|select|filter|view|(batch|admin)_(list|describe|get|lookup))(_|$)"
)
"""How the names of operations begin that change nothing. Others are never derived."""
_LISTS = re.compile(r"(admin_)?(list|search)(_|$)")

_LIKE_TOKENS_IN = re.compile(
    r".*(marker|cursor|offset|iterator)|(next|page|pagination|continuation|starting)?token|position|next\w+"
    rf"|page(number)?|start|start(ing)?(at|from|key|index|id|position)|{_START}\w+"
)
_LIKE_TOKENS_OUT = re.compile(
    rf".*(marker|cursor|nexttoken|nextpagetoken)|(page|pagination|continuation)?token|position|next\w+|{_LAST}\w+"
)
_LIKE_MORE = re.compile(r"(is|has|results?)?(truncated|more)\w*|\w*hasmore\w*|\w*(are|is)truncated")
_LIKE_LIMITS = re.compile(r"max\w+|suggestioncount")
"""Names, in small letters, that look like paging, whether the rule knows them or not."""
_FEW = 2
"""The most members of a structure that is all about its only list."""
_TOKEN_KINDS = ("string", "integer", "long", "map", "structure", "blob")


@cache
def _exceptions() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Return how operations page whose names do not say it, by service and API name."""
    return tomllib.loads((resources.files("etl.extract") / "paging.toml").read_text(encoding="utf-8"))


def paging_of(
    session: Session, service: str, model: OperationModel, result_key: str | None = None, given: Paginate | None = None
) -> Paging:
    """Return how an operation pages; `service` has its name in boto3.

    `result_key` is the path to the list that is wanted, if the caller knows it; `given` is the dataset's `paginate`.

    Raises:
        UnsupportedError: nobody says how it pages, or it does more than list.
    """
    if given is not None:
        return _as_given(model, given, result_key)
    try:
        return Paging(session.get_paginator_model(service).get_paginator(model.name), "botocore")
    except (ValueError, UnknownServiceError, DataNotFoundError):
        known = dict(_exceptions().get(service, {}).get(model.name, {}))
    if not known:
        return derived(model, result_key)
    parameters = known.pop("parameters", {})
    return replace(_as_given(model, Paginate.model_validate(known), result_key), origin="names", parameters=parameters)


def listings(session: Session, service: str) -> dict[str, tuple[str, ...]]:
    """Return boto3's methods of a service that list something, each with its result keys, the most likely first.

    Those with a definition of botocore come first. Some others are not defined, and `paging_of` says why.
    """
    try:
        paginators = session.get_paginator_model(service)
        defined = paginators._paginator_config  # noqa: SLF001  nothing public lists them
    except (UnknownServiceError, DataNotFoundError):
        defined = {}
    service_model = session.get_service_model(service)
    found = {xform_name(name): as_tuple(defined[name]["result_key"]) for name in sorted(defined)}
    for name in service_model.operation_names:
        if name not in defined and (paths := _listed(service_model.operation_model(name))):
            found[xform_name(name)] = paths
    return found


def derived(model: OperationModel, result_key: str | None = None) -> Paging:
    """Return the definition that the names in a service model give.

    Raises:
        UnsupportedError: it may change something, it seems to page in another way, or its list is not the only one.
    """
    if not _READS.match(xform_name(model.name)):
        raise UnsupportedError("its name does not say that it only reads; if it lists, `paginate` says how it pages")
    above, tokens = _place(model)
    if tokens is None:
        _refuse_signs_of_paging(model)
    wanted = f"{above}{_lists(_shape_at(model, above))[0]}" if above and not result_key else _wanted(model, result_key)
    return Paging(_definition(model, wanted, above, tokens), "names" if tokens else "one page")


def _definition(
    model: OperationModel, result_key: str, above: str = "", tokens: tuple[str, str] | None = None
) -> dict[str, Any]:
    inputs, members = _members(model.input_shape), _members(_shape_at(model, above))
    definition: dict[str, Any] = {
        "input_token": tokens[0] if tokens else [],
        "output_token": f"{above}{tokens[1]}" if tokens else [],
        "result_key": result_key,
    }
    limit = next((name for wanted in _LIMITS for name in _named(inputs, wanted)), None)
    more = next((name for wanted in _MORE for name in _named(members, wanted, "boolean")), None)
    if limit and tokens:
        definition["limit_key"] = limit
    if more and tokens:
        definition["more_results"] = f"{above}{more}"
    return definition


def _place(model: OperationModel) -> tuple[str, tuple[str, str] | None]:
    """Return where the list and its token are, "" or "DistributionList.", and the tokens; None if there are none."""
    inputs, outputs = _members(model.input_shape), _members(model.output_shape)
    if tokens := _tokens(inputs, outputs):
        return "", tokens
    below = {
        f"{name}.": _tokens(inputs, shape.members)
        for name, shape in outputs.items()
        if shape.type_name == "structure" and len(_lists(shape)) == 1
    }
    paged = {above: tokens for above, tokens in below.items() if tokens}
    if len(paged) == 1:
        return paged.popitem()
    if len(below) == len(outputs) == 1 and (above := next(iter(below))) and _is_a_list(model, _shape_at(model, above)):
        return above, None  # ListTagsForResource of Route 53 has ResourceTagSet.Tags
    return "", None


def _is_a_list(model: OperationModel, shape: Shape | None) -> bool:
    """Tell whether a structure with one list is a listing: one list among many other members is part of a record."""
    return bool(_LISTS.match(xform_name(model.name))) or len(_members(shape)) <= _FEW


def _tokens(inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> tuple[str, str] | None:
    """Return the parameter that takes the token, and the member that holds the next one."""
    for taken, held in _TOKENS.items():
        for token in _named(inputs, taken, "string"):
            for name in held:
                for following in _named(outputs, name, "string"):
                    return token, following
    for token in inputs:
        if token.lower().startswith(_START):
            for following in _named(outputs, _LAST + token[len(_START) :].lower()):
                return token, following
    return None


def _refuse_signs_of_paging(model: OperationModel) -> None:
    """Refuse an operation that no known tokens page, if it may return less than everything."""
    inputs, outputs = _members(model.input_shape), _members(model.output_shape)
    below = {
        f"{above}.{name}": shape
        for above, outer in outputs.items()
        if outer.type_name == "structure"
        for name, shape in outer.members.items()
    }
    taken = [name for name, shape in inputs.items() if _is_like(_LIKE_TOKENS_IN, name, shape)]
    held = [name for name, shape in {**outputs, **below}.items() if _is_like(_LIKE_TOKENS_OUT, name, shape)]
    more = [
        name for name, shape in outputs.items() if shape.type_name == "boolean" and _LIKE_MORE.fullmatch(name.lower())
    ]
    limits = [name for name, shape in inputs.items() if name.lower() in _LIMITS or _is_like(_LIKE_LIMITS, name, shape)]
    if not taken and not any("." not in name for name in held) and not more and not limits:
        return
    takes = ", ".join([*taken, *limits]) or "no token"
    returns = ", ".join([*held, *more]) or "no token"
    raise UnsupportedError(
        f"its model does not say how it pages: it takes {takes}, and returns {returns}; `paginate` can say it"
    )


def _is_like(pattern: re.Pattern[str], name: str, shape: Shape) -> bool:
    return shape.type_name in _TOKEN_KINDS and bool(pattern.fullmatch(name.rpartition(".")[2].lower()))


def _listed(model: OperationModel) -> tuple[str, ...]:
    """Return the result keys of an operation without a definition, the most likely first; none if it lists nothing.

    A response that has one list among many other members is a record, not a listing, unless the list has its name.
    """
    name = xform_name(model.name)
    if not _READS.match(name):
        return ()
    above, tokens = _place(model)
    if above:
        return tuple(f"{above}{found}" for found in _lists(_shape_at(model, above)))
    lists = _lists(model.output_shape)
    ranks = {found: _likeness(found, name) for found in lists}
    if tokens or any(ranks.values()) or (len(lists) == 1 and _is_a_list(model, model.output_shape)):
        return tuple(sorted(lists, key=lambda found: -ranks[found]))
    return tuple(lists) if _LISTS.match(name) else ()


def _wanted(model: OperationModel, result_key: str | None) -> str:
    """Return the result key of a definition: the one that is asked for, or the only one that can be meant."""
    members = _members(model.output_shape)
    if result_key is not None:
        # botocore counts what the result key leads to: one structure, not its members.
        is_one = result_key in members and members[result_key].type_name == "structure"
        return f"[{result_key}]" if is_one else result_key
    lists = _lists(model.output_shape)
    ranks = {name: _likeness(name, xform_name(model.name)) for name in lists}
    best = [name for name in lists if ranks[name] == max(ranks.values())]
    if len(best) == 1:
        return best[0]
    if lists:
        raise UnsupportedError(f"its responses have the lists {', '.join(lists)}; `result_key` chooses one")
    structures = [name for name, shape in members.items() if shape.type_name == "structure"]
    if structures:
        raise UnsupportedError(
            f"its responses have no list; `result_key` makes one record of {' or '.join(structures)}"
        )
    raise UnsupportedError("its responses have no list, and no structure that could be a record")


def _likeness(list_name: str, operation: str) -> int:
    """Return how much a list is called like what an operation lists: 3, the same; 0, something else.

    BatchGetAutomationRules has Rules (2) and UnprocessedAutomationRules (1).
    """
    noun = _READS.sub("", operation).removesuffix("s")
    name = xform_name(list_name).removesuffix("s")
    if noun == name:
        return 3
    return 2 if noun.endswith(f"_{name}") else 1 if name.endswith(f"_{noun}") else 0


def _as_given(model: OperationModel, given: Paginate, result_key: str | None) -> Paging:
    """Return a definition as a dataset says it."""
    inputs = _members(model.input_shape)
    for setting, names in (("input_token", given.input_tokens), ("limit_key", as_tuple(given.limit_key or ()))):
        for name in names:
            if name not in inputs:
                raise UnsupportedError(
                    f"paginate: {setting}: it has no parameter {name!r}{did_you_mean(name, inputs)}; "
                    f"it has {', '.join(inputs) or 'none'}"
                )
    outputs = _members(model.output_shape)
    expressions = (*given.output_tokens, *as_tuple(given.more_results or ()))
    for expression in expressions:
        try:
            jmespath.compile(expression)
        except JMESPathError as exc:
            raise UnsupportedError(f"paginate: {expression!r} is no path: {' '.join(str(exc).split())}") from None
        first = re.match(r"\w*", expression)
        if first and first[0] not in outputs:
            raise UnsupportedError(
                f"paginate: its responses have no member {first[0]!r}{did_you_mean(first[0], outputs)}; "
                f"they have {', '.join(outputs) or 'none'}"
            )
    if given.ends_with_same_token and not given.input_tokens:
        raise UnsupportedError("paginate: ends_with_same_token needs input_token and output_token")
    wanted = given.result_key or _wanted(model, result_key)
    definition: dict[str, Any] = {
        "input_token": list(given.input_tokens), "output_token": list(given.output_tokens), "result_key": wanted,
    }  # fmt: skip
    definition |= {name: value for name in ("limit_key", "more_results") if (value := getattr(given, name))}
    return Paging(definition, "paginate", given.ends_with_same_token)


def _members(shape: Shape | None) -> Mapping[str, Shape]:
    return shape.members if shape is not None else {}


def _lists(shape: Shape | None) -> list[str]:
    return [name for name, member in _members(shape).items() if member.type_name == "list"]


def _shape_at(model: OperationModel, above: str) -> Shape | None:
    return model.output_shape.members[above.removesuffix(".")] if above else model.output_shape


def _named(members: Mapping[str, Shape], wanted: str, kind: str | None = None) -> Iterator[str]:
    """Yield the members with a name, in whatever case."""
    for name, shape in members.items():
        if name.lower() == wanted and kind in (None, shape.type_name):
            yield name
