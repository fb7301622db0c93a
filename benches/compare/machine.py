"""What the numbers were measured on, with what, when and how."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess

# The flags that decide which kernels an engine takes.
_TELLING = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "avx_vnni")


def describe(command: list[str]) -> list[str]:
    cpu = _lscpu()
    flags = set(cpu.get("Flags", "").split())
    return [
        f"CPU: {cpu.get('Model name', '?')} (family {cpu.get('CPU family')}, model {cpu.get('Model')}), "
        f"{len(os.sched_getaffinity(0))} cores, {cpu.get('Thread(s) per core')} thread(s) each; "
        f"L2 {cpu.get('L2 cache', '?')}, L3 {cpu.get('L3 cache', '?')}",
        f"flags: {' '.join(flag for flag in _TELLING if flag in flags)}",
        f"system: {platform.platform()}, Python {platform.python_version()}",
        f"command: {' '.join(command)}",
        f"date: {datetime.date.today().isoformat()}",
    ]


def _lscpu() -> dict[str, str]:
    lines = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
