"""The scenarios that are searched: those in which nothing may be found, and one that shows each broken protocol.

`python tests/property/cache/model/model_scenarios.py` searches them all and prints how many states each has; `--deep`
adds larger ones, some minutes of work.
"""

import sys
import time
from functools import lru_cache

from model_checker import Found, explore
from model_engines import Cas
from model_state import Scenario

ONE_READ = (("read", 1),)
READ_AND_PAGE = (("read", 1), ("page", 0))
TWO_PAGES = (("page", 0), ("page", 1))


def ideal(*writes: str, **limits: object) -> Scenario:
    """Writes by turns of two gateways, over an engine that keeps the port's promises."""
    return Scenario(tuple((kind, number % 2) for number, kind in enumerate(writes)), **limits)  # type: ignore[arg-type]


def records(*writes: str, **limits: object) -> Scenario:
    """The same over a server of records, which may lose each of them alone: patches leave a miss there."""
    return ideal(*writes, engine=Cas, patches_kept=False, **limits)


SCENARIOS: dict[str, Scenario] = {
    "two writes, two reads": ideal("upsert", "patch"),
    "two reads of one gateway": ideal("upsert", "patch", reads=(("read", 1), ("read", 1))),
    "a call fails or comes late": ideal("upsert", "delete", faults=1, reads=ONE_READ),
    "the cache forgets or evicts": ideal("upsert", "patch", losses=1, reads=ONE_READ),
    "a write by filter": ideal("by_filter", "upsert", losses=1, reads=ONE_READ),
    "a write by filter tells its ids": ideal("by_filter_ids", "patch", reads=ONE_READ),
    "a namespace is copied over": ideal("copy", "patch", reads=READ_AND_PAGE),
    "a namespace is deleted": ideal("drop", "upsert", faults=1, reads=ONE_READ),
    "the cache forgets under three writes": ideal("upsert", "upsert", "patch", losses=1, reads=()),
    "a warm": ideal("upsert", "delete", reads=READ_AND_PAGE),
    "a gateway dies": ideal("upsert", "upsert", deaths=1, reads=ONE_READ),
    "a gateway dies in debt": ideal("upsert", deaths=1, faults=2, reads=ONE_READ),
    "two new epochs": ideal("upsert", "upsert", clears=2, reads=ONE_READ),
    "debts are shared": ideal("upsert", faults=2, statements_fail=True, shared_debts=True, reads=ONE_READ),
    "one dies in shared debt": ideal(
        "upsert", faults=2, deaths=1, statements_fail=True, shared_debts=True, reads=ONE_READ
    ),
    "records: one is lost": records("upsert", "delete", losses=1, reads=ONE_READ),
    "records: a call fails or comes late": records("upsert", "upsert", faults=1, reads=()),
    "records: a write by filter tells its ids": records("by_filter_ids", "upsert", reads=ONE_READ),
    "records: a warm": records("upsert", reads=READ_AND_PAGE, losses=1),
    "records: a new epoch": records("upsert", "upsert", clears=1, reads=ONE_READ),
}

DEEP: dict[str, Scenario] = {
    "three writes": ideal("upsert", "patch", "delete", reads=ONE_READ),
    "two faults": ideal("upsert", "upsert", faults=2, reads=ONE_READ),
    "a fault and a loss": ideal("upsert", "patch", faults=1, losses=1, reads=ONE_READ),
    "a death in debt beside another write": ideal("upsert", "upsert", deaths=1, faults=2, reads=ONE_READ),
    "a death and a fault": ideal("upsert", "patch", deaths=1, faults=1, reads=ONE_READ),
    "a filter, a fault and a page": ideal("by_filter_ids", "upsert", faults=1, reads=READ_AND_PAGE),
    "one dies in shared debt before a patch": ideal(
        "upsert", "patch", faults=2, deaths=1, statements_fail=True, shared_debts=True, reads=ONE_READ
    ),
    "shared debts of two": ideal("upsert", "patch", faults=2, statements_fail=True, shared_debts=True, reads=ONE_READ),
    "records: two reads, a loss": records("upsert", "patch", losses=1),
    "records: two losses": records("upsert", "upsert", losses=2, reads=ONE_READ),
    "records: a fault and a loss": records("upsert", "delete", faults=1, losses=1, reads=ONE_READ),
    "records: a filter and a loss": records("by_filter", "upsert", losses=1),
    "records: two pages and a read": records("upsert", "upsert", reads=(*TWO_PAGES, ("read", 1))),
    "records: three writes": records("upsert", "patch", "by_filter_ids", reads=ONE_READ),
}


def _broken(scenario: Scenario, mutation: str) -> Scenario:
    return Scenario(**{**vars(scenario), "mutations": frozenset({mutation})})


def _generations() -> Cas:
    return Cas(generations=True)


def _rows_go_early() -> Cas:
    return Cas(rows_go_early=True)


# What is broken, and a scenario in which it shows.
MUTATIONS: dict[str, Scenario] = {
    name: _broken(scenario, name)
    for name, scenario in {
        "the mark is skipped": ideal("upsert", reads=ONE_READ),
        "settle before the answer": ideal("upsert", reads=ONE_READ),
        "the caller is told before the settle": records("upsert", reads=ONE_READ, losses=1),
        "fills need no ticket": ideal("upsert", reads=ONE_READ),
        "reads join any other": ideal("upsert", reads=(("read", 1), ("read", 1))),
        "unknown counts as refused": ideal("upsert", reads=ONE_READ),
        "unknown marks end early": ideal("upsert", reads=ONE_READ),
        "a patch keeps its half": ideal("patch", reads=ONE_READ),
        "settles bring rows in the quiet time": ideal("upsert", "upsert", "patch", losses=1, reads=()),
        "a lost mark is ignored": records("upsert", reads=ONE_READ, losses=1),
        "debts are not honoured": ideal("upsert", reads=(("read", 0),), faults=4, statements_fail=True),
        "debts are not stated": ideal("upsert", reads=ONE_READ, faults=2),
        "a death pays no debt": ideal("upsert", reads=ONE_READ, faults=2, deaths=1),
        "a death in debt only clears": ideal("upsert", "patch", reads=ONE_READ, faults=1, deaths=1),
        "nobody waits for the others": ideal(
            "upsert", reads=ONE_READ, faults=4, statements_fail=True, shared_debts=True
        ),
        "nobody takes over": ideal(
            "upsert", reads=ONE_READ, faults=4, deaths=1, statements_fail=True, shared_debts=True
        ),
        "tombstones are too short": records("upsert", reads=(("page", 0),)),
    }.items()
}
# Designs that were considered and have a hole.
HOLES: dict[str, Scenario] = {
    "tickets are generations of records": ideal(
        "upsert", engine=_generations, patches_kept=False, losses=1, reads=(("read", 0), ("read", 1))
    ),
    "a patch becomes a row where marks get lost alone": ideal("upsert", "patch", engine=Cas, losses=1, reads=ONE_READ),
    "a written row is lost under a page": ideal(
        "upsert", engine=_rows_go_early, patches_kept=False, losses=1, reads=(("page", 0),)
    ),
    "debts can neither be stated nor shared": ideal("upsert", faults=4, statements_fail=True, reads=ONE_READ),
}


@lru_cache
def trap(name: str) -> Found:
    """How a broken protocol, or a design with a hole, is found out."""
    return explore({**MUTATIONS, **HOLES}[name])


def main() -> None:
    chosen = {**SCENARIOS, **(DEEP if "--deep" in sys.argv else {}), **MUTATIONS, **HOLES}
    states = 0
    for name, scenario in chosen.items():
        started = time.monotonic()
        found = explore(scenario)
        states += 0 if found.violation else found.states
        print(f"{name}: {found.states} states, {found.steps} steps, {time.monotonic() - started:.1f} s")
        for label in (*found.trace, found.violation) if found.violation else ():
            print(f"    {label}")
    print(f"{states} states without a violation")


if __name__ == "__main__":
    main()
