"""Which machine this is: figures of speed mean nothing without it."""

from __future__ import annotations

import platform
from pathlib import Path

from taxon.core.cores import available_cores
from taxon.core.fingerprint import sha256_json

# What decides how fast eight-bit and half-precision arithmetic is, by the names of Linux.
_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimddp")


def machine() -> dict[str, str]:
    """Return processor, cores, instruction sets that matter here, and system, each in words."""
    fields = _processor_fields()
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    name = fields.get("model name") or platform.processor() or platform.machine()
    return {
        "processor": name,
        "cores": str(available_cores()),
        "instructions": " ".join(feature for feature in _FEATURES if feature in flags),
        "system": f"{platform.system()} {platform.machine()}",
    }


def machine_sentence(found: dict[str, str]) -> str:
    """Say in a line which machine it is."""
    cores = "1 core" if found["cores"] == "1" else f"{found['cores']} cores"
    instructions = f" ({found['instructions']})" if found["instructions"] else ""
    return f"{found['processor']}, {cores}{instructions}, {found['system']}"


def machine_fingerprint() -> str:
    """Equal for machines that may share measured figures; 64 hexadecimal digits."""
    return sha256_json(machine())


def _processor_fields() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo; empty where there is no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    first = text.split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
