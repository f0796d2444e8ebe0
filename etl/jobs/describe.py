"""The tables that the configured datasets fill, their columns, and what these mean. Nothing is requested."""

import json
from functools import partial
from typing import Any

import duckdb
import pyarrow as pa

from etl.config import EMBEDDED, Settings
from etl.extract.clients import Clients, Endpoint
from etl.extract.datasets import builtin_datasets, select_datasets
from etl.extract.service_model import describe_operation, model_session
from etl.jobs.warehouse import store_of
from etl.jobs.workplace import content_of, plan_of
from etl.load.catalog.relations import column_types
from etl.model import CATALOG_NAME
from etl.read.owners import read_names
from etl.read.query import ask
from etl.transform.facts import ETL_TABLES
from etl.transform.schema import layout_of

_DICTIONARY = """
select case schema_name when 'main' then '' else schema_name || '.' end || table_name as table_name,
    column_name as column, data_type as type, unit, meaning, api_path,
    nullif(array_to_string(allowed_values, ', '), '') as values, is_sensitive as sensitive,
    null_rate, first_date, last_date
from etl_columns order by schema_name <> 'main', table_name, position
"""


def describe(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Return for each table one row per column: column, type, unit, meaning, api_path, values, sensitive, ….

    Tables, views and marts of the catalog are described by its `etl_columns`: they have null_rate, first_date and
    last_date too. Tables that were not exported yet are described by the service model.
    """
    return {**_derived(settings), **_exported(settings)}


def _derived(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Return the columns that follow from the definitions of the datasets and the service models."""
    derived = {}
    with duckdb.connect() as connection:
        for name, schema in _tables(settings).items():
            types = column_types(connection, schema)
            derived[name] = [_column(field, types[field.name]) for field in schema]
    return derived


def _tables(settings: Settings) -> dict[str, pa.Schema]:
    """Return the tables that the configured datasets fill, and those with the facts about runs."""
    session = model_session()
    tables: dict[str, pa.Schema] = {}
    for dataset in select_datasets(settings.datasets, settings.privacy.rules).values():
        schemas = layout_of(dataset, describe_operation(session, dataset)).schemas
        tables |= dict(sorted(schemas.items(), key=lambda entry: entry[0] != dataset.name))
    return {**tables, **ETL_TABLES}


def _exported(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Return the columns in the dictionary of the catalog; none if there is no catalog or no dictionary."""
    store = store_of(settings)
    has_dictionary = "from duckdb_tables() where table_name = 'etl_columns'"
    if not store.exists(store.at(CATALOG_NAME)) or not ask(store, has_dictionary).num_rows:
        return {}
    tables: dict[str, list[dict[str, Any]]] = {}
    for row in ask(store, _DICTIONARY).to_pylist():
        tables.setdefault(row.pop("table_name"), []).append(row)
    return tables


def check(settings: Settings) -> tuple[list[str], list[str]]:
    """Look for every mistake that can be found before the first request.

    Returns:
        The names of the tables, and a sentence for each key that may not identify its records.

    Raises:
        ConfigError: the price table or the file of names is not one, a dataset cannot be exported as it is defined,
            or the AWS configuration of this machine lacks a profile.
    """
    content_of(settings)
    if settings.report.names:
        read_names(settings.report.names)
    plan = plan_of(settings, partial(describe_operation, model_session()))
    if settings.source.endpoint_url != EMBEDDED:
        for profile in {None, *(account.profile for account in settings.source.accounts)}:
            Clients(settings.source, Endpoint(), profile=profile).endpoint_of("sts")  # which reads the profile
    return list(_tables(settings)), list(plan.key_doubts())


def list_datasets(settings: Settings) -> list[dict[str, Any]]:
    """Return one row per known dataset: dataset, configured, operation, for_each (its parent), key."""
    configured = select_datasets(settings.datasets, settings.privacy.rules)
    return [
        {
            "dataset": dataset.name,
            "configured": dataset.name in configured,
            "operation": f"{dataset.service}:{dataset.operation}",
            "for_each": dataset.for_each.dataset if dataset.for_each else None,
            "key": ", ".join(dataset.key) or "[]",
        }
        for dataset in {**builtin_datasets(), **configured}.values()
    ]


def _column(field: pa.Field, data_type: str) -> dict[str, Any]:
    metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    return {
        "column": field.name,
        "type": data_type,
        "unit": metadata.get("unit"),
        "meaning": metadata.get("description", ""),
        "api_path": metadata.get("api_path"),
        "values": ", ".join(json.loads(metadata["enum"])) if "enum" in metadata else None,
        "sensitive": "sensitive" in metadata,
        **dict.fromkeys(("null_rate", "first_date", "last_date")),
    }
