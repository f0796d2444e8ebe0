"""The taxonomy: what its docstring draws is what it is, and every class knows its exit code."""

import importlib
import inspect
import pkgutil
import re

import pytest

import etl
from etl import errors


def drawn_tree():
    """Return the tree of the docstring: class name -> (name of the class above, exit code or None)."""
    found, above = {}, []
    for line in errors.__doc__.splitlines():
        match = re.match(r"^(?P<indent>[ │]*)(?:[├└]─ )?(?P<name>[A-Z]\w+Error)\b", line)
        if not match:
            continue
        above = [entry for entry in above if entry[0] < len(match["indent"]) + ("─" in line)]
        code = re.search(r"exit (\d)", line)
        found[match["name"]] = (above[-1][1] if above else None, int(code[1]) if code else None)
        above.append((len(match["indent"]) + ("─" in line), match["name"]))
    return found


def classes():
    own = errors.__name__
    return {name: found for name, found in vars(errors).items() if inspect.isclass(found) and found.__module__ == own}


def test_tree_in_the_docstring_is_the_tree_of_the_classes():
    drawn = {name: above for name, (above, _) in drawn_tree().items()}
    real = {name: found.__bases__[0].__name__ for name, found in classes().items() if name != "EtlError"}
    real["EtlError"] = None
    assert drawn == real


def test_exit_codes_in_the_docstring_are_those_of_the_classes():
    drawn = {name: code for name, (_, code) in drawn_tree().items() if code is not None}
    assert drawn == {name: classes()[name].exit_code for name in drawn}
    # The root has none of its own, and the others never reach the command line.
    assert classes().keys() - drawn.keys() == {"EtlError", "RecordError", "LaterError", "ToleratedError"}


@pytest.mark.parametrize(
    ("name", "code"),
    [("ConfigError", 2), ("LockedError", 4), ("TransientSourceError", 3), ("SourceError", 1), ("StorageError", 3)],
)
def test_exit_code_says_what_the_operator_should_do_next(name, code):
    assert classes()[name].exit_code == code


def test_no_other_module_hides_an_error_class_of_its_own():
    """Nobody would have decided what it means. MalformedPageError never leaves client.py."""
    for module in pkgutil.walk_packages(etl.__path__, "etl."):
        if not module.name.startswith("etl.emulator") and module.name not in {"etl.__main__", "etl.spark"}:
            importlib.import_module(module.name)

    def below(found):
        for child in found.__subclasses__():
            yield child
            yield from below(child)

    elsewhere = {child.__name__ for child in below(errors.EtlError) if child.__module__ != "etl.errors"}
    assert elsewhere == {"MalformedPageError"}


def test_every_error_says_what_it_was_told():
    for name, found in classes().items():
        assert str(found(f"place: found {name}; expected another")) == f"place: found {name}; expected another"
