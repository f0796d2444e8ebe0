"""Several accounts: who may ask for which, with which keys, and what AWS says about an organization.

STS gives out the credentials of a role, which are over when their time has come by the studio's clock. Organizations
lists accounts and units, to the management account only. Account Management lists Regions.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import msgspec

from etl.emulator import signature
from etl.emulator.reply import Reply, error_reply
from etl.emulator.world import World

ROOT = "r-emb1"
UNIT = "ou-emb1-00000001"
UNIT_BELOW = "ou-emb1-00000002"
"""Below the other unit. Of the members, every second one is in it; the others are in the unit above."""


@dataclass(frozen=True)
class Organization:
    """Accounts and Regions beside the world's own, which is the management account. All have as many studios.

    Attributes:
        members: ids of further accounts.
        suspended: those of the members that are closed.
        regions: that every account has opted into, beside the world's own.
        disabled: Regions that none has opted into: requests there are refused.
        role: name of the role that may be assumed in each member; None: any.
        external_id: that its trust policy asks for; None: none.
    """

    members: tuple[str, ...] = ()
    suspended: tuple[str, ...] = ()
    regions: tuple[str, ...] = ("us-east-1", "eu-central-1")
    disabled: tuple[str, ...] = ("ap-east-1",)
    role: str | None = None
    external_id: str | None = None

    @classmethod
    def of(cls, accounts: int) -> "Organization":
        """Return an organization of so many accounts, the management account included."""
        return cls(tuple(f"{2 * 10**11 + number}" for number in range(1, accounts)))


class Caller(NamedTuple):
    """Who has signed a request, and for which Region and service."""

    account_id: str
    region: str
    service: str


class RefusedError(Exception):
    """A request that AWS refuses, with status, code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message = status, code, message


@dataclass
class Offices:
    """The services that know accounts: STS, Organizations, Account Management. `keys` are those that are known."""

    world: World
    organization: Organization | None
    keys: dict[str, signature.Key] = field(default_factory=dict)
    _worlds: dict[tuple[str, str], World] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keys[signature.ACCESS_KEY_ID] = signature.Key(signature.SECRET_ACCESS_KEY, self.world.account_id)
        self._worlds[self.world.account_id, self.world.region] = self.world

    @property
    def account_ids(self) -> tuple[str, ...]:
        """The accounts, the management account first."""
        return (self.world.account_id, *(self.organization.members if self.organization else ()))

    def world_of(self, caller: Caller) -> World:
        """Return what exists in the caller's account and Region.

        Raises:
            RefusedError: the account has not opted into the Region.
        """
        if self.organization and caller.region in self.organization.disabled:
            message = "The security token included in the request is invalid."
            raise RefusedError(403, "UnrecognizedClientException", message)
        place = (caller.account_id, caller.region)
        if place not in self._worlds:
            self._worlds[place] = replace(self.world, account_id=caller.account_id, region=caller.region)
        return self._worlds[place]

    def owner_of(self, studio_id: object) -> str | None:
        """Return the account of a studio that some account and Region has; None: nobody has it."""
        for account_id in self.account_ids:
            for region in self._regions():
                if studio_id in self.world_of(Caller(account_id, region, "nimble")).studio_ids:
                    return account_id
        return None

    def _regions(self) -> tuple[str, ...]:
        asked = dict.fromkeys(region for _, region in self._worlds)
        return tuple(asked | dict.fromkeys(self.organization.regions if self.organization else ()))

    def sts(self, caller: Caller, asked: Mapping[str, str], now: datetime) -> Reply:
        """Answer AssumeRole and GetCallerIdentity.

        Raises:
            RefusedError: there is no such role for the caller, or no such action.
        """
        action = asked.get("Action")
        if action == "GetCallerIdentity":
            account_id = caller.account_id
            return _xml(
                "GetCallerIdentity",
                f"<Arn>arn:aws:iam::{account_id}:user/nimble-etl</Arn>"
                f"<UserId>AIDA{signature.ACCESS_KEY_ID[4:]}</UserId><Account>{account_id}</Account>",
            )
        if action == "AssumeRole":
            return self._assume_role(caller, asked, now)
        raise RefusedError(400, "InvalidAction", f"Unknown action {action}")

    def _assume_role(self, caller: Caller, asked: Mapping[str, str], now: datetime) -> Reply:
        arn, organization = asked.get("RoleArn", ""), self.organization
        _, _, _, _, account_id, resource = [*arn.split(":", 5), *[""] * 6][:6]
        role = resource.removeprefix("role/")
        if (
            organization is None
            or account_id not in self.account_ids
            or organization.role not in {None, role}
            or organization.external_id != asked.get("ExternalId", organization.external_id and "")
        ):
            who = f"arn:aws:iam::{caller.account_id}:user/nimble-etl"
            message = f"User: {who} is not authorized to perform: sts:AssumeRole on resource: {arn}"
            raise RefusedError(403, "AccessDenied", message)
        expires_at = now + timedelta(seconds=int(asked.get("DurationSeconds", "3600")))
        key_id, key = (
            f"ASIA{secrets.token_hex(8).upper()}",
            signature.Key(secrets.token_hex(20), account_id, secrets.token_hex(60), expires_at),
        )
        self.keys[key_id] = key
        session = f"{role}/{asked.get('RoleSessionName', '')}"
        return _xml(
            "AssumeRole",
            f"<AssumedRoleUser><AssumedRoleId>AROA:{escape(session)}</AssumedRoleId>"
            f"<Arn>arn:aws:sts::{account_id}:assumed-role/{escape(session)}</Arn></AssumedRoleUser>"
            f"<Credentials><AccessKeyId>{key_id}</AccessKeyId><SecretAccessKey>{key.secret}</SecretAccessKey>"
            f"<SessionToken>{key.token}</SessionToken><Expiration>{expires_at:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
            "</Credentials>",
        )

    def organizations(self, caller: Caller, action: str, asked: Mapping[str, Any], page_size: int) -> Reply:
        """Answer ListAccounts, ListAccountsForParent and ListOrganizationalUnitsForParent.

        Raises:
            RefusedError: the caller is not the management account, or no such action or unit exists.
        """
        organization = self.organization
        if organization is None or caller.account_id != self.world.account_id:
            raise RefusedError(400, "AccessDeniedException", "You don't have permissions to access this resource.")
        units = {
            ROOT: (self.world.account_id,),
            UNIT: organization.members[::2],
            UNIT_BELOW: organization.members[1::2],
        }
        parent = asked.get("ParentId")
        if action != "ListAccounts" and parent not in units:
            raise RefusedError(400, "ParentNotFoundException", "You specified a parent that doesn't exist.")
        if action == "ListOrganizationalUnitsForParent":
            below = {ROOT: [UNIT], UNIT: [UNIT_BELOW], UNIT_BELOW: []}[str(parent)]
            found = [{"Id": unit, "Arn": self._arn(f"ou/o-emb1/{unit}"), "Name": unit} for unit in below]
            return _page("OrganizationalUnits", found, asked, page_size)
        if action not in {"ListAccounts", "ListAccountsForParent"}:
            raise RefusedError(400, "UnknownOperationException", f"Unknown operation {action}")
        ids = self.account_ids if action == "ListAccounts" else units[str(parent)]
        return _page("Accounts", [self._account(account_id) for account_id in ids], asked, page_size)

    def _account(self, account_id: str) -> dict[str, Any]:
        state = "SUSPENDED" if self.organization and account_id in self.organization.suspended else "ACTIVE"
        return {
            "Id": account_id,
            "Arn": self._arn(f"account/o-emb1/{account_id}"),
            "Email": f"aws-{account_id}@example.org",
            "Name": f"account {account_id}",
            "Status": state,
            "State": state,
            "JoinedMethod": "CREATED",
            "JoinedTimestamp": 1704067200,
        }

    def _arn(self, resource: str) -> str:
        return f"arn:aws:organizations::{self.world.account_id}:{resource}"

    def regions(self, asked: Mapping[str, Any], page_size: int) -> Reply:
        """Answer ListRegions of Account Management."""
        organization = self.organization or Organization(regions=(), disabled=())
        enabled = dict.fromkeys((self.world.region, *organization.regions), "ENABLED_BY_DEFAULT")
        found = enabled | dict.fromkeys(organization.disabled, "DISABLED")
        listed = [{"RegionName": name, "RegionOptStatus": state} for name, state in found.items()]
        return _page("Regions", listed, asked, page_size)


def sts_error(status: int, code: str, message: str) -> Reply:
    """Return an error as STS has it."""
    error = f"<Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message>"
    body = f"<ErrorResponse><Error>{error}</Error></ErrorResponse>"
    return Reply(status, body.encode(), {"Content-Type": "text/xml"})


def json_error(status: int, code: str, message: str) -> Reply:
    """Return an error as services with JSON have it."""
    reply = error_reply(status, code, message)
    return replace(reply, body=msgspec.json.encode({"__type": code, "message": message}))


def _page(name: str, found: list[dict[str, Any]], asked: Mapping[str, Any], page_size: int) -> Reply:
    """Return one page of a listing; a page token is the position where it begins."""
    first = int(asked.get("NextToken") or 0)
    stop = first + min(page_size, asked.get("MaxResults") or page_size)
    page: dict[str, Any] = {name: found[first:stop]}
    if stop < len(found):
        page["NextToken"] = str(stop)
    return Reply(200, msgspec.json.encode(page))


def _xml(action: str, result: str) -> Reply:
    body = (
        f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        f"<{action}Result>{result}</{action}Result></{action}Response>"
    )
    return Reply(200, body.encode(), {"Content-Type": "text/xml"})
