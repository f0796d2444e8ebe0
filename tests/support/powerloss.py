"""What a power loss may leave on a disk, made from a trace of what was done to it.

The model is that of ALICE (Pillai et al., "All File Systems Are Not Created Equal: On the Complexity of Crafting
Crash-Consistent Applications", OSDI 2014), without anything that one file system promises beyond POSIX:

- What is in a file is on the disk after an fsync or fdatasync of the file; its size too.
- A name (made, renamed, linked, removed) is on the disk after an fsync of its directory. The name of that directory
  itself needs an fsync of the directory above.
- Whatever is not there yet may be there nevertheless: each write, each change of a size and each change of a name by
  itself, in any combination, whatever their order was. A write may be there up to some byte, a file may have got its
  size and not its content.
- A rename within a directory happens or does not; of one between two, each side by itself. A write harms no byte
  beside it.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from support.disk import Event


@dataclass(slots=True, eq=False)
class File:
    """What is on the disk, and the writes (offset, data) and changes of size (size, None) that may be."""

    content: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Directory:
    """The names that are on the disk, and the changes that may be: name -> what it means, None: nothing."""

    names: "dict[str, File | Directory]" = field(default_factory=dict)
    pending: "list[dict[str, File | Directory | None]]" = field(default_factory=list)


class Fate:
    """Decides what becomes of what is not on the disk yet. This one: all of it is lost."""

    def keeps_name(self) -> bool:
        return False

    def kept_of(self, _data: bytes) -> bytes:
        """Return what is on the disk where `data` was written, from its first byte on."""
        return b""

    def keeps_size(self) -> bool:
        return False


class KillOnly(Fate):
    """All of it is kept: the process died, the power stayed."""

    def keeps_name(self) -> bool:
        return True

    def kept_of(self, data: bytes) -> bytes:
        return data

    def keeps_size(self) -> bool:
        return True


class NamesOnly(Fate):
    """Names are kept, what is in the files is lost: new files are empty."""

    def keeps_name(self) -> bool:
        return True


class NamesAndSizes(KillOnly):
    """Names and sizes are kept; what is in the files is zeros."""

    def kept_of(self, data: bytes) -> bytes:
        return bytes(len(data))


class DataOnly(KillOnly):
    """What is in the files is kept, names are lost."""

    def keeps_name(self) -> bool:
        return False


class NamesAndHalves(KillOnly):
    """Names are kept, and half of each write."""

    def kept_of(self, data: bytes) -> bytes:
        return data[: len(data) // 2]


class Seeded(Fate):
    """Chance decides, for each by itself."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def keeps_name(self) -> bool:
        return self._random.random() < 0.5

    def kept_of(self, data: bytes) -> bytes:
        fate = self._random.random()
        if fate < 0.4:
            return data
        if fate < 0.8:
            return b""
        kept = self._random.randrange(len(data))
        return data[:kept] if fate < 0.9 else data[:kept] + bytes(len(data) - kept)

    def keeps_size(self) -> bool:
        return self.keeps_name()


FATES: dict[str, Callable[[], Fate]] = {
    "lost": Fate,
    "kept": KillOnly,
    "names": NamesOnly,
    "names and sizes": NamesAndSizes,
    "names and halves": NamesAndHalves,
    "data": DataOnly,
    "seed 1": lambda: Seeded(1),
    "seed 2": lambda: Seeded(2),
    "seed 3": lambda: Seeded(3),
}


class Disk:
    """A disk that was at peace when `directory` was copied, and what has been done to it since.

    Args:
        copy: what was there.
        directory: where the trace says that it is.
    """

    def __init__(self, copy: Path, directory: Path) -> None:
        self._root = PurePosixPath(directory)
        self._now: dict[str, File | Directory] = {}
        self._inodes: dict[int, File] = {}
        self._tree = self._load(copy, "")

    def apply(self, event: Event) -> None:
        """Do what was done."""
        path, second = self._relative(event.path), self._relative(event.second)
        match event.kind:
            case "c":
                self._inodes[event.inode] = File()
                self._name({path: self._inodes[event.inode]})
            case "o":
                self._file(event, path)
            case "w":
                self._file(event, path).pending.append((event.offset, event.data))
            case "t":
                self._file(event, path).pending.append((event.offset, None))
            case "d":
                self._name({path: Directory()})
            case "r":
                self._name({path: None, second: self._now[path]})
            case "l":
                self._name({second: self._now[path]})
            case "u" | "x":
                self._name({path: None})
            case "s":
                self._sync(event, path)
            case _:
                assert event.kind in "km", event

    def after_power_loss(self, fate: Fate) -> dict[str, bytes | None]:
        """Return path -> content of each file, or None for a directory, as they may be found."""
        return dict(self._found(self._tree, "", fate))

    def _found(self, directory: Directory, at: str, fate: Fate) -> Iterator[tuple[str, bytes | None]]:
        names: dict[str, File | Directory | None] = dict(directory.names)
        for change in directory.pending:
            if fate.keeps_name():
                names.update(change)
        for name, node in names.items():
            path = f"{at}/{name}".lstrip("/")
            if isinstance(node, File):
                yield path, _content(node, fate)
            elif node is not None:
                yield path, None
                yield from self._found(node, path, fate)

    def _load(self, directory: Path, at: str) -> Directory:
        node = Directory()
        self._now[at] = node
        for entry in directory.iterdir():
            path = f"{at}/{entry.name}".lstrip("/")
            node.names[entry.name] = self._load(entry, path) if entry.is_dir() else File(entry.read_bytes())
            self._now[path] = node.names[entry.name]
        return node

    def _relative(self, path: str) -> str:
        inside = path.startswith(f"{self._root}/")
        return path.removeprefix(f"{self._root}/").removesuffix(" (deleted)") if inside else ""

    def _file(self, event: Event, path: str) -> File:
        """Return the open file that an event is about; one that was there before is known by its name at first."""
        if event.kind == "o" or event.inode not in self._inodes:
            found = self._now[path]
            assert isinstance(found, File), path
            self._inodes[event.inode] = found
        return self._inodes[event.inode]

    def _name(self, changes: dict[str, "File | Directory | None"]) -> None:
        """Change names; those within one directory all at once."""
        by_directory: dict[str, dict[str, File | Directory | None]] = {}
        for path, node in changes.items():
            parent, _, name = path.rpartition("/")
            by_directory.setdefault(parent, {})[name] = node
            if node is None:
                self._now.pop(path)
            else:
                self._now[path] = node
        for parent, names in by_directory.items():
            directory = self._now[parent]
            assert isinstance(directory, Directory), parent
            directory.pending.append(names)

    def _sync(self, event: Event, path: str) -> None:
        node = self._now.get(path)
        if isinstance(node, Directory):
            for change in node.pending:
                node.names.update({name: to for name, to in change.items() if to is not None})
                for name in [name for name, to in change.items() if to is None]:
                    node.names.pop(name, None)
            node.pending.clear()
        else:
            file = self._file(event, path)
            file.content = _content(file, KillOnly())
            file.pending.clear()


def _content(file: File, fate: Fate) -> bytes:
    if not file.pending:
        return file.content
    content = bytearray(file.content)
    for at, data in file.pending:
        if data is None:
            if fate.keeps_size():
                content[at:] = bytes(max(0, at - len(content)))
        elif kept := fate.kept_of(data):
            content[len(content) :] = bytes(max(0, at - len(content)))
            content[at : at + len(kept)] = kept
    return bytes(content)
