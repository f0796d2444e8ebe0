"""Any list operation of boto3, by configuration alone: moto's server speaks every protocol that AWS speaks to boto3.

What is exported is compared with what a plain boto3 paginator returns, member by member, by a conversion of its own.
"""

import io
import json
import re
import time
import zipfile
from collections import Counter
from dataclasses import dataclass
from functools import partial

import jmespath
import pyarrow as pa
import pytest
from support.cloud import ACCOUNT, KEY, REGION, Cloud, columns, exported
from support.engines import content
from support.engines import exported as night
from support.job import Job

from etl.jobs.reading import Reading

DATASETS = """
datasets:
- {name: instances, service: ec2, operation: describe_instances, key: [instance_id],
   result_key: "Reservations[].Instances[]", page_size: 5}
- {name: reservations, service: ec2, operation: describe_instances, key: [reservation_id], page_size: 6}
- {name: volumes, service: ec2, operation: describe_volumes, key: [volume_id]}
- {name: buckets, service: s3, operation: list_buckets, key: [name], order_by: creation_date}
- {name: objects, service: s3, operation: list_objects_v2, key: [key], page_size: 3,
   for_each: {dataset: buckets, bind: {Bucket: name}}}
- {name: versions, service: s3, operation: list_object_versions, key: [key, version_id], page_size: 3,
   parameters: {Bucket: alpha}}
- {name: delete_markers, service: s3, operation: list_object_versions, key: [key, version_id], page_size: 4,
   parameters: {Bucket: alpha}, result_key: DeleteMarkers}
- {name: users, service: iam, operation: list_users, key: [arn]}
- {name: roles, service: iam, operation: list_roles, key: [arn], page_size: 3}
- {name: dynamodb_tables, service: dynamodb, operation: list_tables, key: [value], page_size: 3}
- {name: metrics, service: cloudwatch, operation: list_metrics, key: [metric_name], parameters: {Namespace: ns}}
- {name: log_groups, service: logs, operation: describe_log_groups, key: [arn], page_size: 3}
- {name: queues, service: sqs, operation: list_queues, key: [value], page_size: 3, allow_missing_list: true}
- {name: zones, service: route53, operation: list_hosted_zones, key: [id], page_size: 3}
- {name: ecs_clusters, service: ecs, operation: list_clusters, key: [value]}
- {name: topics, service: sns, operation: list_topics, key: [topic_arn]}
- {name: streams, service: kinesis, operation: list_streams, key: [value]}
- {name: functions, service: lambda, operation: list_functions, key: [function_arn]}
- {name: secrets, service: secretsmanager, operation: list_secrets, key: [arn], page_size: 3}
- {name: channels, service: medialive, operation: list_channels, key: [arn], page_size: 3}
- {name: eks_clusters, service: eks, operation: list_clusters, key: [value], page_size: 2}
- {name: iot_things, service: iot, operation: list_things, key: [thing_arn], page_size: 2}
- {name: launch_configurations, service: autoscaling, operation: describe_launch_configurations,
   key: [launch_configuration_arn], page_size: 3}
- {name: key_pairs, service: ec2, operation: describe_key_pairs, key: [key_pair_id]}
- {name: addresses, service: ec2, operation: describe_addresses, key: [public_ip]}
- {name: delivery_streams, service: firehose, operation: list_delivery_streams, key: [value], page_size: 3}
- {name: log_events, service: logs, operation: get_log_events, key: [message], page_size: 3,
   parameters: {logGroupName: /group/0, logStreamName: stream}}
"""
WITHOUT_PAGINATOR = {
    "key_pairs": ("KeyPairs", None, None),
    "addresses": ("Addresses", None, None),
    "delivery_streams": (
        "DeliveryStreamNames", "ExclusiveStartDeliveryStreamName", "HasMoreDeliveryStreams && DeliveryStreamNames[-1]",
    ),
    "log_events": ("events", "nextToken", "nextForwardToken"),
}  # fmt: skip
"""Dataset -> its list, the parameter that takes the token, and where the next one is."""
SERIAL = "run: {concurrency: 1}\n"
"""One walk at a time: a kill right after a page was stored then leaves no other request in flight."""


@pytest.fixture(scope="module")
def cloud():
    with Cloud() as cloud:
        populate(cloud.client)
        yield cloud


def populate(client):
    """Create a few of everything, with text that is hard to carry."""
    ec2 = client("ec2")
    for n in (1, 2, 1, 3, 1, 1, 2):
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": f"ä&<{n}>"}]}]
        ec2.run_instances(ImageId="ami-12c6146b", MinCount=n, MaxCount=n, TagSpecifications=tags)
    s3 = client("s3")
    for bucket in ("alpha", "beta"):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        for i in range(7):
            s3.put_object(Bucket=bucket, Key=f"k {i}/ä&<>+%.txt", Body=b"x" * i)
        s3.put_object(Bucket=bucket, Key="k 1/ä&<>+%.txt", Body=b"new")
        s3.delete_object(Bucket=bucket, Key="k 2/ä&<>+%.txt")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("a.py", "")
    iam, table = client("iam"), {"KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}]}
    iam.create_role(RoleName="lambda", AssumeRolePolicyDocument=trust)
    role = f"arn:aws:iam::{ACCOUNT}:role/lambda"
    table |= {"AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}], "BillingMode": "PAY_PER_REQUEST"}
    for i in range(7):
        iam.create_user(UserName=f"user{i}", Path="/p/")
        iam.create_role(RoleName=f"role{i}", AssumeRolePolicyDocument=trust)
        client("dynamodb").create_table(TableName=f"table{i}", **table)
        client("logs").create_log_group(logGroupName=f"/group/{i}")
        client("sqs").create_queue(QueueName=f"queue{i}")
        client("route53").create_hosted_zone(Name=f"zone{i}.example.", CallerReference=str(i))
        client("ecs").create_cluster(clusterName=f"cluster{i}")
        client("kinesis").create_stream(StreamName=f"stream{i}", ShardCount=1)
        client("lambda").create_function(
            FunctionName=f"function{i}", Runtime="python3.11", Role=role, Handler="a.f",
            Code={"ZipFile": code.getvalue()}, Environment={"Variables": {"A": "b"}},
        )  # fmt: skip
        client("secretsmanager").create_secret(Name=f"s{i}", SecretString="x", Tags=[{"Key": "a", "Value": "b"}])
        client("medialive").create_channel(Name=f"channel{i}", Tags={"a": "b"})
        client("iot").create_thing(thingName=f"thing{i}", attributePayload={"attributes": {"a": "b", "c": ""}})
        client("eks").create_cluster(name=f"cluster{i}", roleArn=role, resourcesVpcConfig={})
        ec2.create_key_pair(KeyName=f"key{i}")
        ec2.allocate_address(Domain="vpc")
        client("firehose").create_delivery_stream(
            DeliveryStreamName=f"stream{i}",
            S3DestinationConfiguration={"RoleARN": role, "BucketARN": "arn:aws:s3:::alpha"},
        )
        client("autoscaling").create_launch_configuration(
            LaunchConfigurationName=f"l{i}", ImageId="ami-12c6146b", InstanceType="t2.micro"
        )
    client("logs").create_log_stream(logGroupName="/group/0", logStreamName="stream")
    now = int(time.time() * 1000)
    client("logs").put_log_events(
        logGroupName="/group/0", logStreamName="stream",
        logEvents=[{"timestamp": now + i, "message": f"ä {i}"} for i in range(7)],
    )  # fmt: skip
    for i in range(104):
        client("sns").create_topic(Name=f"topic{i}")
    for start in range(0, 520, 20):
        some = [
            {"MetricName": f"metric{i}", "Value": 1.5, "Dimensions": [{"Name": "d", "Value": f"v{i}"}]}
            for i in range(start, start + 20)
        ]
        client("cloudwatch").put_metric_data(Namespace="ns", MetricData=some)


def job_against(cloud, directory, datasets=DATASETS):
    return Job(directory, cloud.url, KEY, source=f"  region: {REGION}", rest=datasets + SERIAL)


# What plain boto3 says


@dataclass
class Expected:
    """A listing: its rows, by column, without what is absent; and how many pages it had."""

    rows: list
    pages: int


def listed(client, dataset):
    """Return what a plain boto3 paginator lists for a dataset."""
    if dataset.name in WITHOUT_PAGINATOR:
        result_key, *_ = WITHOUT_PAGINATOR[dataset.name]
        pages_of = plain_loop(client, dataset)
    else:
        paginator = client.get_paginator(dataset.operation)
        result_key = dataset.result_key or next(iter(as_list(paginator._pagination_cfg["result_key"])))
        pages_of = partial(paginator.paginate, PaginationConfig={"PageSize": dataset.page_size})
    shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[dataset.operation]).output_shape
    for name in re.findall(r"\w+", result_key):
        shape = shape.members[name]
        shape = shape.member if shape.type_name == "list" else shape
    slices = [{"Bucket": name} for name in ("alpha", "beta")] if dataset.for_each else [dataset.parameters]
    rows, count = [], 0
    for parameters in slices:
        pages = list(pages_of(**parameters))
        count += len(pages)
        for page in pages:
            for record in jmespath.search(result_key, page) or []:
                flat = columns(shape, record) if shape.type_name == "structure" else [("value", record)]
                rows.append({name: value for name, value in flat if value is not None})
    return Expected(rows, count)


def plain_loop(client, dataset):
    """Return a function that yields the pages of an operation, as its documentation says they are asked for."""
    _, taken, held = WITHOUT_PAGINATOR[dataset.name]
    more = {
        "delivery_streams": {"Limit": dataset.page_size},
        "log_events": {"limit": dataset.page_size, "startFromHead": True},
    }.get(dataset.name, {})

    def pages(**parameters):
        token = None
        while True:
            page = getattr(client, dataset.operation)(**parameters, **more, **({taken: token} if token else {}))
            yield page
            following = jmespath.search(held, page) if held else None
            if not following or following == token:
                return
            token = following

    return pages


def as_list(value):
    return value if isinstance(value, list) else [value]


def in_order(rows, dataset):
    return sorted(rows, key=lambda row: [row[name] for name in dataset.key])


def check(job, cloud):
    """Compare every table of a job with what boto3 lists."""
    protocols, pages = Counter(), {}
    for dataset in job.settings().datasets:
        client = cloud.client(dataset.service)
        expected = listed(client, dataset)
        assert expected.rows, dataset.name
        assert in_order(exported(job, dataset), dataset) == in_order(expected.rows, dataset), dataset.name
        protocols[client.meta.service_model.resolved_protocol] += 1
        pages[dataset.name] = expected.pages
    return protocols, pages


def in_one_order(request):
    """Return a request as its parameters, sorted: who resumes a walk may name the token before the page size."""
    return tuple(sorted(re.split(r"[&?{} ]|, ", request)))


def test_every_protocol_is_exported_as_boto3_lists_it_although_killed_after_every_few_pages(cloud, tmp_path):
    """No page that was stored is asked for again, whatever its protocol and tokens are.

    A kill costs at most one request: that for the next page, which is under way while a page is stored.
    """
    job = job_against(cloud, tmp_path / "job")
    before = len(cloud.requests)
    kills = 0
    while exit_code := job.finish("run", NIMBLE_ETL_FAILPOINT="page.stored:13"):
        assert exit_code == -9, job.log
        kills += 1
    requests = cloud.requests[before:]

    assert kills >= 4
    protocols, pages = check(job, cloud)
    assert protocols.keys() == {"ec2", "query", "rest-xml", "json", "rest-json"}
    assert Counter(dict(job.ask("select dataset, count(*) from etl_pages group by all"))) == Counter(pages)
    whole = {in_one_order(request) for request in requests if " POST " not in request or not request.endswith(" b''")}
    assert len(whole) == sum(pages.values())
    assert len(requests) - len(whole) <= kills


BATCHES = """
datasets:
- {name: clusters, service: ecs, operation: list_clusters, key: [value]}
- {name: services, service: ecs, operation: list_services, key: [value], page_size: 2,
   for_each: {dataset: clusters, bind: {cluster: value}}}
- {name: details, service: ecs, operation: describe_services, key: [service_arn], result_key: services,
   for_each: {dataset: services, bind: {cluster: cluster, services: value}, batch: {services: 2}}}
"""


@pytest.fixture(scope="module")
def services(cloud):
    """Two clusters with five services and one; the others have none."""
    ecs = cloud.client("ecs")
    ecs.register_task_definition(family="f", containerDefinitions=[{"name": "c", "image": "i", "memory": 1}])
    for cluster, count in ("cluster0", 5), ("cluster1", 1):
        for i in range(count):
            ecs.create_service(cluster=cluster, serviceName=f"service{i}", taskDefinition="f", desiredCount=i)


@pytest.mark.usefixtures("services")
def test_a_list_of_values_is_asked_for_batch_after_batch_although_killed_at_every_page(cloud, tmp_path):
    job = job_against(cloud, tmp_path / "job", BATCHES)
    before, kills = len(cloud.requests), 0
    while exit_code := job.finish("run", NIMBLE_ETL_FAILPOINT="page.stored:2"):
        assert exit_code == -9, job.log
        kills += 1
    requests = cloud.requests[before:]

    assert kills >= 5
    assert len(requests) == len(set(map(in_one_order, requests))), "no page that was stored is asked for again"
    details = next(dataset for dataset in job.settings().datasets if dataset.name == "details")
    ecs = cloud.client("ecs")
    shape = ecs.meta.service_model.operation_model("DescribeServices").output_shape.members["services"].member
    found = [
        record
        for cluster in ecs.list_clusters()["clusterArns"]
        for name in ecs.list_services(cluster=cluster, maxResults=100)["serviceArns"]
        for record in ecs.describe_services(cluster=cluster, services=[name])["services"]
    ]
    rows = [{name: value for name, value in columns(shape, record) if value is not None} for record in found]
    assert len(rows) == 6
    assert in_order(exported(job, details), details) == in_order(rows, details)
    pages = "select list(records order by page_number) from etl_pages where dataset = 'details' group by slice_id"
    assert sorted(job.ask(pages)) == [([1],), ([2, 2, 1],)]
    assert job.problems() == []


@pytest.mark.usefixtures("services")
def test_a_reading_asks_for_the_batches_of_a_night(cloud, tmp_path, monkeypatch):
    """Its workers do not have the listing that the values come from."""
    job = job_against(cloud, tmp_path / "job", BATCHES).lend_credentials(monkeypatch)
    assert job.finish("run") == 0, job.log
    wanted = Reading.of(job.settings(datasets=["details"]))

    parts = wanted.parts()
    found = pa.Table.from_batches([rows for part in parts for rows in wanted.read(part)])

    assert sorted(len(part.batched) for part in parts) == [1, 5]
    assert content(found) == content(night(job, "details"))


@pytest.mark.usefixtures("services")
def test_values_that_come_grow_the_batches_of_one_slice(cloud, tmp_path):
    """Were each batch a slice, all of them would become other slices when one value comes."""
    job = job_against(cloud, tmp_path / "job", BATCHES)
    assert job.finish("run", "--snapshot-date", "2026-11-20") == 0, job.log
    new = {"cluster": "cluster0", "serviceName": "another", "taskDefinition": "f", "desiredCount": 1}
    cloud.client("ecs").create_service(**new)
    assert job.finish("run", "--snapshot-date", "2026-11-21") == 0, job.log

    assert job.ask("select count(*), count(distinct slice_id) from details") == [(7, 2)]
    changed = "select change, service_name from detail_changes where snapshot_date = '2026-11-21'"
    assert job.ask(changed) == [("appeared", "another")]
    assert job.cli("status").returncode == 0


@pytest.mark.usefixtures("services")
def test_batches_wait_for_all_pages_of_their_parent(cloud, tmp_path):
    """What comes after a batch was asked for would be in none."""
    job = job_against(cloud, tmp_path / "job", BATCHES)
    assert job.finish("run", "--max-items", "2") == 3, job.log
    while (exit_code := job.finish("run", "--max-items", "2")) == 3:
        pass
    assert exit_code == 0, job.log
    assert job.ask("select count(*) from details") == job.ask("select count(*) from services")
    assert job.ask("select count(*) > 5 from details") == [(True,)]


@pytest.mark.parametrize(
    ("for_each", "message"),
    [
        ("{dataset: services, bind: {cluster: cluster, services: value}, batch: {names: 2}}", "batch names names"),
        ("{dataset: services, bind: {cluster: cluster, services: value}, batch: {services: 0}}", "expected at least 1"),
        ("{dataset: services, bind: {services: value}, batch: {services: 2}}", "bind cluster too"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(cloud, tmp_path, for_each, message):
    text = BATCHES.replace(
        "{dataset: services, bind: {cluster: cluster, services: value}, batch: {services: 2}}", for_each
    )
    job = job_against(cloud, tmp_path / "job", text)
    ended = job.cli("config", "check")
    assert ended.returncode == 2
    assert message in ended.stderr
