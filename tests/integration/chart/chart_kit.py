"""What the tests of the chart share: rendering with some values, and finding things in what came out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import certifi
import yaml

from testbed.charts import Helm

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm" / "dispatcher"
VALUES = Path(__file__).parent / "values"
SETS = ("minimal", "workload-identity", "one-namespace", "several-namespaces", "rights-elsewhere")
"""Value sets; each but the first goes on top of it."""
Manifest = Mapping[str, Any]


def value_files(name: str) -> list[str]:
    """The arguments that give Helm a value set."""
    names = dict.fromkeys(("minimal", name))
    return [f"--values={VALUES / each}.yaml" for each in names]


def render(helm: Helm, name: str = "minimal", *more: str, namespace: str = "burst") -> list[Manifest]:
    """Everything that a release named ``dispatcher`` would make, in order. Raises HelmSaid."""
    return [each for each in yaml.safe_load_all(rendered(helm, name, *more, namespace=namespace)) if each]


@cache
def rendered(helm: Helm, name: str, *more: str, namespace: str = "burst") -> str:
    """The same as Helm printed it; many tests look at one rendering."""
    return helm.run(
        "template", "dispatcher", CHART, "--namespace", namespace, "--kube-version=1.36.3", *value_files(name), *more
    )


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """Those of one kind."""
    return [each for each in manifests if each["kind"] == kind]


def one(manifests: list[Manifest], kind: str) -> Any:
    """The only one of a kind."""
    (found,) = of_kind(manifests, kind)
    return found


def pod_of(manifests: list[Manifest]) -> Any:
    """The Deployment's pod template."""
    return one(manifests, "Deployment")["spec"]["template"]


def container_of(manifests: list[Manifest]) -> Any:
    """Its only container."""
    (container,) = pod_of(manifests)["spec"]["containers"]
    return container


def write_configuration(manifests: list[Manifest], folder: Path) -> Path:
    """The configuration as the pod would find it."""
    (config,) = [each for each in of_kind(manifests, "ConfigMap") if each["metadata"]["name"].endswith("-config")]
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in config["data"].items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def write_mounted(manifests: list[Manifest], folder: Path) -> Path:
    """The same, with the files that it names beside it instead of where the pod has them mounted."""
    write_configuration(manifests, folder)
    connection = "Endpoint=sb://o.example/;SharedAccessKeyName=a;SharedAccessKey=bm90IGEga2V5"
    (folder / "connection").write_text(connection, encoding="utf-8")
    (folder / "ca.pem").write_bytes(Path(certifi.where()).read_bytes())
    text = (folder / "dispatcher.yaml").read_text(encoding="utf-8")
    text = text.replace("/var/run/secrets/servicebus/connection-string", "connection")
    (folder / "dispatcher.yaml").write_text(text.replace("/etc/company/ca.pem", "ca.pem"), encoding="utf-8")
    return folder


def strings_in(value: Any) -> Iterator[str]:
    """Every text in a manifest, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key)
            yield from strings_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings_in(each)
