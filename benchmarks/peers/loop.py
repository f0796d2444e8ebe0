"""The least that one connection can wait: ask for a page, find its token, ask for the next one. Nothing is kept."""

import json
import os
import re
from urllib.parse import quote

import urllib3

_TOKEN = re.compile(rb'"nextToken":"([^"]*)"}$')
_END = 300
"""So many bytes at the end of a page have its token."""

http = urllib3.PoolManager()
root = f"{os.environ['AWS_ENDPOINT_URL']}/2020-08-01/studios"

for studio in json.loads(http.request("GET", root).data)["studios"]:
    token = ""
    while token is not None:
        query = f"?nextToken={quote(token, safe='')}" if token else ""
        body = http.request("GET", f"{root}/{studio['studioId']}/streaming-sessions{query}").data
        found = _TOKEN.search(body[-_END:])
        token = found[1].decode() if found else None
