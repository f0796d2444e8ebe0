"""How operations page that botocore has no paginator for: by their names, in one page, or as a dataset says.

The models are botocore's own. The real boto3 client talks to a socket on loopback that answers with what a test says.
"""

import itertools
import json

import pytest
from botocore.paginate import TokenDecoder, TokenEncoder
from pydantic import ValidationError
from support.answers import http
from support.shapes import part

from etl.errors import ConfigError, SourceError, TransientSourceError
from etl.extract.paging import listings, paging_of
from etl.extract.service_model import describe_operation, model_session
from etl.extract.walk import walk
from etl.model import Checkpoint, Dataset, Paginate

SESSION = model_session()
NUMBERS = itertools.count()


def dataset(service, operation, *key, **rest):
    """Return a dataset whose name no other has: a source knows each by its name."""
    return Dataset(name=f"pages{next(NUMBERS)}", service=service, operation=operation, key=key or ("value",), **rest)


def definition(service, name, result_key=None):
    found = paging_of(SESSION, service, SESSION.get_service_model(service).operation_model(name), result_key)
    return found.origin, dict(found.definition)


def as_json(**members):
    return http(json.dumps(members).encode())


def walked(source, chosen, server, *pages, most=None):
    """Walk a dataset whose service gives these pages, and return the records, and what was sent."""
    source.operation(chosen)
    server.queue = list(pages)
    slice_ = part(dataset=chosen.name, parents=chosen.fixed_parents)

    def fetch(number, token, left):
        return source.fetch_page(chosen, slice_, number, token, left)

    found = list(walk(slice_, fetch, Checkpoint(), max_items=most, max_pages=9, stopped=lambda: False))
    key = source.operation(chosen).result_key
    return [record for page in found for record in json.loads(page.body)[key][page.first : page.stop]], server.sent


# What the names say


@pytest.mark.parametrize(
    ("service", "name", "expected"),
    [
        ("wafv2", "ListIPSets", ("NextMarker", "NextMarker", "IPSets", "Limit", None)),
        ("athena", "ListWorkGroups", ("NextToken", "NextToken", "WorkGroups", "MaxResults", None)),
        ("dynamodbstreams", "ListStreams",
         ("ExclusiveStartStreamArn", "LastEvaluatedStreamArn", "Streams", "Limit", None)),
        ("cloudfront", "ListFunctions", ("Marker", "FunctionList.NextMarker", "FunctionList.Items", "MaxItems", None)),
        ("cloudfront", "ListVpcOrigins",
         ("Marker", "VpcOriginList.NextMarker", "VpcOriginList.Items", "MaxItems", "VpcOriginList.IsTruncated")),
        ("pinpoint", "GetApps",
         ("Token", "ApplicationsResponse.NextToken", "ApplicationsResponse.Item", "PageSize", None)),
        ("ecs", "DescribeCapacityProviders", ("nextToken", "nextToken", "capacityProviders", "maxResults", None)),
    ],
)  # fmt: skip
def test_names_of_tokens_lists_and_limits_give_the_definition_that_botocore_would_have(service, name, expected):
    words = ("input_token", "output_token", "result_key", "limit_key", "more_results")
    origin, found = definition(service, name)
    assert origin == "names"
    assert tuple(found.get(word) for word in words) == expected


@pytest.mark.parametrize(
    ("service", "name", "result_key"),
    [
        ("ec2", "DescribeAddresses", "Addresses"), ("ec2", "DescribeKeyPairs", "KeyPairs"),
        ("cloudtrail", "DescribeTrails", "trailList"), ("ecs", "DescribeServices", "services"),
        ("config", "DescribeConfigurationRecorders", "ConfigurationRecorders"),
        ("securityhub", "BatchGetAutomationRules", "Rules"), ("route53", "ListTagsForResource", "ResourceTagSet.Tags"),
    ],
)  # fmt: skip
def test_operation_without_anything_like_a_token_is_one_page(service, name, result_key):
    assert definition(service, name) == (
        "one page", {"input_token": [], "output_token": [], "result_key": result_key},
    )  # fmt: skip


def test_what_botocore_defines_stays_as_botocore_has_it():
    model = SESSION.get_paginator_model("s3").get_paginator("ListObjectVersions")
    assert definition("s3", "ListObjectVersions") == ("botocore", model)


def test_listings_begin_with_those_of_botocore_and_name_the_list_that_is_meant_first():
    found = listings(SESSION, "ecs")
    assert (
        list(found)[: len(SESSION.get_paginator_model("ecs")._paginator_config)]
        == [
            name
            for name in found
            if name.startswith("list_") and name not in ("list_attributes_", "list_tags_for_resource")
        ][: len(SESSION.get_paginator_model("ecs")._paginator_config)]
    )
    assert found["describe_clusters"] == ("clusters", "failures")
    assert "describe_task_definition" not in listings(SESSION, "eks")
    assert "run_task" not in found
    assert "get_domain" not in listings(SESSION, "datazone"), "a record with a list in it is no listing"


@pytest.mark.parametrize(
    ("service", "operation", "says"),
    [
        ("ec2", "run_instances", "RunInstances: its name does not say that it only reads"),
        ("sqs", "list_message_move_tasks", "it takes MaxResults, and returns no token; `paginate` can say it"),
        ("kinesis", "get_records", "it takes ShardIterator, Limit, and returns NextShardIterator; `paginate`"),
        ("directconnect", "describe_connections_on_interconnect", "it takes no token, and returns nextToken"),
        ("rekognition", "search_faces", "it takes MaxFaces, and returns no token"),
        ("elasticache", "list_allowed_node_type_modifications", "lists ScaleUpModifications, ScaleDownModifications;"),
        ("deadline", "get_farm", "GetFarm: its responses have no list, and no structure that could be a record"),
        ("eks", "describe_cluster", "its responses have no list; `result_key` makes one record of cluster$"),
    ],
)
def test_what_could_give_half_a_listing_is_refused_with_what_is_so(service, operation, says):
    with pytest.raises(ConfigError, match=says):
        describe_operation(SESSION, dataset(service, operation))


def test_result_key_chooses_one_of_several_lists():
    chosen = dataset("elasticache", "list_allowed_node_type_modifications", result_key="ScaleUpModifications")
    assert describe_operation(SESSION, chosen).pager.result == "ScaleUpModifications"


# Walks


def test_derived_tokens_are_followed_to_the_end(source, answers):
    chosen = dataset("athena", "list_work_groups", "name", page_size=1)
    pages = [as_json(WorkGroups=[{"Name": "a"}], NextToken="t1"), as_json(WorkGroups=[{"Name": "b"}])]
    records, sent = walked(source, chosen, answers(), *pages)
    assert source.operation(chosen).pager is None, "its bodies are kept as they arrive"
    assert [record["Name"] for record in records] == ["a", "b"]
    assert sent == [{"MaxResults": 1}, {"MaxResults": 1, "NextToken": "t1"}]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_walk_with_derived_tokens_goes_on_where_it_was_cut(source, answers, most):
    """The starting token is botocore's, as for its own paginators: with the place inside a page."""
    chosen = dataset("athena", "list_work_groups", "name")
    listing = {None: ("ab", "t1"), "t1": ("cd", "t2"), "t2": ("e", None)}
    server, found, token = answers(), [], None
    source.operation(chosen)
    while token is not None or not found:
        at = TokenDecoder().decode(token).get("NextToken") if token else None
        names, following = listing[at]
        rest = {"NextToken": following} if following else {}
        server.queue = [as_json(WorkGroups=[{"Name": name} for name in names], **rest)]
        page = source.fetch_page(chosen, part(dataset=chosen.name, parents={}), 1, token, most)
        assert page.kept <= most
        found += [record["Name"] for record in json.loads(page.body)["WorkGroups"][page.first : page.stop]]
        token = page.next_starting_token
    assert found == list("abcde")


def test_one_page_is_all_and_is_cut_and_continued_like_any_other(source, answers):
    chosen = dataset("cloudtrail", "describe_trails", "name")
    body = as_json(trailList=[{"Name": name} for name in "abc"])
    records, sent = walked(source, chosen, answers(), body)
    assert [record["Name"] for record in records] == ["a", "b", "c"]
    assert sent == [{}]
    first = source.fetch_page(chosen, part(dataset=chosen.name, parents={}), 1, None, 2)
    assert (first.kept, TokenDecoder().decode(first.next_starting_token)) == (2, {"boto_truncate_amount": 2})
    rest = source.fetch_page(chosen, part(dataset=chosen.name, parents={}), 2, first.next_starting_token, 2)
    assert (rest.first, rest.stop, rest.next_starting_token) == (2, 3, None)


def test_token_that_comes_back_ends_a_listing_that_is_known_to_end_so(source, answers):
    """CloudWatch Logs repeats its last token; a first page that begins at the end would miss all events before."""
    chosen = dataset("logs", "get_log_events", "message", parameters={"logGroupName": "g", "logStreamName": "s"})

    def events(*messages, token):
        return as_json(events=[{"message": text} for text in messages], nextForwardToken=token, nextBackwardToken="b")

    pages = [events("a", token="f/1"), events("b", token="f/2"), events(token="f/2")]
    records, sent = walked(source, chosen, answers(), *pages)
    assert [record["message"] for record in records] == ["a", "b"]
    assert [(request.get("nextToken"), request["startFromHead"]) for request in sent] == [
        (None, True), ("f/1", True), ("f/2", True),
    ]  # fmt: skip
    assert "startFromHead" not in source.operation(chosen).parameters, "nobody can begin at the end"


def test_token_that_comes_back_elsewhere_is_an_error(source, answers):
    chosen = dataset("athena", "list_work_groups", "name")
    page = as_json(WorkGroups=[{"Name": "a"}], NextToken="t1")
    with pytest.raises(SourceError, match="its next token was followed before"):
        walked(source, chosen, answers(), page)


def test_last_item_of_a_page_is_the_token_where_the_service_has_it_so(source, answers):
    chosen = dataset("firehose", "list_delivery_streams", page_size=2)
    pages = [
        as_json(DeliveryStreamNames=["a", "b"], HasMoreDeliveryStreams=True),
        as_json(DeliveryStreamNames=["c"], HasMoreDeliveryStreams=False),
    ]
    records, sent = walked(source, chosen, answers(), *pages)
    assert [record["value"] for record in records] == ["a", "b", "c"]
    assert sent == [{"Limit": 2}, {"Limit": 2, "ExclusiveStartDeliveryStreamName": "b"}]


def test_structure_is_one_record_of_its_response(source, answers):
    chosen = dataset("eks", "describe_cluster", "arn", result_key="cluster", parameters={"name": "c"})
    page = as_json(cluster={"arn": "arn:c", "status": "ACTIVE"})
    for most in (None, 1):
        records, _ = walked(source, chosen, answers(), page, most=most)
        assert [(record["arn"], record["status"]) for record in records] == [("arn:c", "ACTIVE")]
    with pytest.raises(TransientSourceError, match="'cluster' is missing"):
        walked(source, chosen, answers(), as_json())


def test_parameter_that_takes_a_list_is_bound_to_one_value(source, answers):
    """DescribeServices takes up to ten names: one slice for each keeps the slices the same from night to night."""
    for_each = {"dataset": "ecs_services", "bind": {"cluster": "cluster", "services": "value"}}
    chosen = dataset("ecs", "describe_services", "service_arn", for_each=for_each, result_key="services")
    source.operation(chosen)
    server = answers(as_json(services=[{"serviceArn": "s"}], failures=[]))
    slice_ = part(dataset=chosen.name, parents={"cluster": "c", "services": "s"})
    assert source.fetch_page(chosen, slice_, 1, None, None).records == 1
    assert server.sent == [{"cluster": "c", "services": ["s"]}]


# What a dataset says


def given(**paginate):
    """Return a dataset of an operation that refuses to be derived."""
    return dataset("deadline", "search_jobs", "job_id", paginate=Paginate(**paginate), parameters={"farmId": "f"})


def test_paginate_says_how_an_operation_pages(source, answers):
    words = {"input_token": "itemOffset", "output_token": "nextItemOffset", "result_key": "jobs"}
    first = {"farmId": "f", "queueIds": ["q"], "itemOffset": 0}
    chosen = given(**words, limit_key="pageSize").model_copy(update={"parameters": first, "page_size": 2})
    operation = source.operation(chosen)
    assert {"farmId", "itemOffset"} < set(operation.parameters), "a token that must be sent has a first value"
    assert "pageSize" not in operation.parameters
    pages = [as_json(jobs=[{"jobId": "a"}], nextItemOffset=1), as_json(jobs=[{"jobId": "b"}])]
    records, sent = walked(source, chosen, answers(), *pages)
    assert [record["jobId"] for record in records] == ["a", "b"]
    assert [(request["itemOffset"], request["pageSize"]) for request in sent] == [(0, 2), (1, 2)]


def test_paginate_without_tokens_is_one_page():
    chosen = dataset("sqs", "list_message_move_tasks", "task_handle", paginate=Paginate(result_key="Results"))
    found = describe_operation(SESSION, chosen)
    assert (found.result_key, found.input_token, found.token_key) == ("Results", "", "")


@pytest.mark.parametrize(
    ("paginate", "says"),
    [
        ({"input_token": "itemOfset", "output_token": "nextItemOffset"},
         r"paginate: input_token: it has no parameter 'itemOfset' \(did you mean itemOffset\?\)"),
        ({"input_token": "itemOffset", "output_token": "nextItemOfset"},
         r"paginate: its responses have no member 'nextItemOfset' \(did you mean nextItemOffset\?\)"),
        ({"input_token": "itemOffset", "output_token": "[["}, r"paginate: '\[\[' is no path: "),
        ({"limit_key": "size"}, "paginate: limit_key: it has no parameter 'size'"),
        ({"result_key": "Jobs"}, "its responses have no member 'Jobs'"),
    ],
)  # fmt: skip
def test_paginate_that_names_what_is_not_there_is_refused(paginate, says):
    with pytest.raises(ConfigError, match=f"SearchJobs: {says}"):
        describe_operation(SESSION, given(**paginate))


@pytest.mark.parametrize(
    ("paginate", "says"),
    [
        ({"input_token": "a"}, "expected equally many tokens"),
        ({"input_token": ["a", "b"], "output_token": "c"}, "expected equally many tokens"),
        ({"ends_with_same_token": True}, "there is one page and nothing that follows"),
        ({"more_results": "x"}, "there is one page and nothing that follows"),
    ],
)
def test_paginate_must_make_sense(paginate, says):
    with pytest.raises(ValidationError, match=says):
        Paginate(**paginate)


def test_size_of_pages_is_refused_where_there_is_none():
    with pytest.raises(ConfigError, match="page_size: DescribeTrails takes no size of pages; leave it out"):
        describe_operation(SESSION, dataset("cloudtrail", "describe_trails", "name", page_size=3))


def test_datasets_without_the_setting_have_the_digests_of_former_versions():
    """A run that a former version began is gone on with only if its request is the same."""
    assert "paginate" not in dataset("sns", "list_topics", "topic_arn").model_dump(mode="json")
    kept = given(result_key="jobs")
    assert Dataset.model_validate_json(kept.model_dump_json()) == kept


def test_starting_token_of_a_derived_operation_is_encoded_by_botocore(source, answers):
    chosen = dataset("athena", "list_work_groups", "name")
    answers(as_json(WorkGroups=[], NextToken="None"))
    source.operation(chosen)
    page = source.fetch_page(chosen, part(dataset=chosen.name, parents={}), 1, None, None)
    assert page.next_starting_token == TokenEncoder().encode({"NextToken": "None"})
