"""From a model's entry to the command, environment and devices of its servers."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_trustllm.config.paths import exists, is_file
from pytest_trustllm.config.secrets import shown_command, without_secrets
from pytest_trustllm.errors import ModelError, one_line, suggest
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.server.presets import LLAMACPP, Preset

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
PLACEHOLDERS = ("executable", "model", "port", "device", "key", "revision", "tensor_parallel", "settings")
"""Names that a command may use in braces."""
_SECRET_PLACEHOLDERS = ("key",)
_DEVICE_VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_VERSION_SECONDS = 60.0
_GPU_LIST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Launch:
    """How the servers of one model are started; everything but port and key, which each start chooses anew.

    Attributes:
        name: The model's name, for messages.
        model: Repository, directory or file.
        engine: The engine's name, for messages.
        command: Program and arguments, with ``{names}``.
        environment: Variables of the server, with ``{names}``.
        settings_file: Content of the file ``{settings}``, with ``{names}``; empty: there is none.
        values: Name -> value of those that are the same for all replicas; None: left out of the command.
        replicas: Devices of each replica: ``cpu``, or ids of GPUs.
        distribution: Python distribution whose version is the engine's; empty: the program tells its version.
        is_preset: The engine is one that this package knows.
    """

    name: str
    model: str
    engine: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    settings_file: str
    values: Mapping[str, str | None]
    replicas: tuple[tuple[str, ...], ...]
    distribution: str
    is_preset: bool

    @property
    def gpus(self) -> frozenset[str]:
        """The ids of the GPUs that the servers need together."""
        return frozenset(device for devices in self.replicas for device in devices if device != "cpu")

    def described(self) -> dict[str, Any]:
        """Return what can change an answer, as plain JSON without secrets."""
        environment = {name: text for name, text in self.environment.items() if "{key}" not in text}
        # Neither where the program lives nor where the files lie changes an answer
        kept = _kept("port", "key", "settings", "device", "model")
        values = {**self.values, **kept, "executable": Path(self.values["executable"] or "").name}
        return {
            "engine": self.engine,
            "version": self._version(),
            "command": shown_command(_filled(self.command, values)),
            "environment": without_secrets(environment),
            "device": device_name(self.replicas[0]),
        }

    def _version(self) -> str | None:
        """Return the engine's version, without importing it if it is a Python distribution; None: unknown."""
        executable = Path(self.values["executable"] or "")
        if self.distribution:
            return _installed_version(executable, self.distribution)
        if self.is_preset:
            return _version_shown_by(executable)
        return None

    def command_for(self, port: int, settings: Path | None, devices: Sequence[str]) -> list[str]:
        """Return program and arguments of one start."""
        own = {"port": str(port), "settings": str(settings), "device": ",".join(devices)}
        return _filled(self.command, {**self.values, **own})

    def environment_for(self, port: int, key: str, devices: Sequence[str]) -> dict[str, str]:
        """Return all variables of one start."""
        values = {**self.values, "port": str(port), "key": key, "device": ",".join(devices)}
        environment = dict(os.environ)
        for name, text in self.environment.items():
            environment[name] = _replaced(text, values) or ""
        indexes = [device.removeprefix("cuda:") for device in devices if device != "cpu"]
        if indexes:
            for variable in _DEVICE_VARIABLES:
                if variable == "CUDA_VISIBLE_DEVICES" or variable in environment:
                    environment[variable] = ",".join(indexes)
        return environment

    def settings_for(self, key: str) -> str:
        """Return the content of the file ``{settings}`` of one start; empty: it needs none."""
        return _replaced(self.settings_file, {**self.values, "key": key}) or ""


def _kept(*names: str) -> dict[str, str | None]:
    """Return placeholders that stand for themselves."""
    return {name: f"{{{name}}}" for name in names}


def _replaced(text: str, values: Mapping[str, str | None]) -> str | None:
    """Return a text with values in place of names; None if one of them has no value."""
    without_value = False

    def value_of(match: re.Match[str]) -> str:
        nonlocal without_value
        value = values.get(match[1], match[0])
        without_value = without_value or value is None
        return value or ""

    replaced = _PLACEHOLDER.sub(value_of, text)
    return None if without_value else replaced


def _filled(command: Sequence[str], values: Mapping[str, str | None]) -> list[str]:
    """Return a command with values in place of names; an option whose value is missing is left out."""
    filled: list[str] = []
    for part in command:
        replaced = _replaced(part, values)
        if replaced is not None:
            filled.append(replaced)
        elif filled and filled[-1].startswith("-"):
            filled.pop()
    return filled


def check(spec: ModelSpec, preset: Preset | None) -> None:
    """Look for an engine's program and a model's files on this machine, and for mistakes in the command of its entry.

    Raises:
        ModelError: Program or files are missing, or the command cannot be understood.
    """
    path = Path(spec.target)
    if path.is_absolute() and not exists(path):
        raise ModelError(f"models: {spec.name!r}: there is no file or directory {path}")
    if preset is LLAMACPP and not is_file(path):
        raise ModelError(f"models: {spec.name!r}: {spec.target} is not a file; give the path of a GGUF file")
    command = _command(spec, preset)
    _executable(spec, preset, command)
    _check_placeholders(spec, "environment", spec.options.get("environment", {}).values(), PLACEHOLDERS)


def launch_of(spec: ModelSpec, preset: Preset | None, settings: LoadSettings) -> Launch:
    """Return how a model's servers are started.

    Raises:
        ModelError: The program is missing, the command cannot be understood, or there are too few devices.
    """
    options = spec.options
    command = _command(spec, preset)
    executable = _executable(spec, preset, command)
    if command[0] != "{executable}":
        command = ("{executable}", *command[1:])
    environment = dict(preset.environment) if preset is not None else {}
    if options.get("batch_invariant"):
        environment["VLLM_BATCH_INVARIANT"] = "1"
    environment.update(options.get("environment", {}))
    tensor_parallel = int(options.get("tensor_parallel", 1))
    distribution = Path(executable).name
    if preset is not None:
        distribution = preset.distribution
    return Launch(
        name=spec.name,
        model=spec.target,
        engine=preset.engine if preset is not None else Path(executable).name,
        command=(*command, *options.get("engine_args", ())),
        environment=environment,
        settings_file=preset.settings_file if preset is not None else "",
        values={
            "executable": executable,
            "model": spec.target,
            "revision": spec.revision,
            "tensor_parallel": str(tensor_parallel),
        },
        replicas=_replicas(spec, settings.device, tensor_parallel),
        distribution=distribution,
        is_preset=preset is not None,
    )


def _command(spec: ModelSpec, preset: Preset | None) -> tuple[str, ...]:
    given = spec.options.get("command")
    if given is None:
        if preset is None:
            raise ModelError(f"models: {spec.name!r}: 'command' is missing; write how its server is started")
        return preset.command
    try:
        # Split first and filled in later: a blank or a quote in a model's name stays within its argument
        command = tuple(shlex.split(given)) if isinstance(given, str) else tuple(given)
    except ValueError as e:
        raise ModelError(f"models: {spec.name!r}: command: {one_line(e, 80)}: a quote is not closed") from None
    names = [name for name in PLACEHOLDERS if name not in _SECRET_PLACEHOLDERS]
    _check_placeholders(spec, "command", command, names)
    if not any("{port}" in part for part in command):
        raise ModelError(f"models: {spec.name!r}: command: {{port}} is missing; the run chooses the server's port")
    return command


def _check_placeholders(spec: ModelSpec, key: str, texts: Any, known: Sequence[str]) -> None:
    for text in texts:
        for name in _PLACEHOLDER.findall(text):
            if name in _SECRET_PLACEHOLDERS and name not in known:
                raise ModelError(
                    f"models: {spec.name!r}: {key}: every user of the machine can read a command line; "
                    f"pass {{{name}}} under 'environment'"
                )
            if name not in known:
                raise ModelError(f"models: {spec.name!r}: {key}: no value for {{{name}}}{suggest(name, known)}")


def _executable(spec: ModelSpec, preset: Preset | None, command: Sequence[str]) -> str:
    """Return the path of the program."""
    named = spec.options.get("executable")
    program = named
    if program is None:
        program = command[0] if preset is None or command[0] != "{executable}" else preset.executable
    if program == "{executable}":
        raise ModelError(f"models: {spec.name!r}: command: there is no value for {{executable}}; add 'executable'")
    found = shutil.which(os.path.expanduser(program))  # noqa: PTH111 - a program's name need not be a path
    if found is not None:
        return str(Path(found).absolute())
    if named is not None or preset is None:
        raise ModelError(f"models: {spec.name!r}: the program {program!r} is not there, or cannot be run")
    raise ModelError(
        f"models: {spec.name!r} needs {preset.engine}: there is no {program!r} on the path ({preset.install}); "
        "if it lives in another virtual environment, name its program in a models file under 'executable'"
    )


def _replicas(spec: ModelSpec, device: str, tensor_parallel: int) -> tuple[tuple[str, ...], ...]:
    """Return the devices of each replica."""
    wanted = spec.options.get("replicas", "auto")
    devices = visible_devices(device)
    if not devices:
        count = 1 if wanted == "auto" else int(wanted)
        return (("cpu",),) * count
    fitting = len(devices) // tensor_parallel
    count = fitting if wanted == "auto" else int(wanted)
    if count > fitting or not fitting:
        gpus = "1 GPU is" if len(devices) == 1 else f"{len(devices)} GPUs are"
        raise ModelError(
            f"models: {spec.name!r}: {max(count, 1)} replicas of {tensor_parallel} GPUs each are asked for, and {gpus} "
            "visible; reduce 'replicas' or 'tensor_parallel'"
        )
    groups = []
    for i in range(count):
        groups.append(tuple(devices[i * tensor_parallel : (i + 1) * tensor_parallel]))
    return tuple(groups)


def visible_devices(name: str) -> list[str]:
    """Return the ids of the GPUs that ``--trust-device`` names; ``auto``: all visible ones; empty: the CPU is used."""
    if name != "auto":
        parts = [part.strip() for part in name.split(",")]
        return [part.removeprefix("cuda:").replace("cuda", "0") for part in parts if part != "cpu"]
    for variable in _DEVICE_VARIABLES:
        if variable in os.environ:
            return [part.strip() for part in os.environ[variable].split(",") if part.strip() not in ("", "-1")]
    return [str(i) for i in range(len(_gpu_names()))]


def device_name(devices: Sequence[str]) -> str:
    """Return the kind of a replica's devices, such as ``2 x NVIDIA H100``; the id of a GPU changes no answer."""
    if devices[0] == "cpu":
        return "cpu"
    names = _gpu_names()
    kinds = {names[int(device)] for device in devices if device.isdigit() and int(device) < len(names)}
    kind = ", ".join(sorted(kinds)) or "gpu"
    return kind if len(devices) == 1 else f"{len(devices)} x {kind}"


def _gpu_names() -> list[str]:
    """Return the names of this machine's NVIDIA GPUs in the order of their ids; empty: none, or no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=_GPU_LIST_SECONDS, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in listed.stdout.splitlines() if line.strip()]


def _version_shown_by(executable: Path) -> str | None:
    try:
        shown = subprocess.run(  # noqa: S603 - the program that is about to be started anyway
            [str(executable), "--version"],
            capture_output=True,
            text=True,
            timeout=_VERSION_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    for line in (shown.stdout + shown.stderr).splitlines():
        if re.search(r"\d", line):
            return one_line(line.strip(), 120)
    return None


def _installed_version(executable: Path, distribution: str) -> str | None:
    """Return the version in the metadata of a distribution in the environment of a program in its ``bin``."""
    pattern = f"lib/python*/site-packages/{distribution.replace('-', '_')}-*.dist-info"
    for program in (executable, executable.resolve()):
        for directory in sorted(program.parent.parent.glob(pattern)):
            return directory.name.removesuffix(".dist-info").partition("-")[2]
    return None


def engine_arguments(value: Mapping[str, Any]) -> list[str]:
    """Return arguments as a command line has them: ``{max_model_len: 4096}`` -> ``--max-model-len 4096``."""
    arguments: list[str] = []
    for name, setting in value.items():
        arguments.append(f"--{name.replace('_', '-')}")
        if setting is True:
            continue
        arguments.append(setting if isinstance(setting, str) else json.dumps(setting))
    return arguments
