"""Listings of many services as `datasets add` proposes them, against moto's server: blanks are filled in, and no more.

The rows are compared with what a plain loop over boto3's methods returns. It knows tokens and lists only from the table
below, so whatever is derived from names in a service model must be what a person would write.
"""

import json
import re
from dataclasses import dataclass, field

import jmespath
import pytest
from support.cloud import ACCOUNT, KEY, REGION, Cloud, columns, exported
from support.job import Job

from etl.config import Settings
from etl.jobs.propose import propose
from etl.model import Dataset

TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})
ROLE = f"arn:aws:iam::{ACCOUNT}:role/r"


@dataclass(frozen=True)
class Listing:
    """One operation: the path to its list, and the names of its tokens in requests and responses; none if one page.

    `blanks` fills in what only the operator knows. `slices` returns the parameters of each slice, if there are several.
    `key` is given where moto leaves out what AWS sends: an ARN, or an id.
    """

    service: str
    operation: str
    path: str
    tokens: tuple = ("NextToken", "NextToken")
    blanks: dict = field(default_factory=dict)
    slices: object = None
    key: tuple = ()

    @property
    def name(self):
        return f"{self.service} {self.operation}"


ONE_PAGE = ()
LOWER = ("nextToken", "nextToken")
MARKER = ("Marker", "Marker")
NEXT_MARKER = ("NextMarker", "NextMarker")
REGIONAL = {"Scope": "REGIONAL"}

LISTINGS = [
    Listing("apigateway", "get_rest_apis", "items", ("position", "position")),
    Listing("apigateway", "get_stages", "item", ONE_PAGE,
            slices=lambda c: [{"restApiId": api["id"]} for api in c("apigateway").get_rest_apis()["items"]]),
    Listing("apigatewayv2", "get_apis", "Items"),
    Listing("apigatewayv2", "get_vpc_links", "Items"),
    Listing("backup", "list_report_plans", "ReportPlans"),
    Listing("backup", "list_backup_vaults", "BackupVaultList"),
    Listing("cloudformation", "list_stacks", "StackSummaries"),
    Listing("cloudfront", "list_functions", "FunctionList.Items", ("Marker", "FunctionList.NextMarker")),
    Listing("cloudfront", "list_key_groups", "KeyGroupList.Items", ("Marker", "KeyGroupList.NextMarker")),
    Listing("cloudtrail", "describe_trails", "trailList", ONE_PAGE),
    Listing("cloudwatch", "describe_insight_rules", "InsightRules"),
    Listing("codebuild", "batch_get_projects", "projects", ONE_PAGE, blanks={"names": ["p0", "p1"]}),
    Listing("codebuild", "list_projects", "projects", LOWER),
    Listing("config", "describe_configuration_recorders", "ConfigurationRecorders", ONE_PAGE, key=("name",)),
    Listing("config", "describe_configuration_recorder_status", "ConfigurationRecordersStatus", ONE_PAGE,
            key=("name",)),
    Listing("config", "describe_delivery_channels", "DeliveryChannels", ONE_PAGE),
    Listing("dynamodb", "list_tables", "TableNames", ("ExclusiveStartTableName", "LastEvaluatedTableName")),
    Listing("dynamodbstreams", "list_streams", "Streams", ("ExclusiveStartStreamArn", "LastEvaluatedStreamArn")),
    Listing("ec2", "describe_addresses", "Addresses", ONE_PAGE),
    Listing("ec2", "describe_availability_zones", "AvailabilityZones", ONE_PAGE),
    Listing("ec2", "describe_customer_gateways", "CustomerGateways", ONE_PAGE),
    Listing("ec2", "describe_key_pairs", "KeyPairs", ONE_PAGE),
    Listing("ec2", "describe_regions", "Regions", ONE_PAGE),
    Listing("ec2", "describe_vpn_gateways", "VpnGateways", ONE_PAGE),
    Listing("ec2", "describe_subnets", "Subnets"),
    Listing("ecr", "describe_repositories", "repositories", LOWER),
    Listing("ecs", "list_clusters", "clusterArns", LOWER),
    Listing("eks", "list_clusters", "clusters", LOWER),
    Listing("elasticbeanstalk", "describe_applications", "Applications", ONE_PAGE),
    Listing("emr", "list_release_labels", "ReleaseLabels"),
    Listing("events", "list_archives", "Archives"),
    Listing("events", "list_api_destinations", "ApiDestinations"),
    Listing("events", "list_connections", "Connections"),
    Listing("events", "list_event_buses", "EventBuses"),
    Listing("firehose", "list_delivery_streams", "DeliveryStreamNames",
            ("ExclusiveStartDeliveryStreamName", "HasMoreDeliveryStreams && DeliveryStreamNames[-1] || null")),
    Listing("glue", "list_crawlers", "CrawlerNames"),
    Listing("iam", "list_saml_providers", "SAMLProviderList", ONE_PAGE),
    Listing("iam", "list_open_id_connect_providers", "OpenIDConnectProviderList", ONE_PAGE),
    Listing("iam", "list_groups", "Groups", MARKER),
    Listing("iot", "list_policies", "policies", ("marker", "nextMarker")),
    Listing("iot", "list_policy_versions", "policyVersions", ONE_PAGE,
            slices=lambda c: [{"policyName": p["policyName"]} for p in c("iot").list_policies()["policies"]]),
    Listing("kinesis", "list_streams", "StreamNames"),
    Listing("kms", "list_aliases", "Aliases", ("Marker", "NextMarker")),
    Listing("lakeformation", "list_resources", "ResourceInfoList"),
    Listing("logs", "describe_log_groups", "logGroups", LOWER),
    Listing("mq", "list_configurations", "Configurations"),
    Listing("opensearch", "list_domain_names", "DomainNames", ONE_PAGE),
    Listing("ram", "list_permissions", "permissions", LOWER),
    Listing("ram", "list_resource_types", "resourceTypes", LOWER),
    Listing("resiliencehub", "list_apps", "appSummaries", LOWER),
    Listing("resiliencehub", "list_resiliency_policies", "resiliencyPolicies", LOWER),
    Listing("route53", "list_hosted_zones_by_name", "HostedZones",
            (("DNSName", "HostedZoneId"), ("NextDNSName", "NextHostedZoneId"))),
    Listing("route53", "list_reusable_delegation_sets", "DelegationSets", ("Marker", "NextMarker"),
            key=("caller_reference",)),
    Listing("s3", "list_buckets", "Buckets", ("ContinuationToken", "ContinuationToken")),
    Listing("servicediscovery", "list_namespaces", "Namespaces"),
    Listing("ses", "list_verified_email_addresses", "VerifiedEmailAddresses", ONE_PAGE),
    Listing("sesv2", "list_configuration_sets", "ConfigurationSets"),
    Listing("sesv2", "list_contact_lists", "ContactLists"),
    Listing("sesv2", "list_email_identities", "EmailIdentities"),
    Listing("sns", "list_topics", "Topics"),
    Listing("ssm", "describe_parameters", "Parameters", key=("name",)),
    Listing("synthetics", "describe_canaries", "Canaries"),
    Listing("timestream-write", "list_databases", "Databases"),
    Listing("transcribe", "list_vocabularies", "Vocabularies"),
    Listing("wafv2", "list_ip_sets", "IPSets", NEXT_MARKER, REGIONAL),
    Listing("wafv2", "list_regex_pattern_sets", "RegexPatternSets", NEXT_MARKER, REGIONAL),
    Listing("wafv2", "list_rule_groups", "RuleGroups", NEXT_MARKER, REGIONAL),
    Listing("workspaces-web", "list_portals", "portals", LOWER),
]  # fmt: skip


@pytest.fixture(scope="module")
def cloud():
    with Cloud() as cloud:
        populate(cloud.client)
        yield cloud


def populate(client):
    """Create two of everything."""
    client("config").put_configuration_recorder(
        ConfigurationRecorder={"name": "default", "roleARN": ROLE, "recordingGroup": {"allSupported": True}}
    )
    client("config").put_delivery_channel(DeliveryChannel={"name": "default", "s3BucketName": "bucket"})
    client("s3").create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
    client("sesv2").create_contact_list(ContactListName="c")
    for i in range(2):
        create_acm_to_cloudfront(client, i)
        create_cloudtrail_to_dynamodb(client, i)
        create_ec2_to_events(client, i)
        create_firehose_to_opensearch(client, i)
        create_resiliencehub_to_workspaces(client, i)


def create_acm_to_cloudfront(client, i):
    subnets = [subnet["SubnetId"] for subnet in client("ec2").describe_subnets()["Subnets"]][:2]
    api = client("apigateway").create_rest_api(name=f"api{i}")["id"]
    root = client("apigateway").get_resources(restApiId=api)["items"][0]["id"]
    client("apigateway").put_method(restApiId=api, resourceId=root, httpMethod="GET", authorizationType="NONE")
    client("apigateway").put_integration(restApiId=api, resourceId=root, httpMethod="GET", type="MOCK")
    client("apigateway").create_deployment(restApiId=api, stageName=f"stage{i}")
    client("apigatewayv2").create_api(Name=f"a{i}", ProtocolType="HTTP")
    client("apigatewayv2").create_vpc_link(Name=f"l{i}", SubnetIds=subnets)
    client("backup").create_report_plan(
        ReportPlanName=f"r{i}", ReportDeliveryChannel={"S3BucketName": "b"},
        ReportSetting={"ReportTemplate": "BACKUP_JOB_REPORT"},
    )  # fmt: skip
    client("backup").create_backup_vault(BackupVaultName=f"v{i}")
    client("cloudformation").create_stack(StackName=f"s{i}", TemplateBody='{"Resources": {}}')
    client("cloudfront").create_function(
        Name=f"f{i}", FunctionConfig={"Comment": "ä", "Runtime": "cloudfront-js-1.0"}, FunctionCode=b"x"
    )
    client("cloudfront").create_key_group(KeyGroupConfig={"Name": f"k{i}", "Items": ["a"]})


def create_cloudtrail_to_dynamodb(client, i):
    client("cloudtrail").create_trail(Name=f"trail{i}", S3BucketName="bucket")
    client("cloudwatch").put_insight_rule(RuleName=f"i{i}", RuleDefinition="{}")
    client("codebuild").create_project(
        name=f"p{i}", source={"type": "S3", "location": "b/x"}, artifacts={"type": "NO_ARTIFACTS"},
        environment={"type": "LINUX_CONTAINER", "image": "x", "computeType": "BUILD_GENERAL1_SMALL"},
        serviceRole=f"arn:aws:iam::{ACCOUNT}:role/service-role/r",
    )  # fmt: skip
    client("dynamodb").create_table(
        TableName=f"t{i}", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}], BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
    )  # fmt: skip


def create_ec2_to_events(client, i):
    ec2, events = client("ec2"), client("events")
    ec2.allocate_address(Domain="vpc")
    ec2.create_customer_gateway(BgpAsn=65000 + i, PublicIp=f"12.1.2.{i}", Type="ipsec.1")
    ec2.create_key_pair(KeyName=f"k{i}")
    ec2.create_vpn_gateway(Type="ipsec.1")
    client("ecr").create_repository(repositoryName=f"r{i}")
    client("ecs").create_cluster(clusterName=f"c{i}")
    client("eks").create_cluster(name=f"c{i}", roleArn=ROLE, resourcesVpcConfig={})
    client("elasticbeanstalk").create_application(ApplicationName=f"a{i}")
    events.create_event_bus(Name=f"b{i}")
    events.create_archive(ArchiveName=f"a{i}", EventSourceArn=f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/b{i}")
    connection = events.create_connection(
        Name=f"c{i}", AuthorizationType="API_KEY",
        AuthParameters={"ApiKeyAuthParameters": {"ApiKeyName": "k", "ApiKeyValue": "v"}},
    )["ConnectionArn"]  # fmt: skip
    events.create_api_destination(
        Name=f"d{i}", ConnectionArn=connection, InvocationEndpoint="https://example.com", HttpMethod="GET"
    )


def create_firehose_to_opensearch(client, i):
    iam = client("iam")
    client("firehose").create_delivery_stream(
        DeliveryStreamName=f"s{i}", S3DestinationConfiguration={"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::b"}
    )
    client("glue").create_crawler(Name=f"c{i}", Role=ROLE, Targets={"S3Targets": [{"Path": "s3://b"}]})
    iam.create_saml_provider(Name=f"s{i}", SAMLMetadataDocument="x" * 1024)
    iam.create_open_id_connect_provider(Url=f"https://o{i}.example.com", ThumbprintList=["a" * 40])
    iam.create_group(GroupName=f"g{i}")
    client("iot").create_policy(policyName=f"p{i}", policyDocument="{}")
    client("iot").create_policy_version(policyName=f"p{i}", policyDocument='{"a": 1}')
    key = client("kms").create_key()["KeyMetadata"]["KeyId"]
    client("kms").create_alias(AliasName=f"alias/a{i}", TargetKeyId=key)
    client("kinesis").create_stream(StreamName=f"s{i}", ShardCount=1)
    client("logs").create_log_group(logGroupName=f"g{i}")
    client("lakeformation").register_resource(ResourceArn=f"arn:aws:s3:::b{i}", RoleArn=ROLE)
    client("mq").create_configuration(EngineType="ACTIVEMQ", EngineVersion="5.15", Name=f"c{i}")
    client("opensearch").create_domain(DomainName=f"domain{i}")


def create_resiliencehub_to_workspaces(client, i):
    policy = client("resiliencehub").create_resiliency_policy(
        policyName=f"p{i}", tier="NonCritical",
        policy={kind: {"rpoInSecs": 1, "rtoInSecs": 1} for kind in ("Software", "Hardware", "AZ")},
    )["policy"]["policyArn"]  # fmt: skip
    client("resiliencehub").create_app(name=f"a{i}", policyArn=policy)
    client("route53").create_hosted_zone(Name=f"z{i}.example.", CallerReference=str(i))
    client("route53").create_reusable_delegation_set(CallerReference=f"d{i}")
    client("servicediscovery").create_http_namespace(Name=f"n{i}.example")
    client("ses").verify_email_address(EmailAddress=f"a{i}@example.com")
    client("sesv2").create_configuration_set(ConfigurationSetName=f"c{i}")
    client("sesv2").create_email_identity(EmailIdentity=f"b{i}@example.com")
    client("sns").create_topic(Name=f"t{i}")
    client("ssm").put_parameter(Name=f"p{i}", Value="v", Type="String")
    client("synthetics").create_canary(
        Name=f"c{i}", Code={"Handler": "a.f"}, ArtifactS3Location="s3://b/x", ExecutionRoleArn=ROLE,
        Schedule={"Expression": "rate(1 minute)"}, RuntimeVersion="syn-nodejs-2.2",
    )  # fmt: skip
    client("timestream-write").create_database(DatabaseName=f"data{i}")
    client("transcribe").create_vocabulary(VocabularyName=f"v{i}", LanguageCode="en-US", Phrases=["a"])
    client("wafv2").create_ip_set(Name=f"i{i}", Scope="REGIONAL", IPAddressVersion="IPV4", Addresses=["10.0.0.0/8"])
    client("wafv2").create_regex_pattern_set(
        Name=f"r{i}", Scope="REGIONAL", RegularExpressionList=[{"RegexString": "a"}]
    )
    client("wafv2").create_rule_group(
        Name=f"g{i}", Scope="REGIONAL", Capacity=1,
        VisibilityConfig={"SampledRequestsEnabled": False, "CloudWatchMetricsEnabled": False, "MetricName": "m"},
    )  # fmt: skip
    client("workspaces-web").create_portal(displayName=f"p{i}")


def proposed():
    """Return the datasets that are proposed one after the other, and the names of those that the listings ask for."""
    datasets, wanted = (), {}
    for listing in LISTINGS:
        drafts = propose(Settings(datasets=datasets), listing.service, listing.operation)
        for draft in drafts:
            settings = dict(draft.settings)
            if draft is drafts[-1]:
                wanted[listing.name] = draft.name
                assert set(draft.blanks) == set(listing.blanks), listing.name
                settings |= {"parameters": listing.blanks} if listing.blanks else {}
                settings |= {"key": list(listing.key)} if listing.key else {}
            datasets = (*datasets, Dataset.model_validate(settings))
    return datasets, wanted


def listed(client, listing):
    """Return the records that a plain loop over a method of boto3 collects, by column."""
    method = getattr(client(listing.service), listing.operation)
    shape = client(listing.service).meta.service_model.operation_model(
        client(listing.service).meta.method_to_api_mapping[listing.operation]
    ).output_shape  # fmt: skip
    for name in listing.path.split("."):
        shape = shape.members[name]
    rows = []
    for parameters in listing.slices(client) if listing.slices else [listing.blanks]:
        tokens = {}
        while True:
            response = method(**parameters, **tokens)
            for record in jmespath.search(listing.path, response) or []:
                flat = columns(shape.member, record) if shape.member.type_name == "structure" else [("value", record)]
                rows.append({name: value for name, value in flat if value is not None})
            if not listing.tokens:
                break
            taken, held = ((names,) if isinstance(names, str) else names for names in listing.tokens)
            found = [jmespath.search(path, response) for path in held]
            tokens = {name: value for name, value in zip(taken, found, strict=True) if value}
            if not tokens:
                break
    return rows


@pytest.fixture(scope="module")
def exported_job(cloud, tmp_path_factory):
    """A job that has exported everything that is proposed, and the dataset of each listing."""
    datasets, wanted = proposed()
    entries = "".join(
        f"- {json.dumps(dataset.model_dump(mode='json', exclude_defaults=True))}\n" for dataset in datasets
    )
    job = Job(
        tmp_path_factory.mktemp("job"), cloud.url, KEY, source=f"  region: {REGION}", rest=f"datasets:\n{entries}"
    )
    assert job.finish("run") == 0, job.log
    return job, {name: next(one for one in datasets if one.name == chosen) for name, chosen in wanted.items()}


def test_the_only_key_in_doubt_is_one_that_is_not_proposed_and_it_is_said_before_the_first_request(exported_job):
    job, _ = exported_job
    before, _, after = job.log.partition("begins: export")
    assert re.findall(r"dataset (\w+): key .* is in doubt", before) == ["route53_reusable_delegation_sets"]
    assert after
    assert "in doubt" not in after


def test_there_are_sixty_of_forty_services():
    assert len({listing.name for listing in LISTINGS}) == len(LISTINGS) >= 60
    assert len({listing.service for listing in LISTINGS}) >= 40


@pytest.mark.parametrize("listing", LISTINGS, ids=lambda listing: listing.name)
def test_rows_of_a_proposed_dataset_equal_a_plain_loop(listing, exported_job, cloud):
    job, datasets = exported_job
    left = listed(cloud.client, listing)
    assert left
    for row in exported(job, datasets[listing.name]):
        assert row in left
        left.remove(row)
    assert left == []
