"""A bucket on loopback that moto plays, in a process of its own: python -m benchmarks.bucket prints its URL."""

import signal

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "bench"
REGION = "us-east-1"


def main() -> None:
    """Serve until the process is ended."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    session = boto3.session.Session("key", "secret", region_name=REGION)
    session.client("s3", endpoint_url=url).create_bucket(Bucket=BUCKET)
    print(url, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
