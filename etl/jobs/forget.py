"""Forget slices, or every record that ever had a value: in tables, change logs, rejects, ledgers and the catalog."""

from collections.abc import Sequence
from dataclasses import dataclass

from etl.config import Settings
from etl.errors import LedgerError
from etl.extract.datasets import builtin_datasets, select_datasets
from etl.jobs.workplace import workplace
from etl.ledger.directory import damaged_ledgers, ledger_paths
from etl.outcome import CheckResult
from etl.pipeline.forget import Left, Touched, note, survey
from etl.pipeline.forget_plan import Selection, make_plan
from etl.transform.schema import DIGEST


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What is forgotten, or would be.

    Attributes:
        touched: from where how much goes.
        left: columns in which the values still are, because nobody asked to search them there.
        unsearched: ledgers that were set aside because they are damaged: nobody can tell what they hold.
        failed_checks: checks of severity *error* that the new catalog fails.
    """

    touched: Sequence[Touched]
    left: Sequence[Left] = ()
    unsearched: Sequence[str] = ()
    failed_checks: Sequence[CheckResult] = ()


def forget(settings: Settings, selection: Selection, *, confirmed: bool) -> Forgotten:
    """Forget what is selected, or, unless that is `confirmed`, only return what would be forgotten.

    It is one step: if it is killed, the next job goes on. Replaced files stay until `vacuum`.

    Raises:
        ConfigError: nothing is known of what was selected.
        LockedError: another job works on this state directory or warehouse.
        LedgerError, WarehouseError: something that must be searched cannot be read; nothing has changed.
        StorageError: the disk refused.
    """
    with workplace(settings) as place, place.alone():
        secret = settings.privacy.secret
        datasets = {**builtin_datasets(), **select_datasets(settings.datasets, settings.privacy.rules)}
        keys = {name: dataset.key or (DIGEST.name,) for name, dataset in datasets.items()}
        try:
            for failure in place.fetch_ledgers():
                raise failure
            ledgers = ledger_paths(settings.state_dir)
            plan = make_plan(selection, place.tables, ledgers, keys, secret)
            touched, left = survey(plan, place.tables, ledgers, secret)
        except LedgerError as exc:
            raise LedgerError(
                f"{exc}. Nothing is forgotten, because this ledger cannot be searched: remove it, then forget again"
            ) from exc
        unsearched = [path.name for path in damaged_ledgers(settings.state_dir)]
        failed: tuple[CheckResult, ...] = ()
        if confirmed and touched:
            note(settings.state_dir, plan)
            failed = place.forget(plan)
    return Forgotten(touched, left, unsearched, failed)
