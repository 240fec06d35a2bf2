"""The command `python -m loadtest capacity`, from its arguments to its exit status."""

import sys
from collections.abc import Sequence

from loadtest.capacity.cores import Cores, divide_cores
from loadtest.capacity.options import parse
from loadtest.capacity.report import write_capacity_report
from loadtest.capacity.search import Interrupted, Search
from loadtest.capacity.variants import Variants
from loadtest.errors import LoadTestError
from loadtest.report_folder import report_folder
from loadtest.status import FAILED, HELD, INTERRUPTED


def capacity(arguments: Sequence[str]) -> int:
    """Search for each variant's capacity, print the table and write the report; return the exit status.

    Raises:
        LoadTestError: the search can't start, or can't go on.
    """
    options, others = parse(arguments)
    with report_folder(options.report, "capacity") as folder:
        cores = divide_cores() if options.host is None else Cores()
        return search_all(Search(options, others, folder, cores))


def search_all(search: Search) -> int:
    """Search for the capacity of each variant, print the table and write the report; return the exit status.

    Raises:
        LoadTestError: a variant can't be loaded.
    """
    try:
        _search(search, Variants(search.options, search.cores.service))
    except (Interrupted, KeyboardInterrupt):
        _report(search, interrupted=True)
        return INTERRUPTED
    except LoadTestError:
        # The results of the variants before took minutes, so they are kept.
        if search.steps:
            _report(search, interrupted=True)
        raise
    _report(search, interrupted=False)
    return FAILED if None in search.found.values() else HELD


def _search(search: Search, variants: Variants) -> None:
    variants.check_starts()
    with variants.switched_back():
        for variant in search.options.variants:
            with variants.host_of(variant) as host:
                search.run(variant, host)


def _report(search: Search, *, interrupted: bool) -> None:
    text = write_capacity_report(search, interrupted=interrupted)
    sys.stdout.write(f"{text}\nThe whole report is in {search.folder}.\n")
