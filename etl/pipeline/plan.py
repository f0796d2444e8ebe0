"""The plan of one invocation: which datasets it walks, in which order, and which slices each has."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from etl.config import EMBEDDED, SourceSettings
from etl.errors import ConfigError, did_you_mean
from etl.extract.places import ACCOUNTS, PARENT, REGIONS, UNITS, Place, Places
from etl.extract.redact import without_userinfo
from etl.extract.service_model import filter_names, parameter_names
from etl.ledger.ledger import Ledger
from etl.model import BLANK, CATALOG_TABLES, WHOLE, Dataset, Operation, Shard, Slice, digest
from etl.names import parameter_column
from etl.pipeline.keys import key_doubt
from etl.sqlfiles import sql_files
from etl.transform.privacy import check_key
from etl.transform.records import Misfit, Reader
from etl.transform.schema import Layout, layout_of

_LOCAL_PORT = re.compile(r"^(https?://(?:localhost|127\.[\d.]+|\[::1\])):\d+")


@dataclass(frozen=True)
class Plan:
    """The datasets to walk, parents first, with their operations and the layouts of their tables.

    `published` names the datasets whose rows the operator wants. The others are walked because slices come from them.
    `operations` also has those of the listings that tell accounts and Regions.
    `endpoints` are those that the environment or the AWS configuration gives for a dataset, if `source` gives none.
    Of the slices, those of the `shard` are published.
    """

    source: SourceSettings
    datasets: Mapping[str, Dataset]
    operations: Mapping[str, Operation]
    layouts: Mapping[str, Layout]
    published: frozenset[str]
    endpoints: Mapping[str, str]
    places: Places
    shard: Shard = WHOLE

    @classmethod
    def make(  # noqa: PLR0913, PLR0917  the parts of an invocation
        cls,
        datasets: Mapping[str, Dataset],
        published: Collection[str],
        describe: Callable[[Dataset], Operation],
        source: SourceSettings,
        secret: bytes | None,
        endpoint_of: Callable[[Dataset], str | None] = lambda _: None,
        shard: Shard = WHOLE,
    ) -> "Plan":
        """Return the plan of an invocation. Nothing is requested.

        `datasets` are all that may be needed, parents first; `published` names those whose rows the operator wants.
        `describe` returns what the service model says about a dataset's operation. `secret` is the key of the hashes
        that privacy asks for. `endpoint_of` returns the endpoint that is in force for a dataset; None: that of AWS.

        Raises:
            ConfigError: a dataset cannot be exported, or a filter or a parent's column does not exist.
        """
        places = Places(source)
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
        _check_parents(datasets, operations, places)
        _check_required(datasets, operations)
        layouts = {name: layout_of(dataset, operations[name], secret) for name, dataset in datasets.items()}
        check_layouts(layouts)
        endpoints = {} if source.endpoint_url else {name: endpoint_of(dataset) for name, dataset in datasets.items()}
        given = {name: url for name, url in endpoints.items() if url}
        operations |= {name: describe(dataset) for name, dataset in places.listings.items()}
        return cls(source, datasets, operations, layouts, frozenset(published), given, places, shard)

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
        # A role, and what is tolerated, decide what may be read. With another role, the same run goes on.
        accounts = [account.model_dump(mode="json", include={"id", "regions"}) for account in source.accounts]
        organization = source.organization and source.organization.model_dump(mode="json", include={"units", "skip"})
        places = {"accounts": accounts, "organization": organization, "regions": list(source.regions)}
        return digest(
            {
                **(places if source.has_places else {}),
                **({"shard": self.shard.text} if self.shard.text else {}),
                "datasets": [dataset.identity for dataset in self.datasets.values()],
                "models": [self.operations[name].model_hash for name in self.datasets],
                "published": sorted(self.published),
                "endpoint_url": source.endpoint_url or dict(self.endpoints) or None,
                "region": source.region,
                "account_id": source.account_id,
                "pins": source.pins,
                "filters": dict(source.filters),
            }
        )

    def key_doubts(self, proven: Collection[str] = ()) -> Iterator[str]:
        """Yield a sentence for each key that may not identify its records.

        `proven` are datasets with rows in the warehouse: records that share a key would have shown already.
        """
        for name, dataset in self.datasets.items():
            if name not in proven and (doubt := key_doubt(dataset, self.operations[name])):
                yield doubt

    def walks(self, slice_: Slice) -> bool:
        """Tell whether to walk a slice. What other shards own is walked only if it may tell of slices of this one."""
        return self.shard.owns(slice_) or slice_.dataset in self._parents

    @cached_property
    def _parents(self) -> Collection[str]:
        """The datasets, and listings of accounts and Regions, that tell which slices there are."""
        parents = {dataset.for_each.dataset for dataset in self.datasets.values() if dataset.for_each}
        return parents | self.places.listings.keys()

    def dataset(self, name: str) -> Dataset:
        """Return a dataset to walk, also one of those that tell accounts and Regions."""
        return self.datasets.get(name) or self.places.listings[name]

    def first(self, account_id: str) -> Iterator[Slice]:
        """Yield the slices to begin with. `account_id` is the account of the run."""
        organization = self.source.organization
        if organization is None:
            for one in self.places.account_ids or (account_id,):
                yield from self._of_account(one)
        elif organization.units:
            for unit in organization.units:
                yield from self._of_unit(account_id, unit)
        else:
            yield self._listing(ACCOUNTS, account_id)

    def following(self, ledger: Ledger, slice_: Slice) -> Iterator[Slice]:
        """Yield the slices that come from the records of a slice whose walk has ended."""
        account_id = slice_.account_id
        if slice_.dataset == UNITS.name:
            for unit in self._records(ledger, UNITS, slice_, ("id",)):
                yield from self._of_unit(account_id, unit["id"])
        elif slice_.dataset == ACCOUNTS.name:
            for account in self._records(ledger, ACCOUNTS, slice_, ("id", "state", "status")):
                if self.places.is_active(account):
                    yield from self._of_account(account["id"])
        elif slice_.dataset == REGIONS.name:
            yield from self._of_regions(account_id, self._opted_in(ledger, account_id))
        else:
            yield from self._of_parent(ledger, slice_)

    def _listing(self, dataset: Dataset, account_id: str, **parents: str) -> Slice:
        """Return a slice that tells accounts or Regions."""
        return Slice(dataset.name, account_id, self.places.home(dataset.service), parents, {}, is_of_many=True)

    def _of_unit(self, account_id: str, unit: str) -> Iterator[Slice]:
        yield self._listing(ACCOUNTS, account_id, **{PARENT: unit})
        yield self._listing(UNITS, account_id, **{PARENT: unit})

    def _of_account(self, account_id: str) -> Iterator[Slice]:
        if self.places.are_opted_in(account_id):
            yield self._listing(REGIONS, account_id)
        else:
            yield from self._of_regions(account_id, ())

    def _of_regions(self, account_id: str, opted_in: Collection[str]) -> Iterator[Slice]:
        """Yield the slices of an account that come from no parent."""
        for dataset in self.datasets.values():
            if dataset.for_each is None or dataset.for_each.dataset not in self.datasets:
                for place in self.places.all(dataset.service, account_id, opted_in):
                    yield from (self._slice(dataset, place, bound) for bound in self._pinned(dataset) or [{}])

    def _of_parent(self, ledger: Ledger, parent: Slice) -> Iterator[Slice]:
        """Yield the slices of the parent's account and Region; of all Regions, if the service is not listed there."""
        account_id = parent.account_id
        for dataset in self.datasets.values():
            if dataset.for_each and dataset.for_each.dataset == parent.dataset:
                if dataset.for_each.batch and not ledger.is_complete(parent):
                    continue  # more values may come, and the batches must stay what they are
                there = list(self.places.all(dataset.service, account_id, self._opted_in(ledger, account_id)))
                places = [place for place in there if place.region == parent.region] or there
                for bound in self._pinned(dataset) or self._bindings(ledger, dataset, parent):
                    yield from (self._slice(dataset, place, bound) for place in places)

    def _pinned(self, dataset: Dataset) -> list[dict[str, str]]:
        """Return the bound parameters of each slice, if their values are configured."""
        pins = self.source.pins
        if dataset.for_each is None or not dataset.for_each.bind.keys() <= pins.keys():
            return []
        (parameter,) = dataset.for_each.bind
        return [{parameter: value} for value in pins[parameter]]

    def _slice(self, dataset: Dataset, place: Place, bound: Mapping[str, str]) -> Slice:
        parents = {**dataset.fixed_parents, **bound}
        filters = self._filters[dataset.name]
        return Slice(dataset.name, place.account_id, place.region, parents, filters, self.places.given)

    @cached_property
    def _filters(self) -> Mapping[str, Mapping[str, str]]:
        """The operator's filters as parameters of each dataset's operation."""
        return {name: parameter_names(self.operations[name], self.source.filters) for name in self.datasets}

    def _opted_in(self, ledger: Ledger, account_id: str) -> list[str]:
        """Return the Regions that an account has opted into, if it is listed there; the ledger has them."""
        if not self.places.are_opted_in(account_id):
            return []
        regions = self._records(
            ledger, REGIONS, self._listing(REGIONS, account_id), ("region_name", "region_opt_status")
        )
        return [region["region_name"] for region in regions if self.places.is_enabled(region)]

    def listed(self, ledger: Ledger, dataset: Dataset) -> Iterator[dict[str, str]]:
        """Yield the bound parameters of each slice that a parent lists, in place of which the operator has named some.

        They are those that the ledger has pages of. It reads all of them.
        """
        if dataset.for_each and dataset.for_each.dataset in self.datasets and self._pinned(dataset):
            for facts in ledger.slices(dataset.for_each.dataset):
                yield from self._bindings(ledger, dataset, facts.slice)

    def batched(self, ledger: Ledger, slice_: Slice) -> list[str]:
        """Return the values that the requests of a slice ask for in batches, in the order of the parent's listing."""
        dataset = self.datasets[slice_.dataset]
        assert dataset.for_each is not None
        (name,) = dataset.for_each.batch
        of_slice = {one: slice_.parents[one] for one in dataset.for_each.of_slice}
        # All values come from one slice of the parent: see `_check_batch`. So no other slice is looked at.
        above = self.datasets[dataset.for_each.dataset]
        columns = {column: of_slice[one] for one, column in dataset.for_each.of_slice.items()}
        names = above.for_each.of_slice if above.for_each else ()
        place = Place(slice_.account_id, slice_.region)
        parent = self._slice(above, place, {one: columns[parameter_column(one)] for one in names})
        found = [bound[name] for bound in self._bound(ledger, dataset, parent) if of_slice.items() <= bound.items()]
        return list(dict.fromkeys(found))

    def _bindings(self, ledger: Ledger, dataset: Dataset, parent: Slice) -> Iterator[dict[str, str]]:
        """Yield the bound parameters of each slice that comes from a slice of the parent."""
        assert dataset.for_each is not None
        names = tuple(dataset.for_each.of_slice)
        found = (tuple(bound[name] for name in names) for bound in self._bound(ledger, dataset, parent))
        yield from (dict(zip(names, values, strict=True)) for values in dict.fromkeys(found))

    def _bound(self, ledger: Ledger, dataset: Dataset, parent: Slice) -> Iterator[dict[str, str]]:
        """Yield the values of all bound parameters that the records of a slice of the parent have, each once."""
        assert dataset.for_each is not None
        bind, above = dataset.for_each.bind, self.datasets[parent.dataset]
        given = {column: parent.parents[parameter] for parameter, column in above.slice_columns.items()}
        seen: set[tuple[str, ...]] = set()
        for found in self._records(ledger, above, parent, tuple(bind.values())):
            values = tuple(given.get(column) or found.get(column) or "" for column in bind.values())
            if all(values) and values not in seen:
                seen.add(values)
                yield dict(zip(bind, values, strict=True))

    def _records(
        self, ledger: Ledger, dataset: Dataset, slice_: Slice, columns: tuple[str, ...]
    ) -> Iterator[Mapping[str, str]]:
        """Yield some columns of each record in the pages that the ledger has of a slice."""
        reader = Reader(dataset, self.operations[dataset.name], columns)
        for page in ledger.pages(slice_):
            for record in reader.read(page):
                if not isinstance(record, Misfit):  # it goes to etl_rejects when its dataset is published
                    yield reader.named(record)


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


def _check_parents(datasets: Mapping[str, Dataset], operations: Mapping[str, Operation], places: Places) -> None:
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
        if dataset.for_each.batch:
            _check_batch(dataset, parent, places)


def _check_batch(dataset: Dataset, parent: Dataset, places: Places) -> None:
    """Refuse a batch of values that come from several slices of the parent: nobody would know when all are there."""
    assert dataset.for_each is not None
    bound = dataset.for_each.of_slice.values()
    above = [parameter_column(name) for name in (parent.for_each.of_slice if parent.for_each else ())]
    if missing := [column for column in above if column not in bound]:
        raise ConfigError(
            f"dataset {dataset.name}: for_each has a batch, and {parent.name} has one slice for each "
            f"{', '.join(above)}; bind {', '.join(missing)} too"
        )
    if places.given and places.home(dataset.service) != places.home(parent.service):
        raise ConfigError(
            f"dataset {dataset.name}: for_each has a batch, and only one of {dataset.service} and {parent.service} has "
            "Regions, so the values come from several slices; leave batch out"
        )


def _check_required(datasets: Mapping[str, Dataset], operations: Mapping[str, Operation]) -> None:
    """Refuse missing and unknown parameters: the first request would fail."""
    for name, dataset in datasets.items():
        sent = (*dataset.slice_columns, *(dataset.for_each.batch if dataset.for_each else ()))
        given = {name for name in sent if dataset.parameters.get(name) != BLANK}
        missing = [wanted for wanted in operations[name].required if wanted not in given]
        unknown = [parameter for parameter in sent if parameter not in operations[name].parameters]
        if missing:
            raise ConfigError(
                f"dataset {name}: {operations[name].name} needs {', '.join(missing)}; bind it to a column of another "
                "dataset with `for_each`, or give its value under `parameters`"
            )
        if unknown:
            known = ", ".join(operations[name].parameters) or "none"
            raise ConfigError(f"dataset {name}: {operations[name].name} has no parameter {unknown[0]}; it has {known}")
