# The object store that bundles and runs on pods share (CTR_STORE, CTR_WORKSPACES), and who may do what there.
# A module: the caller configures the provider and the state. Checked by `terraform fmt` and against what the code asks of S3
# (tests/test_infra_store.py); never applied, since no account was at hand.

terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

resource "aws_s3_bucket" "store" {
  bucket = var.bucket
}

# Champions are told by digests, so nothing is ever overwritten; a version is what a deletion by mistake is taken back with.
resource "aws_s3_bucket_versioning" "store" {
  bucket = aws_s3_bucket.store.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "store" {
  bucket = aws_s3_bucket.store.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "store" {
  bucket                  = aws_s3_bucket.store.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "store" {
  depends_on = [aws_s3_bucket_versioning.store]
  bucket     = aws_s3_bucket.store.id

  # Nothing else goes by its age: DVC pushes no object that is there already, so one that many runs share may be old and needed.
  rule {
    id     = "deleted-and-broken-off"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = var.undelete_days
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }
}

data "aws_iam_policy_document" "tls_only" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.store.arn, "${aws_s3_bucket.store.arn}/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "store" {
  depends_on = [aws_s3_bucket_public_access_block.store]
  bucket     = aws_s3_bucket.store.id
  policy     = data.aws_iam_policy_document.tls_only.json
}

# Who may do what: policies/<who>.json, which are plain policy documents with the names of the buckets left open.
resource "aws_iam_policy" "may" {
  for_each = toset(["promoter", "stages", "reader"])
  name     = "${var.name}-${each.key}"
  policy = templatefile("${path.module}/policies/${each.key}.json", {
    bucket     = var.bucket
    log_bucket = var.log_bucket
  })
}

# The pods of the steps (service account ctr-stages of namespace ctr, infra/kubernetes) get their policy without a key.
data "aws_iam_policy_document" "stages_pods" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [var.oidc_provider_arn]
    }
    condition {
      test     = "StringEquals"
      variable = "${var.oidc_issuer}:sub"
      values   = ["system:serviceaccount:ctr:ctr-stages"]
    }
    condition {
      test     = "StringEquals"
      variable = "${var.oidc_issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "stages" {
  name               = "${var.name}-stages"
  assume_role_policy = data.aws_iam_policy_document.stages_pods.json
}

resource "aws_iam_role_policy_attachment" "stages" {
  role       = aws_iam_role.stages.name
  policy_arn = aws_iam_policy.may["stages"].arn
}
