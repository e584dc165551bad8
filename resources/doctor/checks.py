"""What is looked at, in which order, for the settings that hold here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from resources.catalogs import GLUE
from resources.doctor import machine
from resources.doctor.buckets import Bucket
from resources.doctor.catalog import catalog
from resources.doctor.clocks import clock
from resources.doctor.cloud import Clocks, Cloud, identity
from resources.doctor.cluster import cluster
from resources.doctor.findings import MACHINE_SLOW, Check, Finding, skipped
from resources.doctor.instance import instance
from resources.storage import S3

LOCAL = "MIMIC_ENV is not kubernetes"


@dataclass(frozen=True, kw_only=True)
class Patient:
    """What holds here, by the settings.

    Attributes:
        settings: each refuses a wrong setting.
        names: of the settings that are set.
        unknown: names that look like those of settings, but are none -> a hint.
        variables: names of the variables of AWS that are set.
        home, dagster_home: roots of mimic's and of Dagster's files.
        temporary, cache: folders of temporary files, and of copies of what is in S3 if that is another one.
        cluster: whether steps are Jobs.
        gpus: whether a stage asks for GPUs where its spec says nothing.
        catalog, warehouse, artefacts: where they are; None where the setting is wrong.
        webserver: looks at the one that was named, if any.
    """

    settings: Sequence[Callable[[], object]]
    names: Sequence[str]
    unknown: Mapping[str, str]
    variables: frozenset[str] = frozenset()
    home: Path
    dagster_home: Path
    temporary: Path
    cache: Path | None = None
    cluster: bool = False
    gpus: bool = True
    catalog: str
    warehouse: str | None
    artefacts: str | None
    webserver: Callable[[Clocks], Iterable[Finding]]
    clocks: Clocks = field(default_factory=Clocks)


def checks(patient: Patient) -> list[Check]:
    """Return the looks at what is used here, and a word on what is not."""
    return [
        Check("settings", partial(machine.settings, patient.settings, patient.names, patient.unknown), slow=MACHINE_SLOW),
        Check("versions", machine.versions, slow=MACHINE_SLOW),
        Check("home", partial(machine.home, patient.home, shared=patient.cluster), slow=MACHINE_SLOW),
        Check("temporary files", partial(machine.temporary, patient.temporary, patient.cache), slow=MACHINE_SLOW),
        *_of_aws(patient),
        Check("Dagster", partial(instance, patient.dagster_home, cluster=patient.cluster)),
        Check("webserver", partial(patient.webserver, patient.clocks)),
        Check("clock", partial(clock, patient.clocks.ahead)),
        Check("cluster", partial(cluster, gpus=patient.gpus) if patient.cluster else partial(_unused, "cluster", LOCAL)),
    ]


def _of_aws(patient: Patient) -> list[Check]:
    """Return the looks at AWS, as far as it is used, and at the catalog; without it nothing of AWS is imported."""
    cloud = Cloud(patient.clocks, patient.variables)
    glue = patient.catalog.startswith(GLUE)
    places = {"MIMIC_WAREHOUSE": patient.warehouse, "MIMIC_ARTEFACTS": patient.artefacts}
    buckets = {name: Bucket(cloud, name, url) for name, url in places.items() if url and url.startswith(S3)}
    if glue or buckets:
        found = [Check("identity", lambda: identity(cloud, needed=glue or cloud.knows_who_asks))]
    else:
        found = [Check("AWS", partial(_unused, "AWS", "catalog, tables and artefacts are not there"))]
    for name, bucket in buckets.items():
        found.append(Check(name, bucket.look))
        if name == "MIMIC_WAREHOUSE":
            found.append(Check(f"{name} by Arrow", bucket.arrow))
    by_name = {bucket.name: bucket for bucket in buckets.values()}  # one may hold both
    found += [Check(f"bucket {name}", bucket.kept) for name, bucket in by_name.items()]
    return [*found, Check("catalog", partial(catalog, patient.catalog, patient.warehouse, cloud))]


def _unused(about: str, why: str) -> list[Finding]:
    return [skipped(about, f"not used: {why}")]
