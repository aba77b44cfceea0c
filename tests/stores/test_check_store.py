"""What stores and services do when they are tried, and the table of it in the documentation."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import obstore.store
import pytest

import zarrdock
from support.deaf_s3 import Deaf, by_obstore, by_s3fs
from support.servers import Endpoint, Fault, FaultProxy, StrictS3
from support.strict_azure import StrictAzure
from support.strict_gcs import StrictGCSByXML
from zarrdock.cli.main import run
from zarrdock.ranges import Tail
from zarrdock.serve.server import Server
from zarrdock.stores.abilities import ABILITIES, StoreReport, check_store
from zarrdock.stores.base import Blob, Read, Store, WrapperStore
from zarrdock.stores.conditions import Conditions
from zarrdock.stores.memory import MemoryStore

pytestmark = pytest.mark.server

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "stores.md"
SIGNS = {"yes": "●", "no": "", "wrong": "wrong", "not tried": "?"}


def of_endpoint(scheme: str, endpoint: Endpoint) -> Store:
    return zarrdock.open_store(f"{scheme}://{endpoint.bucket}/tried", storage_options=endpoint.storage_options)


@contextlib.contextmanager
def deaf(keeps: Conditions) -> Iterator[Store]:
    with Deaf("bucket", keeps=keeps) as server:
        yield by_s3fs(server)


@contextlib.contextmanager
def strict_by_obstore() -> Iterator[Store]:
    with StrictS3("bucket") as server:
        yield by_obstore(server)


@contextlib.contextmanager
def gcs_by_obstore(folder: Path) -> Iterator[Store]:
    with StrictGCSByXML("bucket") as server:
        yield zarrdock.open_store(server.obstore(folder, "x"))


@contextlib.contextmanager
def azure() -> Iterator[Store]:
    with StrictAzure() as server:
        yield zarrdock.open_store(server.store("x"))


@contextlib.contextmanager
def served() -> Iterator[Store]:
    inside = MemoryStore()
    zarrdock.create_group(inside)
    with Server(inside) as server:
        yield zarrdock.open_store(server.url)


IGNORES_CONDITIONS_ON_DELETE = "Google Cloud Storage: fake-gcs-server"

Opener = Callable[[Any, Path], Any]

SERVICES: dict[str, Opener] = {
    "a local folder": lambda get, folder: opened(folder / "folder"),
    "a zip archive in it": lambda get, folder: opened(folder / "a.zip"),
    "memory": lambda get, folder: contextlib.nullcontext(MemoryStore()),
    "a dictionary": lambda get, folder: opened({}),
    "fsspec's memory filesystem": lambda get, folder: opened("memory://tried"),
    "S3: moto": lambda get, folder: contextlib.nullcontext(of_endpoint("s3", get("moto"))),
    "S3: strict fake": lambda get, folder: contextlib.nullcontext(of_endpoint("s3", get("strict_s3"))),
    "S3: strict fake, through obstore": lambda get, folder: strict_by_obstore(),
    "S3: a fake that ignores conditions": lambda get, folder: deaf(Conditions(False, False, False)),
    "S3: a fake that ignores conditions on DELETE": lambda get, folder: deaf(Conditions(delete=False)),
    "Google Cloud Storage: fake-gcs-server": lambda get, folder: contextlib.nullcontext(
        of_endpoint("gs", get("gcs_emulator"))
    ),
    "Google Cloud Storage: strict fake": lambda get, folder: contextlib.nullcontext(
        of_endpoint("gs", get("strict_gcs"))
    ),
    "Google Cloud Storage: strict fake, through obstore": lambda get, folder: gcs_by_obstore(folder),
    "Azure: Azurite": lambda get, folder: contextlib.nullcontext(of_endpoint("az", get("azurite"))),
    "Azure: strict fake": lambda get, folder: contextlib.nullcontext(of_endpoint("az", get("strict_azure"))),
    "Azure: strict fake, through obstore": lambda get, folder: azure(),
    "HTTP: `zarrdock serve`": lambda get, folder: served(),
    "obstore's memory": lambda get, folder: opened(obstore.store.MemoryStore()),
}


def opened(place: Any) -> Any:
    return contextlib.nullcontext(zarrdock.open_store(place))


@pytest.mark.parametrize("service", SERVICES)
def test_the_table_says_what_was_seen(service: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with SERVICES[service](request.getfixturevalue, tmp_path) as store:
        report = check_store(store)
        wrong = [ability.name for ability in report.abilities if ability.outcome == "wrong"]
        assert wrong == (["updates that delete"] if service == IGNORES_CONDITIONS_ON_DELETE else [])
        if store.traits.listable:
            assert [entry.key for entry in store.list() if "zarrdock-check" in entry.key] == []
    row = f"| {service} | " + " | ".join(SIGNS[ability.outcome] for ability in report.abilities) + " |"
    assert row.replace("  ", " ") in DOCS.read_text().replace("  ", " "), row


def test_the_table_has_all_abilities() -> None:
    assert f"| tried on | {' | '.join(ABILITIES)} |" in DOCS.read_text()


def test_no_folder_is_left(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for place in ("no/such/folder", "there", "there/not"):
        assert check_store(zarrdock.open_store(tmp_path / place)).is_good
        assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_no_archive_is_left(tmp_path: Path) -> None:
    with zarrdock.open_store(tmp_path / "new.zip") as store:
        assert check_store(store).is_good
    assert list(tmp_path.iterdir()) == []
    with zarrdock.open_store(tmp_path / "old.zip") as store:
        store.write("a", b"1")
        assert check_store(store).is_good
    with zarrdock.open_store(tmp_path / "old.zip") as store:
        assert [entry.key for entry in store.list("")] == ["a"]


def outcomes(report: StoreReport) -> dict[str, str]:
    return {ability.name: ability.outcome for ability in report.abilities}


class ShortTails(WrapperStore):
    def read(self, requests: Any, /) -> Any:
        answers = self.store.read(requests)
        return [
            Blob(bytes(answer.data)[1:], answer.version) if isinstance(read.range, Tail) else answer
            for read, answer in zip(requests, answers, strict=True)
        ]


class LateListing(WrapperStore):
    def list(self, prefix: str = "", /) -> Any:
        return iter(())


class NoRefusal(WrapperStore):
    def write(self, key: str, value: Any, /, *, create_only: bool = False) -> Any:
        return self.store.write(key, value)


class Forgetful(WrapperStore):
    def update(self, key: str, change: Any, /) -> None:
        self.store.update(key, lambda _: change(b"0"))


class Stale(WrapperStore):
    def read(self, requests: Any, /) -> Any:
        return self.store.read([Read(read.key, read.range) for read in requests])


@pytest.mark.parametrize(
    ("wrapper", "ability"),
    [
        (ShortTails, "tails"),
        (LateListing, "listing"),
        (NoRefusal, "exclusive creation"),
        (Forgetful, "atomic updates"),
        (Stale, "versions"),
    ],
)
def test_what_is_wrong_is_found(wrapper: type[WrapperStore], ability: str) -> None:
    report = check_store(wrapper(MemoryStore()))
    assert {name for name, outcome in outcomes(report).items() if outcome == "wrong"} == {ability}
    assert not report.is_good


def test_nothing_to_write_and_nothing_to_read() -> None:
    store = MemoryStore()
    found = outcomes(check_store(zarrdock.ReadOnlyStore(store)))
    assert found["writes"] == "no"
    assert {found[name] for name in ("ranges", "tails", "atomic updates", "deletion")} == {"not tried"}
    store.write("k", b"12345")
    found = outcomes(check_store(zarrdock.ReadOnlyStore(store), key="k"))
    assert {found[name] for name in ("ranges", "tails", "sizes", "versions")} == {"yes"}
    assert [entry.key for entry in store.list()] == ["k"]


def test_marks_are_taken_away_where_a_trial_fails(strict_s3: Endpoint) -> None:
    with FaultProxy(strict_s3.url) as proxy:
        store = zarrdock.open_store("s3://zarrdock-test/faulty", storage_options=strict_s3.through(proxy))
        proxy.inject(Fault("status", status=403, method="GET", path="list-type", times=1))
        report = check_store(store)
        assert outcomes(report)["listing"] == "no"
        assert list(store.list()) == []


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["check-store", str(tmp_path)]) == 0
    assert "atomic updates       yes" in capsys.readouterr().out
    assert run(["check-store", str(tmp_path), "--read-only", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["is_good"]
    assert document["place"] == f"file:{tmp_path.resolve()}"
    first = document["abilities"][0]
    assert first["text"].startswith("the store is read-only")
    assert (first["name"], first["outcome"]) == ("writes", "no")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("zarrdock.cli.check_store.open_store", lambda *_, **__: ShortTails(MemoryStore()))
    assert run(["check-store", "x"]) == 1
    assert "tails                wrong: " in capsys.readouterr().out
