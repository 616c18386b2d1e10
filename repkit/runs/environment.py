"""What a run ran on: versions, machine, command. No path and no host name of the machine is recorded."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version

import repkit

PACKAGES = (
    "torch", "torchaudio", "numpy", "scipy", "scikit-learn", "h5py", "datasets", "transformers", "accelerate",
    "safetensors", "soundfile", "soxr", "librosa", "pydantic", "typer",
)  # fmt: skip


def package_versions() -> dict[str, str]:
    """Return the versions of the packages whose numbers matter; absent ones are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, object]:
    """Return JSON values: python, platform, cores, package and plugin versions."""
    from repkit.plugins import components

    plugins = sorted({component.origin for component in components() if component.distribution != "repkit"})
    return {
        "repkit": repkit.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": package_versions(),
        "plugins": plugins,
    }


def command_line() -> str:
    """Return the command as typed, with the program named ``repkit``."""
    return shlex.join(["repkit", *sys.argv[1:]])
