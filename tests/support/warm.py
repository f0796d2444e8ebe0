"""What each job reads first, read once: for a process that does nothing but fork jobs. No thread is started."""

from etl.extract.service_model import model_session

_session = model_session()
for _service in ("sts", "nimble"):
    _session.create_client(_service, "us-west-2", aws_access_key_id="nobody", aws_secret_access_key="nothing")
_session.get_paginator_model("nimble")
