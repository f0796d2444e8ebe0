"""The keys that are proposed for well-known operations are those that somebody would choose who knows the service."""

import pytest

from etl.extract.datasets import hints
from etl.extract.service_model import inspect_operation, model_session
from etl.jobs.propose import Service, proposed_keys
from etl.model import Dataset, key_leaves
from etl.names import snake_case
from etl.pipeline.keys import key_doubt

WELL_KNOWN = {
    "ec2": {
        "describe_images": "image_id",
        "describe_instances": "instance_id",
        "describe_volumes": "volume_id",
        "describe_snapshots": "snapshot_id",
        "describe_security_groups": "group_id",
        "describe_security_group_rules": "security_group_rule_id",
        "describe_subnets": "subnet_id",
        "describe_vpcs": "vpc_id",
        "describe_network_interfaces": "network_interface_id",
        "describe_route_tables": "route_table_id",
        "describe_nat_gateways": "nat_gateway_id",
        "describe_internet_gateways": "internet_gateway_id",
        "describe_launch_templates": "launch_template_id",
        "describe_launch_template_versions": "launch_template_id version_number",
        "describe_tags": "resource_id resource_type key",
        "describe_instance_types": "instance_type",
        "describe_spot_price_history": "availability_zone instance_type product_description timestamp",
        "describe_vpc_endpoints": "vpc_endpoint_id",
        "describe_transit_gateways": "transit_gateway_id",
        "describe_volume_status": "volume_id",
        "describe_instance_status": "instance_id",
        "describe_flow_logs": "flow_log_id",
        "describe_iam_instance_profile_associations": "association_id",
    },
    "s3": {
        "list_buckets": "name",
        "list_objects_v2": "key",
        "list_object_versions": "key version_id",
        "list_multipart_uploads": "key upload_id",
        "list_parts": "part_number",
    },
    "iam": {
        "list_users": "arn",
        "list_roles": "arn",
        "list_policies": "arn",
        "list_groups": "arn",
        "list_access_keys": "access_key_id",
        "list_attached_role_policies": "policy_arn",
        "list_mfa_devices": "serial_number",
        "list_instance_profiles": "arn",
        "list_policy_versions": "version_id",
        "list_role_tags": "key",
        "get_account_authorization_details": "arn",
        "list_entities_for_policy": "group_id",
    },
    "lambda": {
        "list_functions": "function_arn",
        "list_event_source_mappings": "uuid",
        "list_layers": "layer_arn",
        "list_layer_versions": "layer_version_arn",
        "list_aliases": "alias_arn",
        "list_versions_by_function": "version",
    },
    "rds": {
        "describe_db_instances": "db_instance_arn",
        "describe_db_clusters": "db_cluster_arn",
        "describe_db_snapshots": "db_snapshot_arn",
        "describe_db_engine_versions": "engine engine_version",
        "describe_db_parameter_groups": "db_parameter_group_arn",
        "describe_db_parameters": "parameter_name",
        "describe_events": "",
        "describe_orderable_db_instance_options": "",
        "describe_certificates": "certificate_arn",
        "describe_db_subnet_groups": "db_subnet_group_arn",
    },
    "ecs": {
        "list_clusters": "value",
        "list_services": "value",
        "list_task_definitions": "value",
    },
    "eks": {
        "list_clusters": "value",
        "list_nodegroups": "value",
    },
    "logs": {
        "describe_log_groups": "arn",
        "describe_log_streams": "arn",
        "describe_metric_filters": "log_group_name filter_name",
        "describe_subscription_filters": "filter_name",
        "filter_log_events": "event_id",
        "describe_destinations": "arn",
    },
    "cloudwatch": {
        "describe_alarms": "alarm_arn",
        "list_metrics": "namespace metric_name dimensions",
        "list_dashboards": "dashboard_arn",
        "get_metric_data": "",
        "describe_alarm_history": "",
    },
    "sns": {
        "list_topics": "topic_arn",
        "list_subscriptions": "topic_arn protocol endpoint",
    },
    "sqs": {
        "list_queues": "value",
    },
    "dynamodb": {
        "list_tables": "value",
        "list_backups": "backup_arn",
    },
    "kms": {
        "list_keys": "key_arn",
        "list_aliases": "alias_arn",
        "list_grants": "grant_id",
    },
    "route53": {
        "list_hosted_zones": "id",
        "list_resource_record_sets": "name type set_identifier",
        "list_health_checks": "id",
    },
    "elbv2": {
        "describe_load_balancers": "load_balancer_arn",
        "describe_target_groups": "target_group_arn",
        "describe_listeners": "listener_arn",
        "describe_rules": "rule_arn",
    },
    "elb": {
        "describe_load_balancers": "load_balancer_name",
    },
    "autoscaling": {
        "describe_auto_scaling_groups": "auto_scaling_group_arn",
        "describe_tags": "resource_id resource_type key",
        "describe_auto_scaling_instances": "instance_id",
        "describe_launch_configurations": "launch_configuration_arn",
        "describe_policies": "policy_arn",
        "describe_scaling_activities": "activity_id",
    },
    "cloudformation": {
        "describe_stacks": "stack_id",
        "list_stacks": "stack_id",
        "list_stack_resources": "logical_resource_id",
        "list_stack_instances": "account region",
        "list_exports": "name",
        "list_stack_sets": "stack_set_id",
        "list_types": "type_arn",
        "describe_stack_events": "event_id",
        "list_change_sets": "change_set_id",
    },
    "ssm": {
        "describe_instance_information": "instance_id",
        "describe_parameters": "arn",
        "list_documents": "name",
        "list_commands": "command_id",
        "list_associations": "association_id",
        "get_parameters_by_path": "arn",
        "list_command_invocations": "command_id instance_id",
        "describe_maintenance_windows": "window_id",
        "get_parameter_history": "name version",
        "get_inventory": "id",
    },
    "secretsmanager": {
        "list_secrets": "arn",
    },
    "ecr": {
        "describe_repositories": "repository_arn",
        "describe_images": "image_digest",
        "list_images": "image_digest image_tag",
    },
    "glue": {
        "get_databases": "name",
        "get_tables": "name",
        "get_jobs": "name",
        "get_crawlers": "name",
        "get_partitions": "values",
        "get_table_versions": "version_id",
        "get_job_runs": "id",
        "get_triggers": "name",
    },
    "athena": {
        "list_query_executions": "value",
        "list_data_catalogs": "catalog_name",
        "list_databases": "name",
        "list_table_metadata": "name",
        "get_query_results": "",
    },
    "batch": {
        "describe_job_queues": "job_queue_arn",
        "describe_compute_environments": "compute_environment_arn",
        "describe_job_definitions": "job_definition_arn",
        "list_jobs": "job_id",
    },
    "stepfunctions": {
        "list_state_machines": "state_machine_arn",
        "list_executions": "execution_arn",
        "get_execution_history": "id",
    },
    "cognito-idp": {
        "list_user_pools": "id",
        "list_users": "username",
        "list_groups": "group_name",
        "list_user_pool_clients": "client_id",
    },
    "cognito-identity": {
        "list_identity_pools": "identity_pool_id",
    },
    "apigateway": {
        "get_rest_apis": "id",
        "get_api_keys": "id",
        "get_usage_plans": "id",
        "get_domain_names": "domain_name",
        "get_resources": "id",
    },
    "apigatewayv2": {
        "get_apis": "api_id",
    },
    "cloudfront": {
        "list_distributions": "arn",
        "list_invalidations": "id",
    },
    "organizations": {
        "list_accounts": "arn",
        "list_policies": "arn",
        "list_roots": "arn",
        "list_children": "id",
        "list_organizational_units_for_parent": "arn",
        "list_targets_for_policy": "arn",
        "list_delegated_administrators": "arn",
    },
    "guardduty": {
        "list_detectors": "value",
        "list_members": "account_id",
        "list_findings": "value",
    },
    "config": {
        "describe_config_rules": "config_rule_arn",
        "describe_compliance_by_config_rule": "config_rule_name",
        "describe_compliance_by_resource": "resource_type resource_id",
        "list_discovered_resources": "resource_id",
    },
    "backup": {
        "list_backup_plans": "backup_plan_arn",
        "list_backup_vaults": "backup_vault_arn",
        "list_recovery_points_by_backup_vault": "recovery_point_arn",
        "list_protected_resources": "resource_arn",
        "list_backup_jobs": "backup_job_id",
        "list_backup_selections": "selection_id",
    },
    "efs": {
        "describe_file_systems": "file_system_id",
        "describe_mount_targets": "mount_target_id",
        "describe_access_points": "access_point_arn",
    },
    "elasticache": {
        "describe_cache_clusters": "arn",
        "describe_replication_groups": "arn",
    },
    "redshift": {
        "describe_clusters": "cluster_identifier",
        "describe_cluster_snapshots": "snapshot_arn",
    },
    "kinesis": {
        "list_streams": "value",
        "list_shards": "shard_id",
        "list_stream_consumers": "consumer_arn",
    },
    "sagemaker": {
        "list_models": "model_arn",
        "list_endpoints": "endpoint_arn",
        "list_training_jobs": "training_job_arn",
        "list_notebook_instances": "notebook_instance_arn",
    },
    "cloudtrail": {
        "list_trails": "trail_arn",
        "lookup_events": "event_id",
    },
    "events": {
        "list_rules": "arn",
    },
    "codepipeline": {
        "list_pipelines": "name",
    },
    "codecommit": {
        "list_repositories": "repository_id",
    },
    "acm": {
        "list_certificates": "certificate_arn",
    },
    "shield": {
        "list_protections": "protection_arn",
    },
    "inspector2": {
        "list_findings": "finding_arn",
        "list_coverage": "resource_type resource_id",
    },
    "securityhub": {
        "get_findings": "id",
    },
    "accessanalyzer": {
        "list_analyzers": "arn",
        "list_findings": "id",
    },
    "ram": {
        "get_resource_shares": "resource_share_arn",
        "list_principals": "resource_share_arn id",
    },
    "resourcegroupstaggingapi": {
        "get_resources": "resource_arn",
    },
    "workspaces": {
        "describe_workspaces": "workspace_id",
    },
    "service-quotas": {
        "list_service_quotas": "quota_arn",
    },
    "support": {
        "describe_cases": "case_id",
    },
    "budgets": {
        "describe_budgets": "budget_name",
    },
    "ce": {
        "get_anomalies": "anomaly_id",
    },
    "imagebuilder": {
        "list_images": "name version",
    },
    "memorydb": {
        "describe_engine_versions": "engine engine_version engine_patch_version",
    },
    "opensearch": {
        "list_domain_names": "domain_name",
    },
    "deadline": {
        "list_farms": "farm_id",
        "list_queues": "queue_id",
    },
    "medialive": {
        "list_channels": "arn",
    },
}
"""Service -> operation -> columns of its key; none: the whole record."""

HINTED = [
    "apigateway", "autoscaling", "cloudformation", "cloudwatch", "ec2", "ecr", "ecs", "elbv2", "glue", "iam", "lambda",
    "logs", "memorydb", "nimble", "ram", "rds", "route53", "s3", "sns", "sso-admin", "ssm", "stepfunctions",
]  # fmt: skip
SESSION = model_session()


@pytest.mark.parametrize("service", WELL_KNOWN)
def test_key_is_the_one_that_an_expert_would_choose(service):
    found, keys = Service(service, SESSION), {}
    for name in WELL_KNOWN[service]:
        listing = found.listing(name)
        if len(lists := found.lists(listing)) > 1:
            listing = found.listing(name, lists[0])
        keys[name] = " ".join(proposed_keys(listing)[0])
    assert keys == WELL_KNOWN[service]


@pytest.mark.parametrize("service", WELL_KNOWN)
def test_no_key_that_an_expert_would_choose_is_in_doubt_and_none_of_a_few_values_passes(service):
    found = Service(service, SESSION)
    for name, key in WELL_KNOWN[service].items():
        listing = found.listing(name)
        lists = found.lists(listing)
        result_key = lists[0] if len(lists) > 1 else None
        operation = found.listing(name, result_key).operation

        def doubt_of(key, name=name, result_key=result_key, operation=operation):
            given = dict.fromkeys(operation.required, "given")
            return key_doubt(
                Dataset(name="x", service=service, operation=name, result_key=result_key, key=key, parameters=given),
                operation,
            )

        assert doubt_of(tuple(key.split())) is None, name
        few = [member.name for member in operation.record.members if member.enum or member.kind == "boolean"]
        for column in set(few) - {key} - {snake_case(parameter) for parameter in operation.required}:
            assert f"{column}: one of a few values" in doubt_of((column,)), name


def test_hints_name_columns_and_parameters_that_exist():
    """Models change with every release of botocore; a hint that no longer fits must not be found by an operator."""
    for service in HINTED:
        known = hints(service)
        assert known["keys"] or known["parents"]
        for name, key in known["keys"].items():
            assert len(key_leaves(key, inspect_operation(SESSION, service, name).record)) == len(key), name
        for name, bind in known["parents"].items():
            assert set(bind) <= set(inspect_operation(SESSION, service, name).parameters)
            for place in bind.values():
                parent, _, column = place.partition(".")
                assert column in {member.name for member in inspect_operation(SESSION, service, parent).record.members}
