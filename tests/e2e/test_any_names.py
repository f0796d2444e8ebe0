"""Names of tables and views, and tags, of services other than Nimble: what readers see in the catalog."""

import json

from support.answers import KEY, Answers, http
from support.job import RUN, Job
from support.shapes import ACCOUNT

LAYERS = """
datasets:
- {name: lambda_layers, service: lambda, operation: list_layers, key: [layer_arn]}
- name: lambda_layer_versions
  service: lambda
  operation: list_layer_versions
  key: [layer_version_arn]
  for_each: {dataset: lambda_layers, bind: {LayerName: layer_name}}
"""
SECRETS = """
datasets: [{name: secrets, service: secretsmanager, operation: list_secrets, key: [arn]}]
bi: {pinned_tags: [Name, it's]}
"""


def job_of(directory, answers, rest):
    return Job(directory, answers.url, KEY, source=f"  account_id: '{ACCOUNT}'", rest=rest, marts=True)


def test_views_belong_to_their_dataset_and_not_to_a_prefix(tmp_path):
    """Layers and layer versions: `lambda_layer_` begins the names of both, and one of them is named like a view."""
    layer = {"LayerName": "a", "LayerArn": "arn:aws:lambda:us-west-2:123456789012:layer:a"}
    version = {"LayerVersionArn": f"{layer['LayerArn']}:1", "Version": 1, "CompatibleRuntimes": ["python3.13"]}
    bodies = {"layers": {"Layers": [layer]}, "versions": {"LayerVersions": [version]}}
    with Answers() as answers:
        answers.choose = lambda path: http(json.dumps(bodies["versions" if "versions" in path else "layers"]).encode())
        job = job_of(tmp_path, answers, LAYERS)

        assert job.finish(*RUN) == 0, job.log

    assert job.ask("select count(*) from bi.lambda_layers_versions") == [(1,)]
    assert job.ask("select layer_name, version from bi.lambda_layer_versions") == [("a", 1)]


def test_pinned_tags_of_a_service_that_sends_keys_and_values_have_their_columns(tmp_path):
    tags = [
        [{"Key": "Name", "Value": "x"}, {"Key": "it's", "Value": "y"}],
        [{"Key": "other", "Value": "z"}, {"Key": "Name"}],
        [{"Key": "Name", "Value": "first"}, {"Key": "Name", "Value": "second"}],
        [],
    ]
    secrets = [{"ARN": f"arn:{i}", "Name": str(i), "Tags": found} for i, found in enumerate(tags)]
    with Answers(http(json.dumps({"SecretList": [*secrets, {"ARN": "arn:4", "Name": "4"}]}).encode())) as answers:
        job = job_of(tmp_path, answers, SECRETS)

        assert job.finish(*RUN) == 0, job.log

    assert job.ask("select name, tag_name, tag_it_s from bi.secrets order by 1") == [
        ("0", "x", "y"), ("1", None, None), ("2", "first", None), ("3", None, None), ("4", None, None),
    ]  # fmt: skip
