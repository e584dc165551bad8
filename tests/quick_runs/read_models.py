"""Reads the models of AWS that runs need where it is imported, for processes that are forked from this one."""

import boto3

session = boto3.Session("nobody", "nothing", region_name="us-east-1")
session.client("glue")
session.resource("s3")
