output "environment" {
  description = "What the stages' environment names (docs/airflow.md)."
  value = {
    CTR_STORE      = "s3://${aws_s3_bucket.store.bucket}/bundles"
    CTR_WORKSPACES = "s3://${aws_s3_bucket.store.bucket}/runs"
  }
}

output "policies" {
  description = "Policy of whoever promotes and tidies up (Airflow's workers), of the steps' pods, and of who only loads bundles."
  value       = { for who, policy in aws_iam_policy.may : who => policy.arn }
}

output "stages_role" {
  description = "For the annotation eks.amazonaws.com/role-arn of the service account ctr-stages."
  value       = aws_iam_role.stages.arn
}
