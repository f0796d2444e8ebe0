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


TAGGED = """
datasets: [{name: secrets, service: secretsmanager, operation: list_secrets, key: [arn], tags: map}]
bi: {pinned_tags: [Name]}
"""


def listing(*tags):
    """Return an answer with one secret for each list of tags."""
    secrets = [{"ARN": f"arn:{i}", **({} if found is None else {"Tags": found})} for i, found in enumerate(tags)]
    return http(json.dumps({"SecretList": secrets}).encode())


def pairs(**tags):
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def test_tags_that_arrive_as_keys_and_values_are_a_map_and_a_tall_table(tmp_path):
    """As those of Nimble are, privacy included. What no map can hold is a reject."""
    doubled = [{"Key": "Name", "Value": "1"}, {"Key": "Name", "Value": "2"}]
    with Answers(listing(pairs(Name="x", Owner="me"), [], None, pairs(name="y"), doubled, [{"Value": "z"}])) as answers:
        job = job_of(tmp_path, answers, f"{TAGGED}privacy: {{rules: {{secrets: {{tags.Owner: drop}}}}}}")

        assert job.finish(*RUN) == 5, job.log

    assert job.ask("select arn, tags from secrets order by 1") == [
        ("arn:0", {"Name": "x"}), ("arn:1", {}), ("arn:2", None), ("arn:3", {"name": "y"}),
    ]  # fmt: skip
    assert job.ask("select arn, key, value from secret_tags order by 1") == [
        ("arn:0", "Name", "x"), ("arn:3", "name", "y"),
    ]  # fmt: skip
    assert job.ask("select arn, tag_name from bi.secrets order by 1")[0] == ("arn:0", "x")
    assert job.ask("select reason from etl_rejects") == [("Tags does not fit its type; its value is private",)] * 2
    assert job.problems() == []


def test_a_warehouse_goes_on_with_lists_and_goes_over_to_maps_as_the_message_says(tmp_path):
    with Answers(listing(pairs(Name="x"), pairs(b="c", a="d"))) as answers:
        job = job_of(tmp_path, answers, TAGGED.replace(", tags: map", ""))
        assert job.finish(*RUN) == 0, job.log
        assert job.ask("select tags[1].value from secrets order by arn") == [("x",), ("c",)]
        job.config.write_text(job.config.read_text().replace("key: [arn]", "key: [arn], tags: map"))

        assert job.finish("run", "--snapshot-date", "2026-11-21") == 1, job.log

    assert "column tags is" in job.log
    assert "Move the table away to begin a new one" in job.log
    for table in ("secrets", "secret_tags", "secret_changes"):
        (tmp_path / "warehouse" / table).rename(tmp_path / f"former_{table}")
    assert job.finish("replay", "--since", "2026-11-20", "--allow-fall") == 0, job.log
    assert job.ask("select snapshot_date::varchar, tags from secrets_history order by 1, arn") == [
        (date, tags) for date in ("2026-11-20", "2026-11-21") for tags in ({"Name": "x"}, {"b": "c", "a": "d"})
    ]
    assert job.problems() == []
