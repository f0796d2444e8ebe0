"""The plan of one invocation: which datasets it walks, in which order, and which slices each has."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from etl.config import EMBEDDED, SourceSettings
from etl.errors import ConfigError, did_you_mean
from etl.extract.redact import without_userinfo
from etl.extract.service_model import filter_names, parameter_names
from etl.ledger.ledger import Ledger
from etl.model import BLANK, CATALOG_TABLES, Dataset, Operation, Slice, digest
from etl.sqlfiles import sql_files
from etl.transform.privacy import check_key
from etl.transform.records import Misfit, Reader
from etl.transform.schema import Layout, layout_of

_LOCAL_PORT = re.compile(r"^(https?://(?:localhost|127\.[\d.]+|\[::1\])):\d+")


@dataclass(frozen=True)
class Plan:
    """The datasets to walk, parents first, with their operations and the layouts of their tables.

    `published` names the datasets whose rows the operator wants. The others are walked because slices come from them.
    `endpoints` are those that the environment or the AWS configuration gives for a dataset, if `source` gives none.
    """

    source: SourceSettings
    datasets: Mapping[str, Dataset]
    operations: Mapping[str, Operation]
    layouts: Mapping[str, Layout]
    published: frozenset[str]
    endpoints: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def make(  # noqa: PLR0913, PLR0917  the parts of an invocation
        cls,
        datasets: Mapping[str, Dataset],
        published: Collection[str],
        describe: Callable[[Dataset], Operation],
        source: SourceSettings,
        secret: bytes | None,
        endpoint_of: Callable[[Dataset], str | None] = lambda _: None,
    ) -> "Plan":
        """Return the plan of an invocation. Nothing is requested.

        `datasets` are all that may be needed, parents first; `published` names those whose rows the operator wants.
        `describe` returns what the service model says about a dataset's operation. `secret` is the key of the hashes
        that privacy asks for. `endpoint_of` returns the endpoint that is in force for a dataset; None: that of AWS.

        Raises:
            ConfigError: a dataset cannot be exported, or a filter or a parent's column does not exist.
        """
        pins = source.pins.keys()
        # Parents come before their children: backwards, every child is seen before its parent.
        needed = set(published)
        for name in reversed(list(datasets)):
            for_each = datasets[name].for_each
            if name in needed and for_each and not for_each.bind.keys() <= pins:
                needed.add(for_each.dataset)
        datasets = {name: dataset for name, dataset in datasets.items() if name in needed}
        operations = {name: describe(dataset) for name, dataset in datasets.items()}
        _check_filters(source.filters, operations)
        _check_parents(datasets, operations)
        _check_required(datasets, operations)
        layouts = {name: layout_of(dataset, operations[name], secret) for name, dataset in datasets.items()}
        check_layouts(layouts)
        endpoints = {} if source.endpoint_url else {name: endpoint_of(dataset) for name, dataset in datasets.items()}
        given = {name: url for name, url in endpoints.items() if url}
        return cls(source, datasets, operations, layouts, frozenset(published), given)

    @property
    def origin(self) -> str:
        """Return where the pages come from, in words: the endpoints that are in force, or AWS."""
        if self.source.endpoint_url == EMBEDDED:
            return "the embedded studio"
        urls = {self.source.endpoint_url or self.endpoints.get(name) or "AWS" for name in self.published}
        # Servers on this machine get whatever port is free.
        return " and ".join(sorted(_LOCAL_PORT.sub(r"\1", without_userinfo(url)) for url in urls))

    @cached_property
    def fingerprint(self) -> str:
        """Return a digest of everything that decides which pages a run gets: only an equal request continues a run."""
        source = self.source
        return digest(
            {
                "datasets": [dataset.identity for dataset in self.datasets.values()],
                "models": [operation.model_hash for operation in self.operations.values()],
                "published": sorted(self.published),
                "endpoint_url": source.endpoint_url or dict(self.endpoints) or None,
                "region": source.region,
                "account_id": source.account_id,
                "pins": source.pins,
                "filters": dict(source.filters),
            }
        )

    def generations(self) -> Iterator[list[str]]:
        """Yield groups of datasets to walk together: those without a parent, then their children, and so on."""
        left = list(self.datasets)
        while left:
            parents = {name: for_each.dataset for name in left if (for_each := self.datasets[name].for_each)}
            generation = [name for name in left if parents.get(name) not in left]
            yield generation
            left = [name for name in left if name not in generation]

    def slices(self, ledger: Ledger, name: str, account_id: str) -> Iterator[Slice]:
        """Yield the slices of a dataset: one, or one for each record of its parent, whose pages the ledger has."""
        filters = parameter_names(self.operations[name], self.source.filters)
        for bound in self._bindings(ledger, self.datasets[name]):
            parents = {**self.datasets[name].fixed_parents, **bound}
            yield Slice(name, account_id, self.source.region, parents, filters)

    def _bindings(self, ledger: Ledger, dataset: Dataset) -> Iterator[dict[str, str]]:
        """Yield the bound parameters of each slice: as the operator pinned them, or from the records of the parent."""
        if dataset.for_each is None:
            yield {}
            return
        bind, pins = dataset.for_each.bind, self.source.pins
        if bind.keys() <= pins.keys():
            (parameter,) = bind
            yield from ({parameter: value} for value in pins[parameter])
        else:
            yield from self.listed(ledger, dataset)

    def listed(self, ledger: Ledger, dataset: Dataset) -> Iterator[dict[str, str]]:
        """Yield the bound parameters of each slice that the parent of a dataset lists, if the ledger has its pages."""
        if dataset.for_each is None or dataset.for_each.dataset not in self.datasets:
            return
        bind, parent = dataset.for_each.bind, self.datasets[dataset.for_each.dataset]
        reader = Reader(parent, self.operations[parent.name], tuple(bind.values()))
        above = parent.slice_columns
        seen: set[tuple[str, ...]] = set()
        for facts in ledger.slices(parent.name):
            given = {column: facts.slice.parents[parameter] for parameter, column in above.items()}
            for page in ledger.pages(facts.slice):
                for record in reader.read(page):
                    if isinstance(record, Misfit):
                        continue  # it goes to etl_rejects when the parent is published
                    found = reader.named(record)
                    values = tuple(given.get(column) or found.get(column) or "" for column in bind.values())
                    if all(values) and values not in seen:
                        seen.add(values)
                        yield dict(zip(bind, values, strict=True))


_OWN = "nimble-etl itself"


def check_layouts(layouts: Mapping[str, Layout]) -> None:
    """Refuse tables that hash values without a key, and names as `check_names`.

    Raises:
        ConfigError: names the table, and where the key is expected or which name is taken.
    """
    for shape in layouts.values():
        check_key(shape)
    check_names(layouts)


def check_names(layouts: Mapping[str, Layout]) -> None:
    """Refuse tables and views that would have the name of another one: the catalog could not be built.

    Raises:
        ConfigError: names the table, and whose it is.
    """
    owners = dict.fromkeys((*CATALOG_TABLES, *sql_files("marts"), *sql_files("views")), _OWN)
    for name, shape in layouts.items():
        histories = [f"{table}_history" for table in shape.schemas]
        main = [*shape.schemas, shape.changes_table, *histories, f"{name}_versions"]
        flat_name = shape.dataset.bi_name or name
        entries = [child.source.field.name for child in shape.children]
        ends = ["", "_history", "_versions", "_changes", *(f"_{entry}" for entry in entries)]
        for table in (*main, *(f"bi.{flat_name}{end}" for end in ends)):
            owner = _OWN if table.startswith("etl_") else owners.setdefault(table, f"dataset {name}")
            if owner != f"dataset {name}":
                raise ConfigError(
                    f"dataset {name}: its table {table} would have the name of one of {owner}; choose another `name`, "
                    "or another `item` for its child tables, or another `bi_name`"
                )


def _check_filters(filters: Mapping[str, str], operations: Mapping[str, Operation]) -> None:
    """Refuse a filter that no operation knows: without it, more would be listed than was asked for."""
    for name in filters:
        if not any(parameter_names(operation, {name: ""}) for operation in operations.values()):
            known = {column for operation in operations.values() for column in filter_names(operation)}
            raise ConfigError(
                f"source.filters: {name!r} is a parameter of none of the datasets {', '.join(operations)}"
                f"{did_you_mean(name, known)}; remove it"
            )


def _check_parents(datasets: Mapping[str, Dataset], operations: Mapping[str, Operation]) -> None:
    """Refuse a binding to a column that the parent does not have: it would silently give no slices."""
    for name, dataset in datasets.items():
        if dataset.for_each is None or dataset.for_each.dataset not in datasets:
            continue
        parent = datasets[dataset.for_each.dataset]
        columns = {member.name for member in operations[parent.name].record.members if member.kind == "string"}
        columns |= set(parent.slice_columns.values())
        for column in dataset.for_each.bind.values():
            if column not in columns:
                there = ", ".join(sorted(columns))
                raise ConfigError(f"dataset {name}: for_each binds {column!r}; {parent.name} has the texts {there}")


def _check_required(datasets: Mapping[str, Dataset], operations: Mapping[str, Operation]) -> None:
    """Refuse missing and unknown parameters: the first request would fail."""
    for name, dataset in datasets.items():
        given = {name for name in dataset.slice_columns if dataset.parameters.get(name) != BLANK}
        missing = [wanted for wanted in operations[name].required if wanted not in given]
        unknown = [parameter for parameter in dataset.slice_columns if parameter not in operations[name].parameters]
        if missing:
            raise ConfigError(
                f"dataset {name}: {operations[name].name} needs {', '.join(missing)}; bind it to a column of another "
                "dataset with `for_each`, or give its value under `parameters`"
            )
        if unknown:
            known = ", ".join(operations[name].parameters) or "none"
            raise ConfigError(f"dataset {name}: {operations[name].name} has no parameter {unknown[0]}; it has {known}")
