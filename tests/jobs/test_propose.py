"""What is proposed for configuration: keys, parents and names as a person would choose them, lines that are valid."""

import json
from io import StringIO

import pytest
from ruamel.yaml import YAML
from support.shapes import list_of, member, structure
from typer.testing import CliRunner

from etl.cli.app import app
from etl.config import Settings
from etl.configfile import append_datasets, load_settings
from etl.errors import ConfigError
from etl.extract.service_model import describe_operation, model_session
from etl.jobs.propose import as_yaml, exportable, propose, propose_service
from etl.model import BLANK, Dataset
from etl.pipeline.plan import check_names
from etl.transform.identity import WHOLE_RECORD, key_candidates, order_candidate, singular
from etl.transform.schema import layout_of

NOTHING = Settings(datasets=())


def proposed(service, operation, result_key=None, settings=NOTHING):
    """Return the proposed entries by name; each is a valid definition."""
    drafts = propose(settings, service, operation, result_key)
    parsed = YAML(typ="safe").load(StringIO(as_yaml(drafts)))["datasets"]
    assert parsed == [dict(draft.settings) for draft in drafts]
    return {entry["name"]: Dataset.model_validate(entry) for entry in parsed}


def described(dataset):
    return describe_operation(model_session(), dataset)


def append(path, drafts):
    append_datasets(path, as_yaml(drafts), [draft.definition for draft in drafts])


def invoke(*arguments):
    ended = CliRunner().invoke(app, ["--log-level", "error", *map(str, arguments)], catch_exceptions=False)
    assert ended.exit_code == 0
    return ended.stdout


@pytest.fixture
def config(tmp_path):
    """Return a function that writes a configuration, or reads it."""
    path = tmp_path / "config.yaml"

    def config(text=None):
        if text is None:
            return path.read_text()
        path.write_text(text)
        return path

    return config


# Keys


@pytest.mark.parametrize(
    ("service", "operation", "name", "key"),
    [
        ("iam", "list_users", "iam_users", ("arn",)),
        ("lambda", "list_functions", "lambda_functions", ("function_arn",)),
        ("ec2", "describe_volumes", "ec2_volumes", ("volume_id",)),
        ("rds", "describe_db_instances", "rds_db_instances", ("db_instance_arn",)),
        ("deadline", "list_farms", "deadline_farms", ("farm_id",)),
        ("logs", "describe_log_groups", "logs_log_groups", ("arn",)),
        ("route53", "list_hosted_zones", "route53_hosted_zones", ("id",)),
        ("s3", "list_buckets", "s3_buckets", ("name",)),
        ("dynamodb", "list_tables", "dynamodb_tables", ("value",)),
        ("cognito-idp", "list_user_pools", "cognito_idp_user_pools", ("id",)),
        ("medialive", "list_channels", "medialive_channels", ("arn",)),
    ],
)
def test_name_and_key_are_those_that_a_person_would_choose(service, operation, name, key):
    found = proposed(service, operation)
    assert found[name].key == key
    assert list(found) == [name]


def test_ids_come_before_names_and_what_may_be_absent_comes_last():
    record = structure(
        "thing",
        member("name", "string"), member("role_arn", "string"), member("state", "string", enum=("A",)),
        member("volume_id", "string"), member("thing_id", "string"), member("thing_arn", "string"),
        member("size", "integer"), member("tags", "map", element=member("value", "string")),
        structure("where", member("place_id", "string")),
    )  # fmt: skip
    assert key_candidates(record, "thing") == [
        ("thing_arn",), ("thing_id",), ("name",), ("role_arn",), ("volume_id",), WHOLE_RECORD,
    ]  # fmt: skip
    assert key_candidates(record, "thing", ["thing_arn"], ids_first=True)[:2] == [("thing_id",), ("name",)]
    required = structure("thing", member("arn", "string"), member("name", "string", required=True))
    assert key_candidates(required, "thing") == [("name",), ("arn",), WHOLE_RECORD]
    rare = member("arn", "string", documentation="This is only supported for directory buckets.")
    bucket = structure("bucket", rare, member("name", "string"))
    assert key_candidates(bucket, "bucket") == [("name",), ("arn",), WHOLE_RECORD]


def test_what_all_records_share_or_what_is_of_another_thing_is_no_key_alone():
    record = structure(
        "image",
        member("source_image_id", "string"), member("owner_id", "string"), member("account_id", "string"),
        member("repository_name", "string"), member("state", "string", enum=("A",)), member("is_public", "boolean"),
        member("created_at", "timestamp"),
    )  # fmt: skip
    assert key_candidates(record, "image", ["repository_name"])[0] == WHOLE_RECORD
    assert key_candidates(structure("member", member("account_id", "string")), "member")[0] == ("account_id",)


def test_versions_of_a_thing_have_its_key_and_their_own():
    assert proposed("s3", "list_object_versions")["s3_object_versions"].key == ("key", "version_id")


def test_record_that_no_member_names_is_its_own_key():
    assert key_candidates(structure("x", list_of("names", member("element", "string"))), "x") == [WHOLE_RECORD]
    (draft,) = propose(NOTHING, "cloudwatch", "describe_alarm_history")
    assert draft.settings["key"] == []
    assert draft.comments["key"].startswith("the whole record, as no member names it: alarm_contributor_id, ")


def test_order_is_that_of_the_last_change():
    instants = [member(name, "timestamp") for name in ("created_at", "last_modified_date", "expires_at")]
    assert order_candidate(structure("thing", *instants)) == "last_modified_date"
    assert order_candidate(structure("thing", instants[0], instants[2])) == "created_at"
    assert order_candidate(structure("thing", instants[2], member("updated_by", "string"))) is None


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("policies", "policy"), ("volumes", "volume"), ("addresses", "address"), ("access", "access"),
        ("batches", "batch"), ("status", "status"), ("metadata", "metadata"), ("buses", "buse"),
    ],
)  # fmt: skip
def test_singular_is_good_enough_for_names_of_tables(plural, one):
    assert singular(plural) == one


def test_child_tables_get_a_proper_singular():
    assert proposed("iam", "list_policies")["iam_policies"].item_name == "iam_policy"


# Lists


def test_list_inside_the_records_that_the_operation_is_named_for_is_chosen():
    """DescribeInstances returns reservations, and those have the instances."""
    (draft,) = propose(NOTHING, "ec2", "describe_instances")
    assert (draft.name, draft.settings["result_key"]) == ("ec2_instances", "Reservations[].Instances[]")
    assert draft.settings["key"] == ["instance_id"]
    assert draft.comments["result_key"] == "the response has several lists: Reservations[].Instances[], Reservations"


def test_several_lists_are_named_and_one_can_be_chosen():
    draft = propose(NOTHING, "s3", "list_object_versions")[-1]
    assert draft.comments["result_key"] == "the response has several lists: Versions, DeleteMarkers, CommonPrefixes"
    chosen = proposed("s3", "list_object_versions", "DeleteMarkers")["s3_delete_markers"]
    assert (chosen.result_key, chosen.key) == ("DeleteMarkers", ("key", "version_id"))
    with pytest.raises(ConfigError, match="no member 'Deleted'"):
        proposed("s3", "list_object_versions", "Deleted")


# Parents


def test_parents_are_found_up_to_the_root_and_hand_their_own_parents_down():
    found = proposed("deadline", "list_sessions")
    assert list(found) == ["deadline_farms", "deadline_queues", "deadline_jobs", "deadline_sessions"]
    assert found["deadline_queues"].for_each.model_dump() == {
        "dataset": "deadline_farms", "bind": {"farmId": "farm_id"},
    }  # fmt: skip
    assert found["deadline_sessions"].for_each.model_dump() == {
        "dataset": "deadline_jobs", "bind": {"farmId": "farm_id", "queueId": "queue_id", "jobId": "job_id"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("service", "operation", "parent", "bind"),
    [
        ("s3", "list_objects_v2", "s3_buckets", {"Bucket": "name"}),
        ("eks", "list_nodegroups", "eks_clusters", {"clusterName": "value"}),
        ("glue", "get_tables", "glue_databases", {"DatabaseName": "name"}),
        ("route53", "list_resource_record_sets", "route53_hosted_zones", {"HostedZoneId": "id"}),
        ("iam", "list_attached_role_policies", "iam_roles", {"RoleName": "role_name"}),
        ("rds", "describe_db_log_files", "rds_db_instances", {"DBInstanceIdentifier": "db_instance_identifier"}),
        ("apigateway", "get_resources", "apigateway_rest_apis", {"restApiId": "id"}),
    ],
)
def test_required_parameter_comes_from_the_listing_of_what_it_names(service, operation, parent, bind):
    *_, found = proposed(service, operation).values()
    assert found.for_each.model_dump() == {"dataset": parent, "bind": bind}


def test_parent_that_is_there_already_is_used_under_its_name():
    farms = Dataset(name="render_farms", service="deadline", operation="list_farms", key=("farm_id",))
    found = proposed("deadline", "list_queues", settings=Settings(datasets=(farms,)))
    assert list(found) == ["deadline_queues"]
    assert found["deadline_queues"].for_each.dataset == "render_farms"


def test_parameter_that_no_listing_gives_is_left_to_the_operator():
    (draft,) = propose(NOTHING, "ce", "get_anomalies")
    assert draft.settings["parameters"] == {"DateInterval": BLANK}
    assert draft.blanks == ["DateInterval"]
    assert draft.comments["parameters"] == "fill in DateInterval"


@pytest.mark.parametrize(
    ("service", "operation", "says"),
    [
        ("nimble", "list_studios", "datasets: studios is there already, and lists nimble:list_studios"),
        ("s4", "list_buckets", "botocore has no service 's4'"),
        ("s3", "list_baskets", "s3 has no operation 'list_baskets'"),
        ("s3", "get_object", "GetObject: its responses have no list, and no structure that could be a record"),
        (
            "eks",
            "describe_cluster",
            "DescribeCluster: its responses have no list; `result_key` makes one record of cluster$",
        ),
        (
            "deadline",
            "search_jobs",
            r"how it pages: it takes itemOffset, pageSize, and returns nextItemOffset; `paginate`",
        ),
        ("memorydb", "list_allowed_node_type_updates", "the lists ScaleUpNodeTypes, ScaleDownNodeTypes; `result_key`"),
        ("ec2", "terminate_instances", "TerminateInstances: its name does not say that it only reads"),
        ("taxsettings", "list_tax_exemptions", "is a map; expected a list"),
    ],
)
def test_what_cannot_be_proposed_is_refused_with_the_reason(service, operation, says):
    with pytest.raises(ConfigError, match=says):
        proposed(service, operation)


def test_parameter_that_the_service_needs_in_fact_is_bound_although_the_model_does_not_demand_it():
    """Without a cluster, ECS lists the services of the cluster `default`, and nothing else."""
    drafts = {draft.name: draft for draft in propose(NOTHING, "elbv2", "describe_rules")}
    assert list(drafts) == ["elbv2_load_balancers", "elbv2_listeners", "elbv2_rules"]
    assert drafts["elbv2_rules"].settings["for_each"] == {
        "dataset": "elbv2_listeners", "bind": {"ListenerArn": "listener_arn"},
    }  # fmt: skip
    assert drafts["elbv2_rules"].comments["for_each"].endswith("without ListenerArn, the service does not list all")
    assert proposed("ecs", "list_services")["ecs_services"].for_each.bind == {"cluster": "value"}


def test_blank_of_an_enum_names_its_values():
    (draft,) = propose(NOTHING, "accessanalyzer", "list_policy_generations")
    assert draft.blanks == []
    (draft,) = propose(NOTHING, "config", "list_discovered_resources")
    assert draft.settings["parameters"] == {"resourceType": BLANK}
    said = draft.comments["parameters"]
    assert said.startswith("fill in resourceType (AWS::EC2::CustomerGateway | ")
    assert said.endswith(" | …)")


def test_parameter_called_like_a_column_of_ours_has_a_column_of_another_name():
    found = proposed("budgets", "describe_notifications_for_budget")["budgets_notifications_for_budget"]
    assert found.slice_columns["AccountId"] == "parameter_account_id"
    assert {"account_id", "parameter_account_id"} <= set(layout_of(found, described(found)).schema.names)


@pytest.mark.parametrize(
    ("service", "operation", "most"),
    [("cognito-idp", "list_user_pools", 60), ("ec2", "describe_byoip_cidrs", 100), ("ec2", "describe_volumes", None)],
)
def test_page_size_that_a_request_must_say_is_no_parameter_to_fill_in(service, operation, most):
    (draft,) = propose(NOTHING, service, operation)
    assert (draft.blanks, described(draft.definition).page_size) == ([], most)


def test_lists_within_the_lists_of_a_result_key_are_one_list():
    found = described(Dataset(name="a", service="ec2", operation="describe_instances", key=("instance_id",),
                              result_key="Reservations[].Instances"))  # fmt: skip
    assert found.pager.result == "Reservations[].Instances[]"
    assert not found.pager.is_plain


# A service


def test_whole_service_is_proposed_and_what_is_left_out_is_said():
    drafts, left_out = propose_service(NOTHING, "iam")
    names = [draft.name for draft in drafts]
    assert len(set(names)) == len(names) > 25
    assert {"iam_users", "iam_access_keys", "iam_role_policies", "iam_get_group"} <= set(names)
    assert not any(draft.blanks for draft in drafts)
    assert any(said.startswith("list_mfa_device_tags is left out: needs SerialNumber") for said in left_out)
    check_names({draft.name: layout_of(draft.definition, described(draft.definition)) for draft in drafts})
    parents = {draft.settings["for_each"]["dataset"] for draft in drafts if "for_each" in draft.settings}
    assert all(names.index(parent) < len(names) for parent in parents)


def test_second_listing_of_the_same_things_gets_a_name_of_the_operators_choice(config):
    path = config("datasets: []\n")
    invoke("datasets", "add", "cloudformation", "list_stacks", "--config", path, "--write")
    with pytest.raises(ConfigError, match="choose another name with --name"):
        invoke("datasets", "add", "cloudformation", "describe_stacks", "--config", path)
    invoke("datasets", "add", "cloudformation", "describe_stacks", "--name", "stacks_now", "--config", path, "--write")
    assert "stacks_now" in invoke("config", "check", "--config", path)


def test_a_whole_service_is_added_by_one_command(config):
    path = config("source: {endpoint_url: null}\ndatasets: [studios]\n")
    assert "added sqs_queues, sqs_dead_letter_source_queues" in invoke(
        "datasets", "add", "sqs", "--config", path, "--write"
    )
    assert "sqs_dead_letter_source_queues" in invoke("config", "check", "--config", path)
    assert "added nothing" in invoke("datasets", "add", "sqs", "--config", path, "--write")


def test_instant_in_the_configuration_is_a_value_like_any_other(config):
    path = config(
        "datasets:\n- {name: a, service: cloudtrail, operation: lookup_events, key: [event_id],"
        " parameters: {StartTime: 2026-01-01T00:00:00Z, EndTime: 2026-01-02}}\n"
    )
    (found,) = load_settings(path).datasets
    assert found.parameters == {"StartTime": "2026-01-01T00:00:00+00:00", "EndTime": "2026-01-02"}
    assert "valid; fills a," in invoke("config", "check", "--config", path)


def test_names_of_views_are_checked_too(config):
    """Without the check, every run would end without marts, checks and flat views."""
    topics = "{name: %s, service: sns, operation: list_topics, key: [topic_arn]}"
    path = config(f"datasets: [{topics % 'topics'}, {topics % 'topics_versions'}]\n")
    with pytest.raises(ConfigError, match="its table topics_versions would have the name of one of dataset topics"):
        invoke("config", "check", "--config", path)


def test_listings_of_a_service_each_have_their_key_or_the_reason():
    rows = {row["operation"]: row for row in exportable("deadline")}
    assert rows["list_jobs"] == {
        "operation": "list_jobs", "lists": "jobs", "key": "job_id", "needs": "farmId, queueId", "pages": "raw",
        "reason": None,
    }  # fmt: skip
    refused = rows["list_job_parameter_definitions"]
    assert refused["reason"].endswith("its records have no members")
    assert refused["key"] is refused["pages"] is None
    assert {row["pages"] for row in exportable("iam")} == {"parsed"}
    assert exportable("sts") == []


# The command line


def test_datasets_of_a_service_are_printed(config):
    path = config("{}")
    assert "list_dead_letter_source_queues" in invoke("datasets", "--config", path, "--service", "sqs")
    rows = json.loads(invoke("datasets", "--config", path, "--service", "sqs", "--json"))["operations"]
    assert [row["operation"] for row in rows] == [
        "list_dead_letter_source_queues", "list_queues", "list_message_move_tasks",
    ]  # fmt: skip
    assert "no operation that lists" in invoke("datasets", "--config", path, "--service", "sts")


def test_datasets_alone_lists_the_known_ones(config):
    path = config("datasets: [studios]\n")
    assert "nimble:list_studios" in invoke("datasets", "--config", path)
    assert json.loads(invoke("datasets", "--config", path, "--json"))["datasets"][0]["dataset"] == "studios"


def test_what_add_prints_is_what_it_writes(config):
    path = config("datasets:\n- studios\n")
    printed = invoke("datasets", "add", "s3", "list_objects_v2", "--config", path)
    assert config() == "datasets:\n- studios\n"
    as_json = json.loads(invoke("datasets", "add", "s3", "list_objects_v2", "--config", path, "--json"))["datasets"]
    assert [entry["name"] for entry in as_json] == ["s3_buckets", "s3_objects"]
    # The configuration may also be named before the subcommand.
    assert "added s3_buckets, s3_objects" in invoke(
        "datasets", "--config", path, "add", "s3", "list_objects_v2", "--write"
    )
    assert config() == printed.replace("datasets:\n", "datasets:\n- studios\n", 1)


def test_what_was_added_is_checked_described_and_refused_a_second_time(config):
    path = config("source: {endpoint_url: null}\n")
    invoke("datasets", "add", "deadline", "list_sessions", "--config", path, "--write")
    assert "deadline_sessions" in invoke("config", "check", "--config", path)
    described = invoke("describe", "deadline_sessions", "--config", path)
    for column in ("farm_id", "queue_id", "job_id", "session_id"):
        assert column in described
    with pytest.raises(ConfigError, match="is there already"):
        invoke("datasets", "add", "deadline", "list_sessions", "--config", path)


def test_blank_that_was_not_filled_in_is_found_before_the_first_request(config):
    path = config("")
    assert "ce_anomalies: fill in DateInterval" in invoke(
        "datasets", "add", "ce", "get_anomalies", "--write", "--config", path
    )
    with pytest.raises(ConfigError, match="GetAnomalies needs DateInterval"):
        invoke("config", "check", "--config", path)


def test_parent_is_bound_by_texts_only(config):
    """A number or a list would be no parameter, and nobody would know until the first request."""
    child = "{name: b, service: eks, operation: list_nodegroups, key: [value], for_each: {dataset: a, bind: {%s}}}"
    parent = "{name: a, service: lambda, operation: list_functions, key: [function_arn]}"
    path = config(f"datasets: [{parent}, {child % 'clusterName: timeout'}]\n")
    with pytest.raises(ConfigError, match=r"for_each binds 'timeout'; a has the texts .*function_name"):
        invoke("config", "check", "--config", path)


FILES = {
    "empty": "",
    "comment": "# nothing yet\n",
    "no datasets, no newline": "run: {concurrency: 2}   # slow",
    "one line": "datasets: [studios, streaming_sessions]   # both\nrun: {max_items: null}  # all\n",
    "none": "datasets: []\n",
    "two lines": "datasets:   [ 'studios' ,\n  streaming_sessions ]\n\n# the end\n",
    "deep": """run:
    max_items: null
datasets:
    - studios          # first
    # between
    - streaming_sessions

# after
state_dir: s
""",
    "definition on lines": """datasets:
- {name: a, service: sns, operation: list_topics,
   key: [topic_arn]}   # a
run: {max_items: 3}
""",
    "folded text last": """datasets:
  - name: a
    service: sns
    operation: list_topics
    key: [topic_arn]
    units:
      x: >-
        folded
        text
# after
run: {max_items: 3}
""",
}


@pytest.mark.parametrize("name", FILES)
def test_added_entries_leave_every_other_line_as_it_is(name, config):
    text = FILES[name]
    path = config(text)
    before = load_settings(path)
    drafts = propose(before, "deadline", "list_queues")
    append(path, drafts)
    after = load_settings(path)
    assert after.datasets == (*before.datasets, *(Dataset.model_validate(draft.settings) for draft in drafts))
    assert after.model_copy(update={"datasets": before.datasets}) == before
    lines = [line for line in text.splitlines() if not line.startswith(("datasets:  ", "datasets: [", "  streaming"))]
    rest = iter(config().splitlines())
    assert all(line in rest for line in lines), "lines in their order"
    assert all(comment in config() for comment in ("# both", "# all") if comment in text)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("text", ['{"datasets": ["studios"]}\n', "datasets: [\n  studios, # the first\n]\n"])
def test_file_that_has_no_place_for_entries_stays_as_it_is(text, config):
    path = config(text)
    with pytest.raises(ConfigError, match="`datasets` is not a list with an entry on each line"):
        append(path, propose(load_settings(path), "sns", "list_topics"))
    assert config() == text
    assert list(path.parent.iterdir()) == [path]
