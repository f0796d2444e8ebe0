"""Pages out of AWS list operations. The only room that imports boto3 and botocore."""
