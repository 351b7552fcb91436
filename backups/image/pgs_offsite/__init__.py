"""Copies of the tenants' backups off the host, to S3, and back."""
