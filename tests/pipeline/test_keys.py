"""Keys that lose rows, or may: what is said of them before the first request."""

import pytest

from etl.extract.datasets import builtin_datasets
from etl.extract.service_model import describe_operation, model_session
from etl.model import Dataset
from etl.pipeline.keys import key_doubt

SESSION = model_session()
BY_TYPE = "one of a few values"
OF_SLICE = "a parameter, which is the same in a whole slice"
SHARED = "an owner or a place, which many records share"
IN_DOUBT = [
    # Each of them merges different records of a listing, or rejects them.
    ("ec2 describe_images", "source_image_id", "not known as a name of the image itself"),
    ("ec2 describe_images", "owner_id", SHARED),
    ("ec2 describe_images", "state", BY_TYPE),
    ("ec2 describe_images", "public", BY_TYPE),
    ("ec2 describe_images", "creation_date", "not known as a name of the image itself"),
    ("ec2 describe_launch_template_versions", "launch_template_id", "not known as a name of the launch template"),
    ("ec2 describe_tags", "resource_id", "not known as a name of the tag itself"),
    ("ec2 describe_snapshots", "volume_id", "not known as a name of the snapshot itself"),
    ("autoscaling describe_tags", "resource_id resource_type", "not known as a name of the tag itself"),
    ("cloudformation list_stack_instances", "stack_id", "not enough to tell records apart"),
    ("cloudwatch get_metric_data MetricDataQueries StartTime EndTime", "id", "not enough to tell records apart"),
    ("cloudformation list_stack_instances", "account", SHARED),
    ("rds describe_db_engine_versions", "engine", "not known as a name of the db engine version itself"),
    ("lambda list_layer_versions LayerName", "version", "not known as a name of the layer version itself"),
    ("lambda list_versions_by_function FunctionName", "function_name", OF_SLICE),
    ("iam list_access_keys UserName", "user_name", OF_SLICE),
    ("s3 list_buckets", "bucket_arn", "absent in some records, which are rejected"),
    ("s3 list_object_versions Bucket", "key", "not known as a name of the version itself"),
    ("ecr list_images repositoryName", "image_digest", "not enough to tell records apart"),
    ("route53 list_resource_record_sets HostedZoneId", "type", BY_TYPE),
    ("cloudwatch list_metrics", "metric_name", "not enough to tell records apart"),
]
"""Operation with its parameters, key, and what is said about it."""


def doubt(operation, key):
    service, name, *parameters = operation.split()
    dataset = Dataset.model_validate(
        {"name": "x", "service": service, "operation": name, "key": key.split(),
         "parameters": dict.fromkeys(parameters, "given")}
    )  # fmt: skip
    return key_doubt(dataset, describe_operation(SESSION, dataset))


@pytest.mark.parametrize(("operation", "key", "why"), IN_DOUBT)
def test_what_loses_rows_is_said(operation, key, why):
    assert f": {why}" in doubt(operation, key)


@pytest.mark.parametrize("dataset", builtin_datasets().values(), ids=lambda dataset: dataset.name)
def test_nothing_is_said_of_the_keys_of_the_studios(dataset):
    assert key_doubt(dataset, describe_operation(SESSION, dataset)) is None
