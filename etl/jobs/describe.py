"""What the configured datasets fill: tables, columns, and what they mean. Nothing is asked of the source."""

import json
from functools import partial
from typing import Any

import duckdb
import pyarrow as pa

from etl.config import Settings
from etl.extract.datasets import builtin_datasets, select_datasets
from etl.extract.service_model import describe_operation, model_session
from etl.jobs.workplace import content_of
from etl.load.catalog.relations import column_types
from etl.pipeline.plan import Plan
from etl.read.query import ask
from etl.transform.facts import ETL_TABLES
from etl.transform.schema import layout_of


def describe(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Return table -> one row per column: column, type, unit, meaning, api_path, values, sensitive, what is measured.

    What the catalog has is described as its `etl_columns` says: views, marts and `bi` too, with null_rate, first_date
    and last_date. What was not exported yet follows from the model.
    """
    return {**_derived(settings), **_exported(settings)}


def _derived(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Return what follows from the definitions of the datasets and the service models."""
    derived = {}
    with duckdb.connect() as connection:
        for name, schema in _tables(settings).items():
            types = column_types(connection, schema)
            derived[name] = [_column(field, types[field.name]) for field in schema]
    return derived


def _tables(settings: Settings) -> dict[str, pa.Schema]:
    """Return the tables that the configured datasets fill, and those about runs."""
    session = model_session()
    tables: dict[str, pa.Schema] = {}
    for dataset in select_datasets(settings.datasets, settings.privacy.rules).values():
        schemas = layout_of(dataset, describe_operation(session, dataset)).schemas
        tables |= dict(sorted(schemas.items(), key=lambda entry: entry[0] != dataset.name))
    return {**tables, **ETL_TABLES}


def _exported(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Return what the dictionary of the catalog says; nothing where there is none."""
    catalog = settings.warehouse.catalog
    if not catalog.exists() or not ask(catalog, "from duckdb_tables() where table_name = 'etl_columns'").num_rows:
        return {}
    tables: dict[str, list[dict[str, Any]]] = {}
    for row in ask(catalog, "from etl_columns order by schema_name <> 'main', table_name, position").to_pylist():
        prefix = "" if row["schema_name"] == "main" else f"{row['schema_name']}."
        tables.setdefault(prefix + row["table_name"], []).append(
            {
                "column": row["column_name"],
                "type": row["data_type"],
                "unit": row["unit"],
                "meaning": row["meaning"],
                "api_path": row["api_path"],
                "values": ", ".join(row["allowed_values"]) if row["allowed_values"] else None,
                "sensitive": row["is_sensitive"],
                "null_rate": row["null_rate"],
                "first_date": row["first_date"],
                "last_date": row["last_date"],
            }
        )
    return tables


def check(settings: Settings) -> list[str]:
    """Return the names of the tables, after all that can be known to be wrong before the first request.

    Raises:
        ConfigError: a dataset cannot be exported as it is defined.
    """
    content_of(settings)
    Plan.make(
        select_datasets(settings.datasets, settings.privacy.rules),
        [entry if isinstance(entry, str) else entry.name for entry in settings.datasets],
        partial(describe_operation, model_session()),
        settings.source,
        settings.privacy.secret,
    )
    return list(_tables(settings))


def list_datasets(settings: Settings) -> list[dict[str, Any]]:
    """Return one row per known dataset: name, operation, parent, key, whether it is configured."""
    configured = select_datasets(settings.datasets, settings.privacy.rules)
    return [
        {
            "dataset": dataset.name,
            "operation": f"{dataset.service}:{dataset.operation}",
            "for_each": dataset.for_each.dataset if dataset.for_each else None,
            "key": ", ".join(dataset.key),
            "configured": dataset.name in configured,
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
        "null_rate": None,
        "first_date": None,
        "last_date": None,
    }
