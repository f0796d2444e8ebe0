"""What starting tokens hold: botocore's encoding of the page tokens of a service, as the AWS CLI prints it."""

from contextlib import suppress
from typing import Any

from botocore.paginate import TokenDecoder, TokenEncoder

from etl.errors import ConfigError


def plain_tokens(starting_token: str) -> dict[str, Any] | None:
    """Return the parameters that a starting token stands for; None if it leads to a record inside a page.

    botocore has two faults here that plain parameters avoid: it empties all lists of the first page except the one that
    it counts, and it takes the token "None" for no token.
    """
    tokens = TokenDecoder().decode(starting_token)
    if "boto_truncate_amount" in tokens:
        return None
    return {name: token for name, token in tokens.items() if token is not None}


def sent_token(starting_token: str | None) -> str | None:
    """Return the page token that a starting token holds."""
    with suppress(ValueError, AttributeError):  # what cannot be decoded is not sent
        tokens = TokenDecoder().decode(starting_token).values() if starting_token else ()
        return max((token for token in tokens if isinstance(token, str)), key=len, default=None)
    return None


def check_starting_token(token: str) -> str:
    """Return the token if it has botocore's encoding.

    botocore also accepts older forms and guesses what they mean: "None" starts again, "a___2" skips two records.

    Raises:
        ConfigError: the token is not in botocore's encoding.
    """
    try:
        decoded = TokenDecoder().decode(token)
    except (ValueError, AttributeError, TypeError):
        decoded = None
    if not isinstance(decoded, dict) or not decoded or TokenEncoder().encode(decoded) != token:
        raise ConfigError(
            "--starting-token: this is not a starting token; expected one that `nimble-etl run` or "
            "`aws … --max-items` printed (base64 of a JSON object), not a service's own nextToken"
        )
    return token
