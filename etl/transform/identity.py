"""Which members identify a record, judged by their names. Models do not say it, so this is a guess, made with care.

A key that is too short merges different records, and one that is the same in every record merges all. So a parameter of
the slice, an account, an owner, a Region, an enum and a boolean are never a key alone. The identity of the item comes
before that of its parent, and several members are joined where one is not enough. Where the names tell nothing, the key
is empty: then the whole record is its own key.
"""

import re
from collections.abc import Collection, Iterator, Sequence

from etl.model import Member, leaves

Key = tuple[str, ...]

WHOLE_RECORD: Key = ()
"""The key of records that no member identifies."""

_SUFFIXES = ("_arn", "_uuid", "_id", "_identifier", "_digest", "_name", "_number", "_code", "_key", "_url", "_value")
_PLACES = {suffix: place for place, suffix in enumerate(_SUFFIXES)}
"""How plausible an end of a name makes a member, the most plausible first."""
_EXACT = 2
"""Up to this relation, a member names the item itself."""
_SHARED = re.compile(r"(^|_)(account|owner|region|catalog|registry|partition|tenant)(_|$)")
"""Names of what all records of a slice share."""
_OF_ANOTHER = re.compile(
    r"^(source|parent|original|origin|target|destination|previous|last|latest|next|root|default|primary|base|current"
    r"|pending|related|associated|replica|ramdisk|kernel|product|vendor|service|request|operation|creator|generator)_"
)
"""How names of other things of the same kind begin: the source_image_id of an image is not its own."""
_ACCOUNTS = ("account", "member", "administrator", "admin", "principal", "invitation", "owner", "organization")
"""Items that an account identifies."""
_SOMETIMES = re.compile(
    r"\bonly (supported|returned|present|included|available|applies|applicable|for)\b"
    r"|\b(supported|returned|present|included|available|applies|applicable) only\b",
    re.IGNORECASE,
)
"""Documentation of a member that most records lack, such as the ARN of a bucket in S3."""
_ENDS = re.compile(r"_(by|for|in|of|from|with|per|to)_.*$")
_WRAPPED = re.compile(
    r"_(list|set|summary|summaries|detail|details|info|infos|item|items|metadata|description|response)$"
)
_VERSIONS = ("version", "revision")
_ABOUT = (
    "status",
    "information",
    "attribute",
    "configuration",
    "health",
    "state",
    "compliance",
    "coverage",
    "instance",
)
"""Items of which there is one for each thing whose name comes before: the status of an instance."""
_MOST_PARTS = 4
_NEWEST = ("updated", "modified", "changed", "creat")


def key_candidates(
    record: Member, nouns: str | Sequence[str], given: Collection[str] = (), *, ids_first: bool = False
) -> list[Key]:
    """Return the keys that may identify records, the most plausible first. The last one is that of the whole record.

    Args:
        record: the shape of the records.
        nouns: the singular of what is listed, as the operation and the response name it: `recovery_point`.
        given: columns that are the same in all records of a slice: its parameters.
        ids_first: an id comes before an ARN. EC2 got ARNs late, and leaves many of them out.
    """
    guess = _Guess(record, _bare(nouns), frozenset(given), ids_first=ids_first)
    found = list(guess.keys())
    return [*dict.fromkeys([*found, WHOLE_RECORD])]


def key_doubts(key: Key, record: Member, nouns: str | Sequence[str], given: Collection[str] = ()) -> list[str]:
    """Return why a key may not identify records, a clause for each reason; none if names tell that it does.

    The arguments are those of `key_candidates`. A key that contains a sure one is sure itself.
    """
    guess = _Guess(record, _bare(nouns), frozenset(given), ids_first=False)
    if not key or any(set(sure) <= set(key) for sure in guess.enough()):
        may_miss = len(key) == 1 and guess.is_sometimes(key[0])
        return [f"{key[0]}: absent in some records, which are rejected"] if may_miss else []
    found: dict[str, list[str]] = {}
    for name in key:
        found.setdefault(guess.doubt(name), []).append(name)
    return [f"{', '.join(names)}: {why}" for why, names in found.items()]


def order_candidate(record: Member) -> str | None:
    """Return the timestamp that most likely says when a record changed; None if there is none."""
    instants = [member.name for member in record.members if member.kind == "timestamp"]
    found = (name for word in _NEWEST for name in instants if word in name)
    return next(found, None)


def singular(noun: str) -> str:
    """Return the singular of an English plural in snake_case: policy for policies."""
    if noun.endswith("ies"):
        return f"{noun[:-3]}y"
    if re.search(r"(ss|x|ch|sh|alias|status)es$", noun):
        return noun[:-2]
    return noun if noun.endswith(("ss", "us")) else noun.removesuffix("s")


def split_name(name: str) -> tuple[str, str]:
    """Return stem and suffix: ("farm", "_id") for farm_id, ("", "_arn") for arn, ("bucket", "") for bucket."""
    suffix = next((end for end in _SUFFIXES if f"_{name}".endswith(end)), "")
    return f"_{name}".removesuffix(suffix).removeprefix("_"), suffix


def _bare(nouns: str | Sequence[str]) -> tuple[str, ...]:
    """Return nouns without what does not name the item: backup_job for job_summary_list, point for point_by_vault."""
    found: dict[str, None] = {}
    for noun in [nouns] if isinstance(nouns, str) else nouns:
        found[noun] = None
        bare = _ENDS.sub("", noun)
        while (shorter := _WRAPPED.sub("", bare)) != bare:
            bare = shorter
        found[singular(bare)] = None
    return tuple(found)


class _Guess:
    """The plain members of one shape of records, ranked."""

    def __init__(self, record: Member, nouns: tuple[str, ...], given: frozenset[str], *, ids_first: bool) -> None:
        self._nouns = nouns
        self._given = given
        self._ids_first = ids_first
        self._top = {member.name for member in record.members}
        self._has_instants = any(member.kind == "timestamp" for member in record.members)
        self._some_required = any(member.required and member.kind == "string" for member in record.members)
        self._names_account = any(noun.split("_")[-1] in _ACCOUNTS for noun in nouns)
        self._members = members = {name: member for name, _, member in leaves(record)}
        self._fit = {name: member for name, member in members.items() if self._may_identify(name, member)}
        self._parts = [name for name in members if self._may_be_part(name, members[name])]

    def keys(self) -> Iterator[Key]:
        """Yield the keys that may identify records, the most plausible first."""
        yield from self.sure()
        own = self._own()
        if not own and not self._has_instants and 1 < len(self._parts) <= _MOST_PARTS:
            yield tuple(self._parts)
        if not own:
            yield WHOLE_RECORD
        for name in sorted(self._fit, key=self._rank):
            if name not in own and name in self._top and split_name(name)[1]:
                yield (name,)

    def sure(self) -> Iterator[Key]:
        """Yield the keys whose names say that they are the item's own."""
        own = self._own()
        if any(noun.endswith(_VERSIONS) for noun in self._nouns) and (key := self._version(own)):
            yield key
        if any(noun.split("_")[-1] == "tag" for noun in self._nouns) and "key" in self._fit:
            yield tuple(name for name in ("resource_arn", "resource_id", "resource_type", "key") if name in self._parts)
        if own[:1] == ["resource_id"] and "resource_type" in self._parts:
            yield ("resource_type", "resource_id")
        if own[:1] == ["key"] and "version_id" in self._fit:
            yield ("key", "version_id")
        yield from ((name,) for name in own)

    def enough(self) -> list[Key]:
        """Return the sure keys without those of which it takes more than one: the key of an object with versions."""
        found = list(self.sure())
        parts = {name for key in found if len(key) > 1 for name in key}
        return [key for key in found if len(key) > 1 or key[0] not in parts]

    def is_sometimes(self, name: str) -> bool:
        """Tell whether documentation says that some records lack a member."""
        return name in self._members and bool(_SOMETIMES.search(self._members[name].documentation))

    def doubt(self, name: str) -> str:
        """Say why a member may not identify records."""
        member = self._members.get(name)
        if name in self._given:
            return "a parameter, which is the same in a whole slice"
        if member is not None and (member.enum or member.kind == "boolean"):
            return "one of a few values"
        if member is not None and name not in self._fit and _SHARED.search(name):
            return "an owner or a place, which many records share"
        return f"not known as a name of the {self._nouns[-1].replace('_', ' ')} itself"

    def _own(self) -> list[str]:
        ranked = sorted(self._fit, key=self._rank)
        return [name for name in ranked if self._relation(name) <= _EXACT and name in self._top]

    def _may_identify(self, name: str, member: Member) -> bool:
        if member.kind not in ("string", "integer", "long") or member.enum or name in self._given:
            return False
        return self._names_account or not _SHARED.search(name) or self._relation(name) <= 1

    def _may_be_part(self, name: str, member: Member) -> bool:
        """Tell whether a member may identify a record together with others: also its type, an enum."""
        plain = member.kind in ("string", "integer", "long") and name in self._top
        named = bool(split_name(name)[1]) or name.endswith("type") or name in ("key", "name", *_VERSIONS)
        return plain and named and name not in self._given and not _SHARED.search(name)

    def _rank(self, name: str) -> tuple[object, ...]:
        relation, place, member = self._relation(name), self._place(name), self._fit[name]
        # A record without its key is rejected, so members that may be absent come last.
        # Many services got ARNs later than ids and names; an id is there even where the model does not demand it.
        may_miss = self._some_required and not member.required and split_name(name)[1] != "_id"
        return name not in self._top, relation > _EXACT, self.is_sometimes(name), may_miss, place, relation

    def _place(self, name: str) -> int:
        if name == "key" or (name == "value" and len(self._top) == 1):
            return 1
        suffix = split_name(name)[1]
        if self._ids_first and suffix == "_arn":
            return _PLACES["_identifier"]
        return _PLACES.get(suffix, len(_PLACES))

    def _relation(self, name: str) -> int:
        """Return how closely a name is related to the item, 0 most; up to 2, it is the item's own."""
        stem, suffix = split_name(name)
        if self._names_account and name in ("account_id", "aws_account_id"):
            return int(name != "account_id")
        if name == "value":
            return 0 if len(self._top) == 1 else 5
        if name in self._nouns:  # domain_name for list_domain_names
            return 1
        if not suffix:
            return 1 if name in (f"{noun}name" for noun in self._nouns) else 5
        if not stem or stem in self._nouns:
            return 0
        for noun in self._nouns:
            if f"_{noun}".endswith(f"_{stem}"):  # group for security_group
                return 1
            if noun.endswith(_ABOUT) and f"{noun}_".startswith(f"{stem}_"):
                return 2
        if any(f"_{stem}".endswith(f"_{noun}") for noun in self._nouns):  # cache_cluster for cluster
            return 4 if _OF_ANOTHER.search(stem) else 2
        return 5

    def _version(self, own: Sequence[str]) -> Key | None:
        """Return the key of one of many versions of the same thing: that of the thing, and its own."""
        noun = self._nouns[-1]
        if any(name == f"{noun}_arn" for name in own):
            return None  # it names the version
        thing = re.sub(rf"_?({'|'.join(_VERSIONS)})$", "", noun)
        ends = [f"{word}{end}" for word in _VERSIONS for end in ("_id", "_number", "")]
        plain = [name for name in self._fit if name in self._top]
        named = [name for end in ends for name in (f"{thing}_{end}", end) if name in plain]
        versions = [*named, *(name for end in ends for name in plain if name.endswith(f"_{end}"))]
        words = [f"{base}{end}" for end in ("_arn", "_id", "_name", "") for base in (thing, thing.rpartition("_")[2])]
        owners = [name for name in (*words, "key", "name", "id", "arn") if name in self._fit and name not in versions]
        return (*owners[:1], versions[0]) if versions else None
