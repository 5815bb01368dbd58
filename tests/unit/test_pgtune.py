"""The vectors are those of pgtune's own suite (github.com/le0pard/pgtune, configurationSlice.test.js), in its units."""

from __future__ import annotations

import pytest

from plugins.module_utils import _pgtune
from plugins.module_utils._pgtune import pgtune


def tuned(memory_gb: int = 4, cpus: int = 1, connections: int = 200, storage: str = "ssd") -> dict[str, str]:
    return pgtune(memory_gb * 1024, cpus, connections, storage)


@pytest.mark.parametrize(("memory_gb", "expected"), [(256, "8GB"), (16, "1GB")])
def test_maintenance_work_mem(memory_gb: int, expected: str) -> None:
    assert tuned(memory_gb)["maintenance_work_mem"] == expected


@pytest.mark.parametrize(("memory_gb", "expected"), [(4, "off"), (16, "try")])
def test_huge_pages(memory_gb: int, expected: str) -> None:
    assert tuned(memory_gb)["huge_pages"] == expected


def test_work_mem_has_a_floor() -> None:
    assert tuned(4, cpus=4, connections=9999)["work_mem"] == "4MB"


def test_work_mem_of_a_large_server() -> None:
    assert tuned(256, cpus=4, connections=20)["work_mem"] == "2796202kB"


@pytest.mark.parametrize(("memory_gb", "expected"), [(4, None), (256, "2GB")])
def test_autovacuum_work_mem(memory_gb: int, expected: str | None) -> None:
    assert tuned(memory_gb).get("autovacuum_work_mem") == expected


@pytest.mark.parametrize(("cpus", "expected"), [(8, None), (16, "4"), (32, "5")])
def test_autovacuum_max_workers(cpus: int, expected: str | None) -> None:
    assert tuned(cpus=cpus).get("autovacuum_max_workers") == expected


@pytest.mark.parametrize(("storage", "cost"), [("hdd", "4"), ("ssd", "1.1"), ("san", "1.1"), ("nvme", "1.1")])
def test_random_page_cost(storage: str, cost: str) -> None:
    assert tuned(storage=storage)["random_page_cost"] == cost


@pytest.mark.parametrize(("storage", "requests"), [("hdd", "2"), ("ssd", "200"), ("san", "300"), ("nvme", "1000")])
def test_effective_io_concurrency(storage: str, requests: str) -> None:
    assert tuned(storage=storage)["effective_io_concurrency"] == requests


@pytest.mark.parametrize(("cpus", "expected"), [(1, {}), (12, (12, 12, 4, 4)), (31, (31, 31, 4, 4))])
def test_parallel_workers(cpus: int, expected: tuple[int, ...]) -> None:
    names = (
        "max_worker_processes",
        "max_parallel_workers",
        "max_parallel_workers_per_gather",
        "max_parallel_maintenance_workers",
    )
    assert _pgtune.parallel_workers(cpus) == dict(zip(names, map(str, expected)))


# Not in pgtune's suite: its formulas worked out by hand.
def test_a_small_server() -> None:
    assert tuned(4, cpus=2, connections=100) == {
        "shared_buffers": "1GB",
        "effective_cache_size": "3GB",
        "maintenance_work_mem": "256MB",
        "work_mem": "9709kB",
        "huge_pages": "off",
        "wal_buffers": "16MB",
        "min_wal_size": "1GB",
        "max_wal_size": "4GB",
        "random_page_cost": "1.1",
        "effective_io_concurrency": "200",
    }


@pytest.mark.parametrize(("shared_kb", "expected"), [(512, 32), (262144, 7864), (524288, 15728), (1048576, 16384)])
def test_wal_buffers(shared_kb: int, expected: int) -> None:
    assert _pgtune.wal_buffers(shared_kb) == (16384 if expected > 14336 else expected)
