"""Models by name, from repositories and into them: against a server that speaks for the Hub."""

import base64
import contextlib
import dataclasses
import hashlib
import http.server
import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import geoenc
from geoenc import catalogue, hub, pretrained
from geoenc.catalogue import Pretrained
from geoenc.pretrained import CONFIG, WEIGHTS

pytest.importorskip("huggingface_hub", reason="needs the extra 'hub'")
LONLAT = [(-122.27, 37.87), (2.35, 48.86)]
REPOSITORY = "people/places"


def encoder(width: int = 4) -> geoenc.LocationEncoder:
    return geoenc.LocationEncoder(geoenc.Space2VecGrid(2), geoenc.FFN(8, width, hidden_features=6))


# --- a server with the few answers of the Hub that are needed -----------------------------------


class Hub(http.server.ThreadingHTTPServer):
    """Repositories as lists of commits, each a dictionary of files."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, repository: str, files: dict[str, bytes], branch: str = "main") -> str:
        commits = self.commits.setdefault(repository, {})
        branches = self.branches.setdefault(repository, {})
        whole = {**commits.get(branches.get(branch, ""), {}), **files}
        name = hashlib.sha1(repr((len(commits), sorted(whole))).encode()).hexdigest()
        commits[name], branches[branch] = whole, name
        return name

    def files(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        name = self.branches.get(repository, {}).get(revision, revision)
        found = self.commits.get(repository, {}).get(name)
        return None if found is None else (name, found)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server, path = self.server, self.path.partition("?")[0]
        server.asked.append(f"{self.command} {path}")
        server.tokens.add(self.headers.get("Authorization"))
        if at := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            found = server.files(at[1], at[3] or "main")
            if found is None:
                known = at[1] in server.commits
                self.missing("RevisionNotFound" if known else "RepoNotFound")
                return
            name, files = found
            tree = [
                {"type": "file", "path": key, "size": len(content), "oid": oid(content)}
                for key, content in files.items()
            ]
            self.say(tree if at[2] == "tree" else {"id": at[1], "sha": name, "siblings": []})
        elif at := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            found = server.files(at[1], at[2])
            if found is None or at[3] not in found[1]:
                self.missing("EntryNotFound")
                return
            headers = {"X-Repo-Commit": found[0], "ETag": f'"{oid(found[1][at[3]])}"'}
            self.say(found[1][at[3]], headers)
        else:
            self.missing("EntryNotFound")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        server = self.server
        server.asked.append(f"{self.command} {self.path}")
        server.tokens.add(self.headers.get("Authorization"))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            facts = json.loads(body)
            repository = f"{facts['organization']}/{facts['name']}"
            if repository not in server.commits:
                server.commit(repository, {".gitattributes": b""})
            self.say({"url": f"{server.url}/{repository}"})
        elif self.path.startswith("/api/validate-yaml"):
            self.say({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            modes = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            self.say({"files": [{"path": one["path"], **modes} for one in files]})
        else:
            at = re.match(r"/api/models/([^/]+/[^/]+)/commit/([^/?]+)", self.path)
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            name = server.commit(at[1], files, at[2])
            url = f"{server.url}/{at[1]}/commit/{name}"
            self.say({"success": True, "commitUrl": url, "commitOid": name})

    def say(self, answer: Any, headers: dict[str, str] | None = None) -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", f"{code} here")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    constants = pytest.importorskip("huggingface_hub.constants")
    with Hub() as running:
        template = f"{running.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        with contextlib.suppress(OSError):
            running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEOENC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def saved(model: geoenc.LocationEncoder, folder: Path, **metadata: str) -> dict[str, bytes]:
    model.save_pretrained(folder, metadata=metadata)
    return {name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}


# --- repositories -------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [geoenc.from_pretrained, geoenc.LocationEncoder.from_pretrained])
def test_a_repository_is_a_folder_elsewhere(server: Hub, tmp_path: Path, load: Any) -> None:
    model = encoder()
    name = server.commit(
        REPOSITORY, {**saved(model, tmp_path / "a", licence="MIT"), "huge.bin": b"0" * 999}
    )
    again = load(REPOSITORY)
    assert again.embed(LONLAT).equal(model.embed(LONLAT))
    assert again.metadata == {"licence": "MIT"}
    read = [path for path in server.asked if "/resolve/" in path and path.startswith("GET")]
    wanted = [f"GET /{REPOSITORY}/resolve/{name}/{file}" for file in (CONFIG, WEIGHTS)]
    assert sorted(read) == wanted, "two files of one commit, and no other"


def test_a_revision_is_kept_to(server: Hub, tmp_path: Path) -> None:
    old, new = encoder(), encoder(7)
    first = server.commit(REPOSITORY, saved(old, tmp_path / "a"))
    server.commit(REPOSITORY, saved(new, tmp_path / "b"))
    server.commit(REPOSITORY, saved(old, tmp_path / "c"), branch="stable")
    assert geoenc.from_pretrained(REPOSITORY).out_features == 7
    assert geoenc.from_pretrained(REPOSITORY, revision=first).out_features == 4
    assert geoenc.from_pretrained(REPOSITORY, revision="stable").out_features == 4
    with pytest.raises(FileNotFoundError, match=r"could not be read .*check the name, the rev"):
        geoenc.from_pretrained(REPOSITORY, revision="nosuch")


def test_it_works_without_a_network_afterwards(server: Hub, tmp_path: Path) -> None:
    model = encoder()
    server.commit(REPOSITORY, saved(model, tmp_path / "a"))
    with pytest.raises(FileNotFoundError, match="no such folder is here, and the repository"):
        geoenc.from_pretrained(REPOSITORY, local_files_only=True)
    assert server.asked == []
    folder = tmp_path / "own cache"
    geoenc.from_pretrained(REPOSITORY, cache_dir=folder)
    server.asked.clear()
    kept = geoenc.from_pretrained(REPOSITORY, cache_dir=folder, local_files_only=True)
    assert server.asked == []
    server.shutdown()
    server.server_close()
    offline = geoenc.from_pretrained(REPOSITORY, cache_dir=folder)
    assert offline.embed(LONLAT).equal(kept.embed(LONLAT))
    with pytest.raises(FileNotFoundError, match="the repository could not be read"):
        geoenc.from_pretrained("people/others", cache_dir=folder)


def test_the_token_is_sent(server: Hub, tmp_path: Path) -> None:
    server.commit(REPOSITORY, saved(encoder(), tmp_path / "a"))
    geoenc.from_pretrained(REPOSITORY, token="hf_secret")
    assert server.tokens == {"Bearer hf_secret"}


def test_repositories_that_are_no_models(server: Hub) -> None:
    server.commit(REPOSITORY, {"README.md": b"nothing"})
    with pytest.raises(FileNotFoundError, match=f"got '{REPOSITORY}' without {CONFIG}"):
        geoenc.from_pretrained(REPOSITORY)
    server.commit(REPOSITORY, {CONFIG: b"{}", WEIGHTS: b""})
    with pytest.raises(ValueError, match="damaged or of another kind"):
        geoenc.from_pretrained(REPOSITORY)
    with pytest.raises(FileNotFoundError, match="got 'people/nosuch': no such folder is here"):
        geoenc.from_pretrained("people/nosuch")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, *, extra: str) -> Any:
        raise ImportError(f"this needs the package {module!r}; pip install 'geoenc[{extra}]'")

    monkeypatch.setattr(pretrained, "require", missing)
    monkeypatch.setattr(hub, "require", missing)
    with pytest.raises(ImportError, match=r"expected a folder 'a/b', got none.*geoenc\[hub\]"):
        geoenc.from_pretrained("a/b")
    with pytest.raises(ImportError, match=r"geoenc\[hub\]"):
        hub.push_to_hub(encoder(), "a/b")


def test_a_path_is_never_looked_up(server: Hub, tmp_path: Path, monkeypatch) -> None:
    """A folder of the form org/name wins, and a Path or a longer path is never a repository."""
    monkeypatch.chdir(tmp_path)
    model = encoder()
    model.save_pretrained("people/places")
    assert geoenc.from_pretrained("people/places").embed(LONLAT).equal(model.embed(LONLAT))
    paths = (Path("people/nosuch"), "people/no/such", "./people/nosuch", str(tmp_path / "no"))
    for path in (*paths, "../x", "a/../b", "people/"):
        with pytest.raises(FileNotFoundError, match="expected a model folder"):
            geoenc.from_pretrained(path)
    with pytest.raises(ValueError, match="a folder has no revisions"):
        geoenc.from_pretrained("people/places", revision="main")
    assert server.asked == []


# --- into a repository --------------------------------------------------------------------------


def test_what_is_pushed_comes_back(server: Hub) -> None:
    model = encoder()
    model.metadata["paper"] = "Ours"
    facts = {"licence": "MIT", "training_data": "made up"}
    url = hub.push_to_hub(model, REPOSITORY, metadata=facts, token="hf_secret")
    assert url.startswith(f"{server.url}/{REPOSITORY}/commit/")
    again = geoenc.from_pretrained(REPOSITORY)
    assert again.embed(LONLAT).equal(model.embed(LONLAT))
    assert again.metadata == {"paper": "Ours", **facts}
    _, files = server.files(REPOSITORY, "main")
    assert set(files) == {".gitattributes", CONFIG, WEIGHTS, "README.md"}
    card = files["README.md"].decode()
    for words in ("license: mit", "| Licence | MIT |", "| Training data | made up |", "Ours"):
        assert words in card
    assert "Bearer hf_secret" in server.tokens


def test_the_example_of_the_card_runs(server: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    models = (encoder(), geoenc.LocationClassifier(encoder(), 3), geoenc.XYZ())
    shown = ("torch.Size([1, 4])", "torch.Size([1, 3])", "XYZ()")
    for number, (model, words) in enumerate(zip(models, shown, strict=True)):
        name = f"people/places-{number}"
        hub.push_to_hub(model, name)
        card = server.files(name, "main")[1]["README.md"].decode()
        code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
        exec(code, {})
        assert capsys.readouterr().out.strip().endswith(words)


def test_a_card_that_people_wrote_stays(server: Hub) -> None:
    server.commit(REPOSITORY, {"README.md": b"# By hand"})
    hub.push_to_hub(encoder(), REPOSITORY)
    assert server.files(REPOSITORY, "main")[1]["README.md"] == b"# By hand"
    assert geoenc.from_pretrained(REPOSITORY).out_features == 4


def test_what_cannot_be_saved_is_not_pushed(server: Hub) -> None:
    foreign = geoenc.DualEncoder(encoder(), torch.nn.Linear(5, 4))
    with pytest.raises(TypeError, match="derive it"):
        hub.push_to_hub(foreign, REPOSITORY)
    assert server.asked == []


@pytest.mark.parametrize(
    ("licence", "header"),
    [
        ("MIT", "license: mit\nlibrary"),
        ("Apache 2.0", "license: apache-2.0\nlibrary"),
        ("my own", 'license: other\nlicense_name: "my own"\n'),
        ("none stated", "license: unknown\nlibrary"),
        (None, "license: unknown\nlibrary"),
    ],
)
def test_the_licence_of_a_card(licence: str | None, header: str) -> None:
    card = hub.model_card(encoder(), "a/b", {} if licence is None else {"licence": licence})
    assert card.startswith(f"---\n{header}")
    assert f"| Licence | {licence or 'none stated'} |" in card


# --- names of the catalogue ---------------------------------------------------------------------


def satclip_file(path: Path, degrees: int = 4) -> dict[str, torch.Tensor]:
    """A Lightning checkpoint in the layout of SatCLIP, small."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "layers.0.weight": (8, degrees**2),
        "layers.0.bias": (8,),
        "layers.1.weight": (8, 8),
        "layers.1.bias": (8,),
        "last_layer.weight": (6, 8),
        "last_layer.bias": (6,),
    }
    state = {
        key: torch.randn(shape, generator=generator, dtype=torch.float64)
        for key, shape in shapes.items()
    }
    whole = {
        f"{prefix}.nnet.{key}": value
        for key, value in state.items()
        for prefix in ("model", "model.location")
    }
    parameters = {
        "legendre_polys": degrees,
        "le_type": "sphericalharmonics",
        "pe_type": "siren",
        "capacity": 8,
        "num_hidden_layers": 2,
        "embed_dim": 6,
        "harmonics_calculation": "analytic",
    }
    torch.save({"state_dict": whole, "hyper_parameters": parameters}, path)
    return state


@pytest.fixture
def entry(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pretrained:
    """The real entry, of a small file of the same layout on a server of our own."""
    satclip_file(tmp_path / "small.ckpt")
    content = (tmp_path / "small.ckpt").read_bytes()
    real = catalogue.entries()["satclip-vit16-l40"]
    server.commit("microsoft/SatCLIP-ViT16-L40", {real.file: content})
    url = f"{server.url}/microsoft/SatCLIP-ViT16-L40/resolve/main/{real.file}"
    digest = hashlib.sha256(content).hexdigest()
    ours = dataclasses.replace(real, url=url, checksum=f"sha256:{digest}")
    monkeypatch.setitem(catalogue.entries(), real.name, ours)
    return ours


def test_a_name_is_fetched_converted_and_kept(entry: Pretrained, server: Hub) -> None:
    model = geoenc.from_pretrained("satclip-vit16-l40")
    assert not model.training
    assert model.embed(LONLAT).shape == (2, 6)
    assert model.position.degree == 3
    for key, value in {
        "name": "satclip-vit16-l40",
        "paper": entry.paper,
        "licence": "MIT",
        "training_data": entry.training_data,
        "format": "satclip",
        "sha256": entry.checksum.removeprefix("sha256:"),
    }.items():
        assert model.metadata[key] == value
    server.shutdown()
    server.server_close()
    again = geoenc.from_pretrained("SatCLIP-ViT16-L40")
    assert again.embed(LONLAT).equal(model.embed(LONLAT))


def test_a_converted_model_is_saved_with_its_facts(entry: Pretrained, tmp_path: Path) -> None:
    model = geoenc.from_pretrained("satclip-vit16-l40", progress=False)
    model.save_pretrained(tmp_path / "ours")
    again = geoenc.from_pretrained(tmp_path / "ours")
    assert again.metadata == model.metadata
    assert again.embed(LONLAT).equal(model.embed(LONLAT))


def test_a_folder_of_that_name_wins(
    entry: Pretrained, server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    encoder(9).save_pretrained("satclip-vit16-l40")
    assert geoenc.from_pretrained("satclip-vit16-l40").out_features == 9
    assert server.asked == []


def test_a_file_that_cannot_be_converted_says_where_it_is(
    entry: Pretrained, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = cache / entry.name / entry.file
    place.parent.mkdir(parents=True)
    place.write_bytes(b"<html>moved</html>")
    other = dataclasses.replace(entry, checksum=None, notes="It has no anchors.")
    monkeypatch.setitem(catalogue.entries(), entry.name, other)
    with pytest.raises(ValueError, match=r"This is the file of satclip-vit16-l40. It has no") as e:
        geoenc.from_pretrained(entry.name)
    assert str(place.parent) in str(e.value)


def test_no_network_says_what_to_do(entry: Pretrained, server: Hub, cache: Path) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError) as caught:
        geoenc.from_pretrained(entry.name)
    place = cache / entry.name / entry.file
    for words in (f"fetch {entry.url} by hand and put it at {place}", "geoenc convert satclip"):
        assert words in str(caught.value)


def test_names_that_are_not_there() -> None:
    with pytest.raises(FileNotFoundError, match=r"got 'satclip-vit-l40'; did you mean satclip-v"):
        geoenc.from_pretrained("satclip-vit-l40")
    with pytest.raises(FileNotFoundError, match=r"geoenc list pretrained shows all"):
        geoenc.from_pretrained("zzzzzz")
    with pytest.raises(ValueError, match=r"'gps2vec', whose form it does not read.* See https"):
        geoenc.from_pretrained("gps2vec")
    with pytest.raises(ValueError, match="expected no revision"):
        geoenc.from_pretrained("geoclip", revision="main")


@pytest.mark.real_data
def test_a_released_file_loads_by_its_name(shared: Path, cache: Path) -> None:
    """Put where the message says it belongs; then checked, converted, and without a network."""
    name = "torchspatial-xyz-fmow"
    known = catalogue.entries()[name]
    with pytest.raises(FileNotFoundError, match="put it at") as caught:
        geoenc.from_pretrained(name, local_files_only=True)
    place = Path(re.search(r"put it at (\S+),", str(caught.value))[1])
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(shared / "checkpoints" / "torchspatial" / known.file, place)
    model = geoenc.from_pretrained(name, local_files_only=True)
    assert isinstance(model, geoenc.LocationClassifier)
    assert model.probabilities(geoenc.as_lonlat(LONLAT)).shape == (2, 62)
    assert model.metadata["training_data"] == "fMoW"
    assert model.metadata["sha256"] == known.checksum.removeprefix("sha256:")
