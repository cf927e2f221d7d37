"""Rules about volumes and mounts.

Decides nothing about levels; those are the profile's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dispatcher.judge.findings import ACI_DOCS, CONNECTOR, Effect, Found, rule
from dispatcher.judge.workloads import Workload, mapping, sequence, text

_AZURE_FILES = "file.csi.azure.com"
_HAVE_RULES = ("persistentVolumeClaim", "hostPath", "downwardAPI", "ephemeral", "csi")
_KNOWN = ("emptyDir", "gitRepo", "azureFile", "secret", "configMap", "projected")
_VOLUME_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{3,61})[a-z0-9]")
_UNSUPPORTED = CONNECTOR + ': "requires volume ... which is of an unsupported type"'


@rule(
    "volume-pvc",
    says="a persistent volume claim",
    effect=Effect.FAILS,
    remedy="keep state outside of the pod, or mount the share inline as azureFile",
    source="hard limitations of virtual nodes: no persistent volumes; " + CONNECTOR,
)
def _pvc(work: Workload) -> Iterator[Found]:
    for path, volume in work.volumes:
        if "persistentVolumeClaim" in volume:
            claim = text(mapping(volume["persistentVolumeClaim"]).get("claimName"))
            yield Found(f"{path}.persistentVolumeClaim", f"the claim {claim!r} cannot be mounted")


@rule(
    "volume-host-path",
    says="a folder of the host",
    effect=Effect.FAILS,
    remedy="use emptyDir for scratch space",
    source=_UNSUPPORTED,
)
def _host_path(work: Workload) -> Iterator[Found]:
    yield from _of_type(work, "hostPath", "there is no host whose folders could be mounted")


@rule(
    "volume-downward-api",
    says="a downward API volume",
    effect=Effect.FAILS,
    remedy="pass the fields as variables, by fieldRef",
    source=_UNSUPPORTED,
)
def _downward(work: Workload) -> Iterator[Found]:
    yield from _of_type(work, "downwardAPI", "fields of the pod cannot be mounted as files")


@rule(
    "volume-ephemeral",
    says="an ephemeral volume claim",
    effect=Effect.FAILS,
    remedy="use emptyDir",
    source=_UNSUPPORTED,
)
def _ephemeral(work: Workload) -> Iterator[Found]:
    yield from _of_type(work, "ephemeral", "claims of a pod's own are persistent volumes too")


@rule(
    "volume-csi",
    says="a CSI volume that is not a complete inline Azure Files one",
    effect=Effect.FAILS,
    remedy="use file.csi.azure.com inline, with shareName and secretName",
    source=CONNECTOR + ": getVolumes, getAzureFileCSI",
)
def _csi(work: Workload) -> Iterator[Found]:
    for path, volume in work.volumes:
        if "csi" not in volume:
            continue
        csi = mapping(volume["csi"])
        if csi.get("driver") != _AZURE_FILES:
            yield Found(f"{path}.csi.driver", f"the driver {text(csi.get('driver'))!r} is not known there")
            continue
        attributes = mapping(csi.get("volumeAttributes"))
        for key in ("shareName", "secretName"):
            if not attributes.get(key):
                yield Found(f"{path}.csi.volumeAttributes.{key}", f"{key} is missing")


@rule(
    "volume-unsupported",
    says="any other kind of volume",
    effect=Effect.FAILS,
    remedy="use emptyDir, azureFile, secret, configMap or projected",
    source=_UNSUPPORTED,
)
def _unsupported(work: Workload) -> Iterator[Found]:
    for path, volume in work.volumes:
        for kind in volume:
            if kind != "name" and kind not in (*_KNOWN, *_HAVE_RULES):
                yield Found(f"{path}.{kind}", f"volumes of the kind {kind} are not known there")


@rule(
    "volume-name",
    says="a volume's name that Azure does not take",
    effect=Effect.FAILS,
    remedy="use 5 to 63 small letters, digits and single hyphens",
    source=ACI_DOCS + ": naming rules",
)
def _name(work: Workload) -> Iterator[Found]:
    for path, volume in work.volumes:
        name = text(volume.get("name"))
        if not _VOLUME_NAME.fullmatch(name) or "--" in name:
            yield Found(f"{path}.name", f"{name!r} is no volume name in a container group ({len(name)} characters)")


@rule(
    "volume-count",
    says="more volumes than a group may have",
    effect=Effect.FAILS,
    remedy="put files together into fewer ConfigMaps and Secrets",
    source=ACI_DOCS + ": quotas and limits",
)
def _count(work: Workload) -> Iterator[Found]:
    most = work.limits.counts.get("volumes_max")
    if most is not None and len(work.volumes) > most:
        yield Found(work.at("volumes"), f"{len(work.volumes)} volumes, and a container group takes {most}")


@rule(
    "volume-items",
    says="chosen keys or file modes of a ConfigMap or Secret",
    effect=Effect.IGNORED,
    remedy="name the keys of the object as the files are to be called",
    source=CONNECTOR + ": the whole object is copied; items and defaultMode are not read",
)
def _items(work: Workload) -> Iterator[Found]:
    for path, volume in work.volumes:
        for kind in ("secret", "configMap"):
            source = mapping(volume.get(kind))
            for key in ("items", "defaultMode"):
                if source.get(key) not in (None, []):
                    yield Found(f"{path}.{kind}.{key}", f"{key} has no effect: every key becomes a file of that name")


@rule(
    "volume-maybe-missing",
    says="a ConfigMap or Secret that may be missing",
    effect=Effect.DIFFERS,
    remedy="write optional: false, so that a missing one is refused in so many words",
    source=CONNECTOR + ": getVolumes leaves the volume out, and Azure then refuses the mount",
)
def _maybe_missing(work: Workload) -> Iterator[Found]:
    for path, volume in work.volumes:
        for kind in ("secret", "configMap"):
            if isinstance(volume.get(kind), Mapping) and volume[kind].get("optional") is not False:
                yield Found(
                    f"{path}.{kind}.optional", "if it is missing or empty the volume is left out and its mount refused"
                )


@rule(
    "volume-projected",
    says="a projected volume with sources that give no file",
    effect=Effect.IGNORED,
    remedy="mount Secret and ConfigMap by themselves, or list their items; pass fields as variables",
    source=CONNECTOR + ": getVolumes reads projected Secrets and ConfigMaps by their items, and nothing else",
)
def _projected(work: Workload) -> Iterator[Found]:
    for path, volume in work.volumes:
        sources = [mapping(each) for each in sequence(mapping(volume.get("projected")).get("sources"))]
        # A volume without any file is left out of the group, and its mount refused.
        gives_some = any(mapping(each.get(kind)).get("items") for each in sources for kind in ("secret", "configMap"))
        effect = None if gives_some else Effect.FAILS
        for n, each in enumerate(sources):
            here = f"{path}.projected.sources[{n}]"
            for kind, source in each.items():
                if kind in ("secret", "configMap"):
                    if not mapping(source).get("items"):
                        yield Found(
                            f"{here}.{kind}.items", "without items none of its keys becomes a file", effect=effect
                        )
                else:
                    yield Found(f"{here}.{kind}", f"{kind} gives no file there", effect=effect)


@rule(
    "mount-sub-path",
    says="a part of a volume mounted by itself",
    effect=Effect.IGNORED,
    remedy="mount the whole volume into a folder of its own",
    source=CONNECTOR + ": getVolumeMounts reads name, mountPath and readOnly alone",
)
def _sub_path(work: Workload) -> Iterator[Found]:
    for each in work.all_containers:
        for n, mount in enumerate(sequence(each.spec.get("volumeMounts"))):
            for key in ("subPath", "subPathExpr"):
                if mapping(mount).get(key):
                    yield Found(each.at(f"volumeMounts[{n}].{key}"), f"{key} has no effect: all of the volume is there")


@rule(
    "mount-unknown",
    says="a mount of a volume that the pod has not",
    effect=Effect.FAILS,
    remedy="define the volume, or correct the name",
    source="Kubernetes API reference, Pod",
)
def _mount_unknown(work: Workload) -> Iterator[Found]:
    names = {text(volume.get("name")) for _, volume in work.volumes}
    names |= {
        text(mapping(mapping(each).get("metadata")).get("name"))
        for each in sequence(mapping(work.document.get("spec")).get("volumeClaimTemplates"))
    }
    for each in work.all_containers:
        for n, mount in enumerate(sequence(each.spec.get("volumeMounts"))):
            name = text(mapping(mount).get("name"))
            if name not in names:
                yield Found(each.at(f"volumeMounts[{n}].name"), f"there is no volume {name!r}")


@rule(
    "empty-dir-options",
    says="an emptyDir in memory, or with a size",
    effect=Effect.IGNORED,
    remedy="do not rely on it; a container group has 50 GB in all",
    source=CONNECTOR + ": emptyDir is passed on empty",
)
def _empty_dir(work: Workload) -> Iterator[Found]:
    for path, volume in work.volumes:
        options: Mapping[str, Any] = mapping(volume.get("emptyDir"))
        for key in ("medium", "sizeLimit"):
            if options.get(key):
                yield Found(f"{path}.emptyDir.{key}", f"{key} has no effect there")


def _of_type(work: Workload, kind: str, message: str) -> Iterator[Found]:
    for path, volume in work.volumes:
        if kind in volume:
            yield Found(f"{path}.{kind}", message)
