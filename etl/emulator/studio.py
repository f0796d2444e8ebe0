"""One studio of the embedded world: its launch profiles, images, components and people, each made once.

What decides about its sessions is in `sessions.py`.
"""

import base64
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING

from etl.emulator.sessions import Record, SessionRules, SessionTemplate

if TYPE_CHECKING:
    from etl.emulator.world import World

INSTANCE_TYPES = (
    *("g4dn.xlarge", "g4dn.2xlarge", "g4dn.4xlarge", "g4dn.8xlarge", "g4dn.12xlarge", "g4dn.16xlarge"),
    *("g3.4xlarge", "g3s.xlarge", "g5.xlarge", "g5.2xlarge", "g5.4xlarge", "g5.8xlarge", "g5.16xlarge"),
)
STUDIO_NAMES = ("nightfall", "blueharbor", "papercrane", "ironwillow", "seventhreel", "lumenforge")
UTC_OFFSETS_H = (-8, 1, 0, -5)
PROFILE_NAMES = ("Animation", "Compositing", "FX", "Lighting", "Layout", "Editorial", "Rigging", "Review")
IMAGES = (
    ("Windows base", "WINDOWS"),
    ("Linux base", "LINUX"),
    ("Linux Houdini", "LINUX"),
    ("Windows Unreal", "WINDOWS"),
)


class UnknownResourceError(Exception):
    """A studio or launch profile that does not exist."""


class Studio:
    """One studio: its short listings, made once, and the rules of its sessions."""

    def __init__(self, world: "World", index: int) -> None:
        self.world = world
        place = f"{world.seed} {world.account_id} {world.region} {index}"
        self._place = place
        random = Random(place)
        self.studio_id = f"{world.region}-" + "".join(random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=10))
        self._utc_offset_h = UTC_OFFSETS_H[index % len(UTC_OFFSETS_H)]
        self._identity_store_id = f"d-{random.randrange(16**10):010x}"
        self.users = tuple(_user_id(random) for _ in range(min(max(world.sessions_per_studio // 20, 12), 2_000)))
        self.admins = self.users[:5]
        created_at = before(world.epoch, days=200 - index % 100)
        name = STUDIO_NAMES[index % len(STUDIO_NAMES)] + ("" if index < len(STUDIO_NAMES) else str(index))
        own_key = index % 2 == 1
        role = f"arn:aws:iam::{world.account_id}:role/{name}"
        encryption: Record = {"keyType": "CUSTOMER_MANAGED_KEY" if own_key else "AWS_OWNED_KEY"}
        if own_key:
            encryption["keyArn"] = f"arn:aws:kms:{world.region}:{world.account_id}:key/{_user_id(random)}"
        self.record: Record = {
            "adminRoleArn": f"{role}-admin",
            "arn": self._arn("studio", self.studio_id),
            "createdAt": created_at,
            "displayName": f"{name.capitalize()} Pictures",
            "homeRegion": world.region,
            "ssoClientId": id22(random),
            "state": "READY",
            "statusCode": "STUDIO_UPDATED",
            "statusMessage": "Studio is ready",
            "studioEncryptionConfiguration": encryption,
            "studioId": self.studio_id,
            "studioName": name,
            "studioUrl": f"https://{name}.nimblestudio.{world.region}.amazonaws.com",
            **({"tags": {"CostCenter": "4100"}} if own_key else {}),
            "updatedAt": created_at + timedelta(days=20),
            "userRoleArn": f"{role}-user",
        }

    def _random(self, topic: str) -> Random:
        return Random(f"{self._place} {topic}")

    def _arn(self, kind: str, resource_id: str) -> str:
        return f"arn:aws:nimble:{self.world.region}:{self.world.account_id}:{kind}/{resource_id}"

    def session(self, slot: int, at: datetime) -> Record | None:
        """Return the session that a slot has at an instant; None if it is vacant."""
        life = self.rules.life_at(slot, at)
        return life.record_at(at) if life else None

    def backup(self, slot: int, at: datetime) -> Record | None:
        """Return the newest backup of a slot's session: taken when it stops, ready five minutes later."""
        session = self.session(slot, at)
        if session is None or session["backupMode"] != "AUTOMATIC" or "stoppedAt" not in session:
            return None
        taken_at: datetime = session["stoppedAt"]
        ready = at >= taken_at + timedelta(minutes=5)
        digest = blake2b(f"{session['sessionId']} {taken_at}".encode(), digest_size=16).digest()
        backup_id = base64.urlsafe_b64encode(digest)[:22].decode()
        backup = {
            "arn": self._arn("streaming-session-backup", backup_id),
            "backupId": backup_id,
            "createdAt": taken_at,
            "launchProfileId": session["launchProfileId"],
            "ownedBy": session["ownedBy"],
            "sessionId": session["sessionId"],
            "state": "READY" if ready else "CREATE_IN_PROGRESS",
            "statusCode": "STREAMING_SESSION_READY" if ready else "STREAMING_SESSION_CREATE_IN_PROGRESS",
        }
        return backup | ({"tags": session["tags"]} if "tags" in session else {})

    def member(self, user_id: str, persona: str) -> Record:
        """Return a membership. Every third user is known to Active Directory."""
        record = {"identityStoreId": self._identity_store_id, "persona": persona, "principalId": user_id}
        number = int(user_id[:8], 16)
        return record | ({"sid": f"S-1-5-21-{number}-{number % 9973}-1013-{number % 7919}"} if number % 3 == 0 else {})

    def profiles_of(self, user_id: str) -> set[str]:
        """Return the launch profiles a user may use."""
        return {
            profile_id
            for profile_id in (profile["launchProfileId"] for profile in self._profiles)
            if any(member["principalId"] == user_id for member in self.profile_members(profile_id))
        }

    def profile_members(self, profile_id: str) -> list[Record]:
        """Return who may use a launch profile: the administrators, and its own share of the users."""
        ids = [profile["launchProfileId"] for profile in self._profiles]
        if profile_id not in ids:
            raise UnknownResourceError(f"launch profile {profile_id!r}")
        own = self.users[len(self.admins) :][ids.index(profile_id) :: len(ids)]
        return [self.member(user_id, "USER") for user_id in (*self.admins, *own)]

    def images_at(self, at: datetime) -> list[Record]:
        """Return the images made until then: the first ones, and one more every 60 days."""
        return [image for made_at, image in self._images if made_at <= at]

    def profiles_at(self, at: datetime) -> list[Record]:
        """Return the launch profiles as last revised: each every 45 days."""
        return [self._revised(profile, number, at) for number, profile in enumerate(self._profiles)]

    def _revised(self, profile: Record, number: int, at: datetime) -> Record:
        since: timedelta = at - profile["updatedAt"] - timedelta(days=number)
        revision = max(0, since // timedelta(days=45))
        if not revision:
            return profile
        return profile | {
            "updatedAt": profile["updatedAt"] + timedelta(days=45 * revision + number),
            "updatedBy": self.admins[revision % len(self.admins)],
            "statusCode": "LAUNCH_PROFILE_UPDATED",
            "description": f"{profile['name']} workstations, revision {revision}",
        }

    @cached_property
    def rules(self) -> SessionRules:
        """What decides about the sessions of the studio."""
        world = self.world
        day_zero = datetime.combine(world.epoch, time(), UTC) - timedelta(hours=self._utc_offset_h)
        return SessionRules(
            key=blake2b(self._place.encode(), digest_size=32).digest(),
            arn_prefix=self._arn("streaming-session", ""),
            day_zero_s=int(day_zero.timestamp()),
            first_weekday=world.epoch.weekday(),
            life_days=max(1, round(1 / world.daily_churn)) if world.daily_churn else None,
            daily_change=world.daily_change,
            templates=tuple(_template(profile) for profile in self._profiles),
            users=self.users,
            admins=self.admins,
        )

    @cached_property
    def _images(self) -> list[tuple[datetime, Record]]:
        random = self._random("images")
        images = []
        for number in range(len(IMAGES) + 60):
            name, platform = IMAGES[number % len(IMAGES)]
            version = number // len(IMAGES)
            made_at = before(self.world.epoch, days=60 if not version else -60 * (number - len(IMAGES) + 1))
            image_id = id22(random)
            image: Record = {
                "arn": self._arn("streaming-image", image_id),
                "description": f"{name} with the tools of the house",
                "ec2ImageId": f"ami-{random.randrange(16**17):017x}",
                "eulaIds": [eula["eulaId"] for eula in self.world.eulas[: number % 3]],
                "name": f"{name} v{version + 1}",
                "owner": self.world.account_id if number % 4 else "amazon",
                "platform": platform,
                "state": "READY" if number != 1 else "CREATE_FAILED",
                "statusCode": "STREAMING_IMAGE_READY" if number != 1 else "ACCESS_DENIED",
                "statusMessage": "Image is ready" if number != 1 else "No launch permission for this image",
                "streamingImageId": image_id,
            }
            if number % 4:
                image["tags"] = {"Version": str(version + 1)} if number % 2 else {}
                key = f"arn:aws:kms:{self.world.region}:{self.world.account_id}:key/{_user_id(random)}"
                image["encryptionConfiguration"] = {"keyArn": key, "keyType": "CUSTOMER_MANAGED_KEY"}
            images.append((made_at, image))
        return images

    @cached_property
    def _profiles(self) -> list[Record]:
        random = self._random("profiles")
        usable = [image["streamingImageId"] for _, image in self._images[: len(IMAGES)] if image["state"] == "READY"]
        return [self._profile(number, name, usable, random) for number, name in enumerate(PROFILE_NAMES)]

    def _profile(self, number: int, name: str, image_ids: list[str], random: Random) -> Record:
        profile_id = id22(random)
        created_at = before(self.world.epoch, days=50 - number)
        return {
            "arn": self._arn("launch-profile", profile_id),
            "createdAt": created_at,
            "createdBy": self.admins[number % len(self.admins)],
            "description": f"{name} workstations",
            "ec2SubnetIds": [f"subnet-{random.randrange(16**17):017x}" for _ in range(1 + number % 2)],
            "launchProfileId": profile_id,
            "launchProfileProtocolVersions": ["2021-03-31"],
            "name": name,
            "state": "READY",
            "statusCode": "LAUNCH_PROFILE_CREATED",
            "statusMessage": "Launch profile is ready",
            "streamConfiguration": self._stream_configuration(number, image_ids, random),
            "studioComponentIds": [c["studioComponentId"] for c in self.components[number % 4 :: 2]],
            **({} if number % 3 == 2 else {"tags": {"Department": name} if number % 3 else {}}),
            "updatedAt": created_at + timedelta(days=1),
            "updatedBy": self.admins[number % len(self.admins)],
            "validationResults": [
                {
                    "state": "VALIDATION_SUCCESS" if number != 5 else "VALIDATION_FAILED",
                    "statusCode": "VALIDATION_SUCCESS" if number != 5 else "VALIDATION_FAILED_SUBNET_NOT_FOUND",
                    "statusMessage": "The validation succeeded." if number != 5 else "A subnet does not exist.",
                    "type": check,
                }
                for check in ("VALIDATE_SUBNET_ASSOCIATION", "VALIDATE_NETWORK_ACL_ASSOCIATION")
            ],
        }

    def _stream_configuration(self, number: int, image_ids: list[str], random: Random) -> Record:
        persistent = number % 3 != 2
        terminates = number == 1 and self.world.daily_change > 0
        configuration: Record = {
            "automaticTerminationMode": "ACTIVATED" if terminates else "DEACTIVATED",
            "clipboardMode": "DISABLED" if number % 2 else "ENABLED",
            "ec2InstanceTypes": random.sample(INSTANCE_TYPES, 3),
            "maxSessionLengthInMinutes": random.choice((1_440, 2_880, 4_320)),
            "maxStoppedSessionLengthInMinutes": 5_760,
            "sessionBackup": (
                {"maxBackupsToRetain": 1 + number, "mode": "AUTOMATIC"} if persistent else {"mode": "DEACTIVATED"}
            ),
            "sessionPersistenceMode": "ACTIVATED" if persistent else "DEACTIVATED",
            "sessionStorage": {
                "mode": ["UPLOAD"],
                "root": {"linux": "$HOME/upload", "windows": "%HOMEPATH%\\upload"},
            },
            "streamingImageIds": image_ids,
        }
        if persistent:
            size, iops, throughput = random.choice(((100, 3_000, 125), (500, 3_000, 250), (2_000, 16_000, 1_000)))
            configuration["volumeConfiguration"] = {"iops": iops, "size": size, "throughput": throughput}
        return configuration

    @cached_property
    def components(self) -> list[Record]:
        """Studio components, one of each kind."""
        random = self._random("components")
        return [self._component(number, *what, random) for number, what in enumerate(_component_kinds())]

    def _component(self, number: int, kind: str, subtype: str, configuration: Record | None, random: Random) -> Record:
        component_id = id22(random)
        created_at = before(self.world.epoch, days=70 - number)
        component: Record = {
            "arn": self._arn("studio-component", component_id),
            **({"configuration": configuration} if configuration else {}),
            "createdAt": created_at,
            "createdBy": self.admins[number % len(self.admins)],
            "description": f"{kind.replace('_', ' ').capitalize()} of the studio",
            "ec2SecurityGroupIds": [f"sg-{random.randrange(16**17):017x}" for _ in range(number % 3)],
            "name": f"{kind.lower()}-{number}",
            "state": "READY",
            "statusCode": "STUDIO_COMPONENT_CREATED",
            "statusMessage": "Studio component is ready",
            "studioComponentId": component_id,
            "subtype": subtype,
            "type": kind,
            "updatedAt": created_at + timedelta(hours=number),
            "updatedBy": self.admins[0],
        }
        if number % 2:
            role = f"arn:aws:iam::{self.world.account_id}:role/component-{number}"
            component |= {
                "runtimeRoleArn": role,
                "secureInitializationRoleArn": f"{role}-init",
                "tags": {"Tier": "prod"},
            }
        if kind in ("CUSTOM", "LICENSE_SERVICE"):
            component["initializationScripts"] = [
                {
                    "launchProfileProtocolVersion": "2021-03-31",
                    "platform": platform,
                    "runContext": context,
                    "script": f"echo {context.lower()}\n",
                }
                for platform in ("LINUX", "WINDOWS")
                for context in ("SYSTEM_INITIALIZATION", "USER_INITIALIZATION")
            ]
            component["scriptParameters"] = [{"key": "SERVER_PORT", "value": str(5_053 + number)}]
        return component

    @cached_property
    def eula_acceptances(self) -> list[Record]:
        """Which licence agreements were accepted, and when."""
        random = self._random("acceptances")
        return [
            {
                "acceptedAt": before(self.world.epoch, days=40 - index),
                "acceptedBy": self.admins[index % len(self.admins)],
                "accepteeId": self.studio_id,
                "eulaAcceptanceId": id22(random),
                "eulaId": eula["eulaId"],
            }
            for index, eula in enumerate(self.world.eulas)
        ]


def _component_kinds() -> Iterator[tuple[str, str, Record | None]]:
    """Yield type, subtype and configuration of each component of a studio: all kinds there are."""
    directory = {
        "computerAttributes": [{"name": "location", "value": "virtual"}],
        "directoryId": "d-9067a1b2c3",
        "organizationalUnitDistinguishedName": "OU=Workstations,DC=studio,DC=example",
    }
    lustre = {
        "endpoint": "fs-0a1b.fsx.example",
        "fileSystemId": "fs-0a1b",
        "linuxMountPoint": "/mnt/projects",
    }
    windows = {"endpoint": "fs-0c2d.fsx.example", "shareName": "share", "windowsMountDrive": "P"}
    own = {"endpoint": "nas.studio.example", "linuxMountPoint": "$HOME/cache", "windowsMountDrive": "Z"}
    farm = {"activeDirectoryUser": "render", "endpoint": "deadline.studio.example:8080"}
    yield "ACTIVE_DIRECTORY", "AWS_MANAGED_MICROSOFT_AD", {"activeDirectoryConfiguration": directory}
    yield "SHARED_FILE_SYSTEM", "AMAZON_FSX_FOR_LUSTRE", {"sharedFileSystemConfiguration": lustre}
    yield "SHARED_FILE_SYSTEM", "AMAZON_FSX_FOR_WINDOWS", {"sharedFileSystemConfiguration": windows}
    yield "SHARED_FILE_SYSTEM", "CUSTOM", {"sharedFileSystemConfiguration": own}
    yield "COMPUTE_FARM", "CUSTOM", {"computeFarmConfiguration": farm}
    for product in ("houdini", "nuke", "maya"):
        licence = {"endpoint": f"{product}.licenses.studio.example"}
        yield "LICENSE_SERVICE", "CUSTOM", {"licenseServiceConfiguration": licence}
    yield "CUSTOM", "CUSTOM", None


def _template(profile: Record) -> SessionTemplate:
    """Return what a launch profile decides about its sessions."""
    stream: Record = profile["streamConfiguration"]
    backup: Record = stream["sessionBackup"]
    persistent = stream["sessionPersistenceMode"] == "ACTIVATED"
    constant: Record = {
        "automaticTerminationMode": stream["automaticTerminationMode"],
        "backupMode": backup["mode"],
        "launchProfileId": profile["launchProfileId"],
        "maxBackupsToRetain": backup.get("maxBackupsToRetain"),
        "sessionPersistenceMode": stream["sessionPersistenceMode"],
        "volumeConfiguration": stream.get("volumeConfiguration"),
        "volumeRetentionMode": "RETAIN" if persistent else "DELETE",
    }
    terminates = stream["automaticTerminationMode"] == "ACTIVATED"
    return SessionTemplate(
        constant={name: value for name, value in constant.items() if value is not None},
        instance_types=tuple(stream["ec2InstanceTypes"]),
        image_ids=tuple(stream["streamingImageIds"]),
        max_length_s=stream["maxSessionLengthInMinutes"] * 60,
        max_stopped_s=stream["maxStoppedSessionLengthInMinutes"] * 60 if terminates else None,
    )


def before(day: date, days: int) -> datetime:
    """Return 10:00 UTC of some days before a day."""
    return datetime.combine(day - timedelta(days=days), time(10), UTC)


def id22(random: Random) -> str:
    """Return an id as Nimble Studio makes them: 22 characters of URL-safe Base64."""
    return base64.urlsafe_b64encode(random.randbytes(16))[:22].decode()


def _user_id(random: Random) -> str:
    """Return a user id as IAM Identity Center makes them: 36 characters of hexadecimal digits and dashes."""
    digits = random.randbytes(16).hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
