variable "bucket" {
  description = "Name of the bucket of bundles and runs, made here."
  type        = string
}

variable "log_bucket" {
  description = "Name of the bucket of impression logs, which is there already and is only read."
  type        = string
}

variable "name" {
  description = "What policies and role begin with."
  type        = string
  default     = "ctr"
}

variable "oidc_provider_arn" {
  description = "The cluster's OIDC provider, whose service accounts may take a role."
  type        = string
}

variable "oidc_issuer" {
  description = "Its issuer without https://, such as oidc.eks.eu-west-1.amazonaws.com/id/ABC."
  type        = string
}

variable "undelete_days" {
  description = "Days within which a deletion can be taken back."
  type        = number
  default     = 30
}
