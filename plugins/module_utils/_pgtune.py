# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PostgreSQL settings from memory and processors, by the formulas of https://pgtune.leopard.in.ua (type "web")."""

from __future__ import annotations

import math

KB_PER_MB = 1024
KB_PER_GB = 1024 * KB_PER_MB

DEFAULT_WORKERS = 8  # PostgreSQL's own max_worker_processes
IO_CONCURRENCY = {"ssd": 200, "nvme": 1000, "san": 300, "hdd": 2}


def pgtune(memory_mb: int, cpus: int, max_connections: int, storage: str) -> dict[str, str]:
    """Return the settings whose best value depends on the server, in the notation of postgresql.conf."""
    memory = memory_mb * KB_PER_MB
    shared_buffers = memory // 4
    maintenance_work_mem = min(memory // 16, 8 * KB_PER_GB)
    return {
        "shared_buffers": size(shared_buffers),
        "effective_cache_size": size(memory * 3 // 4),
        "maintenance_work_mem": size(maintenance_work_mem),
        "work_mem": size(work_mem(memory, shared_buffers, max_connections, cpus)),
        "huge_pages": "try" if shared_buffers >= 2 * KB_PER_GB else "off",
        "wal_buffers": size(wal_buffers(shared_buffers)),
        "min_wal_size": size(KB_PER_GB),
        "max_wal_size": size(4 * KB_PER_GB),
        "random_page_cost": "4" if storage == "hdd" else "1.1",
        "effective_io_concurrency": str(IO_CONCURRENCY[storage]),
        **parallel_workers(cpus),
        **autovacuum(cpus, maintenance_work_mem),
    }


def work_mem(memory: int, shared_buffers: int, max_connections: int, cpus: int) -> int:
    """Share out what the common cache leaves, three uses at once for each connection and worker."""
    workers = int(parallel_workers(cpus).get("max_worker_processes", DEFAULT_WORKERS))
    return max((memory - shared_buffers) // ((max_connections + workers) * 3), 4 * KB_PER_MB)


def wal_buffers(shared_buffers: int) -> int:
    most = 16 * KB_PER_MB
    wanted = 3 * shared_buffers // 100
    return most if wanted > 14 * KB_PER_MB else max(wanted, 32)


def parallel_workers(cpus: int) -> dict[str, str]:
    """Return nothing for small servers, where PostgreSQL's defaults do."""
    if cpus < 4:  # noqa: PLR2004
        return {}
    helpers = str(min(math.ceil(cpus / 2), 4))
    return {
        "max_worker_processes": str(cpus),
        "max_parallel_workers": str(cpus),
        "max_parallel_workers_per_gather": helpers,
        "max_parallel_maintenance_workers": helpers,
    }


def autovacuum(cpus: int, maintenance_work_mem: int) -> dict[str, str]:
    """Return more cleaners for many processors, and a bound on the memory of each."""
    settings = {}
    if cpus >= 16:  # noqa: PLR2004
        settings["autovacuum_max_workers"] = "5" if cpus >= 32 else "4"  # noqa: PLR2004
    if maintenance_work_mem >= 2 * KB_PER_GB:
        settings["autovacuum_work_mem"] = size(2 * KB_PER_GB)
    return settings


def size(kilobytes: int) -> str:
    for factor, unit in ((KB_PER_GB, "GB"), (KB_PER_MB, "MB")):
        if kilobytes % factor == 0:
            return f"{kilobytes // factor}{unit}"
    return f"{kilobytes}kB"
