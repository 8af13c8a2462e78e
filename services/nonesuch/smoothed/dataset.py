"""`SmoothedDataset`: dataset smoothing and mining for a training loop of the user's own.

    fill ─► ┌─► (the user trains an epoch) ─► publish ─► refresh: r·N images are replaced ─┐
            └──────────────────────────────── every epoch ──────────────────────────────────┘
    staleness 1: `refresh` asks for the next epoch's images before it returns, aimed at the model last published. They
                 are minted while the user trains, and `refresh` waits for what is missing
    staleness 0: `refresh` asks for them, aimed at the model last published, and waits (Besnier et al. 2019, Alg. 2)

`background` draws the threads. Legend: N images, B of a batch, H×W pixels, C channels.
"""

try:
    import torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "SmoothedDataset takes torch, which is not installed: pip install 'nonesuch[torch]'", name=error.name
    ) from None

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal

import numpy as np
from pydantic import JsonValue
from torch import Tensor, nn
from torch.utils.data import Dataset

from nonesuch.classifiers.normalisation import input_tensor
from nonesuch.classifiers.published import Snapshot
from nonesuch.classifiers.registry import build
from nonesuch.classifiers.spec import ClassifierSpec, Normalisation
from nonesuch.config import validated
from nonesuch.errors import InvalidValue, OrderFailed
from nonesuch.host.contexts import Closing
from nonesuch.host.progress import progress as show_progress
from nonesuch.host.terminal import terminal
from nonesuch.labels import resolve_classes
from nonesuch.seeds import numpy_rng
from nonesuch.smoothed.background import BackgroundMinting, Elsewhere
from nonesuch.smoothed.opening import open_source
from nonesuch.smoothed.orders import DatasetOrders, Wanted, parts_of
from nonesuch.smoothed.published import published
from nonesuch.smoothed.reports import Ages, Refreshed
from nonesuch.smoothed.resident import NO_SNAPSHOT, ResidentDataset
from nonesuch.smoothed.saved import Saved
from nonesuch.smoothed.settings import Smoothing, Victims
from nonesuch.smoothed.shared import shared
from nonesuch.smoothed.source import Came

Transform = Callable[[Tensor], Tensor]


class SmoothedDataset(Dataset[tuple[Tensor, int]], Closing):
    """N minted images with labels, in memory; `refresh` replaces r·N of them, half of them mined against your model.

        ds = SmoothedDataset("http://127.0.0.1:8000", size=10_000, replace=0.5, mined=0.5)
        model = ds.classifier("resnet18", width=16)
        for epoch in range(30):
            for x, y in DataLoader(ds, batch_size=128, shuffle=True): ...
            ds.publish(model)
            ds.refresh()

    An item is an image (C, H, W), float32, normalised, and its label. The same seed, service and models give the same
    images, whether they come over HTTP or Redis.

    A DataLoader's workers share the images with this process: started by fork they see what `refresh` replaced, also
    `persistent_workers`. Started by spawn they do as well, if the shared memory of the machine (/dev/shm) holds them.
    Refresh between epochs: in the midst of one a worker may see an image with its predecessor's label. In workers
    `publish` and `refresh` raise `InvalidValue`. Each rank of a distributed training has a dataset of its own, alike in
    all with the same seed and models.

    Args:
        url: of the gateway, or redis://, rediss:// or unix:// of the service's Redis; None is the gateway of the
            environment (NONESUCH_URL), or of this machine.
        size: N.
        replace: r, the fraction that one `refresh` replaces; 0 is a fixed dataset.
        mined: the share of these that is mined, by `strategy`; the others are drawn at random.
        generator: whose images; None is the only one, or fashion-mnist.
        classes: names or numbers of the classes that occur; None takes all.
        strategy, params: how images are mined, and its parameters.
        random_params: parameters of the strategy `random`: {"truncation": 0.5}.
        mean, std: of the normalisation, (x − mean) / std of x in [0, 1]: a value for each channel, or one for all. The
            model is shown mined images in the same way.
        transform: makes of a normalised image (C, H, W) what is trained on, at random for example.
        staleness: 1 mints while you train, aimed at the model before; 0 waits, aimed at the model last published.
        victims: which images go: drawn at random, or the oldest.
        seed: of all random numbers.
        state: of `state_dict`: go on from there instead of minting N images.
        token: of the gateway, with the scopes mint and snapshot; None is that of the environment (NONESUCH_TOKEN).
        timeout_s: how long to wait when nothing comes, or for a service that is away. Over HTTP the mined images of an
            epoch, and the others, have to be made in this time too.
        progress: show it on standard error.

    Blocks until N images are there.

    Raises:
        InvalidValue: settings that cannot work, or a state of another dataset.
        InvalidOrder, GeneratorNotFound: the service could not make such images.
        OrderFailed, TakeTimeout, Unreachable, NoWorkers: it did not make them.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        size: int = 10_000,
        replace: float = 0.5,
        mined: float = 0.5,
        generator: str | None = None,
        classes: Sequence[str | int] | None = None,
        strategy: str = "hsm",
        params: Mapping[str, JsonValue] | None = None,
        random_params: Mapping[str, JsonValue] | None = None,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        transform: Transform | None = None,
        staleness: Literal[0, 1] = 1,
        victims: Victims = "random",
        seed: int = 0,
        state: Mapping[str, Any] | None = None,
        token: str | None = None,
        timeout_s: float = 600.0,
        progress: bool = True,
    ) -> None:
        given = {
            "size": size, "replace": replace, "mined": mined, "generator": generator,
            "classes": None if classes is None else tuple(classes), "strategy": strategy, "params": dict(params or {}),
            "random_params": dict(random_params or {}), "staleness": staleness, "victims": victims, "seed": seed,
        }  # fmt: skip
        self._settings = validated(Smoothing, given, "SmoothedDataset")
        self._normalisation = validated(Normalisation, {"mean": mean, "std": std}, "SmoothedDataset")
        self._transform = transform
        self._console = terminal(stderr=True, quiet=not progress)
        self._spec: ClassifierSpec | None = None
        self._latest: Snapshot | None = None
        self._aimed: Snapshot | None = None
        """The model that the images being minted are aimed at."""
        self.epoch = 0
        """How many times the dataset was refreshed."""
        self._minting = BackgroundMinting(partial(open_source, url, token=token, timeout_s=timeout_s))
        weakref.finalize(self, self._minting.close)  # at the end of the program too
        try:
            catalog = self._minting.source.catalog
            info = catalog.choose(self._settings.generator)
            chosen = sorted(set(resolve_classes(self._settings.classes, info.class_names)))
            self._orders = DatasetOrders((info,), chosen, seed=seed)
            for birth in (0, 1):
                self._wanted(birth).check(catalog)
            if state is None:
                self._resident = self._filled()
                self._start_early()
            else:
                self.load_state_dict(state)
        except BaseException:
            self.close()
            raise

    # -- what a DataLoader asks for ------------------------------------------------------------------------------------
    def __len__(self) -> int:
        return self._settings.size

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """The items of a batch, normalised together."""
        rows = torch.as_tensor(indices)
        x_BCHW = input_tensor(self._resident.images[rows], self._normalisation)
        images: Iterable[Tensor] = x_BCHW if self._transform is None else map(self._transform, x_BCHW)
        return list(zip(images, self._resident.labels[rows].tolist(), strict=True))

    # -- what a training loop asks for ---------------------------------------------------------------------------------
    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, by label; a classifier has an output for each."""
        return self._orders.class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the images."""
        return self._orders.image_shape

    @property
    def images(self) -> Tensor:
        """(N, H, W, C) uint8, the images themselves: not to be written to."""
        return self._resident.images

    @property
    def labels(self) -> Tensor:
        """(N,) int64, the labels of the images: not to be written to."""
        return self._resident.labels

    def classifier(self, architecture: str = "resnet18", **args: float | str | bool) -> nn.Module:
        """A new network for these images and classes, from torch's random numbers, which `publish` knows to describe.

        Args:
            architecture: a name that is registered (`nonesuch.classifiers.registry.architectures`).
            args: its arguments: width=16.

        Raises `InvalidValue` for an architecture or an argument that is not known.
        """
        spec = validated(ClassifierSpec, {"architecture": architecture, "args": args}, "classifier")
        height, _, channels = self.image_shape
        model = build(spec, in_channels=channels, classes=len(self.class_names), image_size=height)
        self._spec = spec
        return model

    def publish(
        self,
        model: nn.Module,
        architecture: str | None = None,
        args: Mapping[str, int | float | str | bool] | None = None,
    ) -> None:
        """Mine against this model from now on. Copies its weights; does not block.

        Args:
            model: a network of a registered architecture with logits for `class_names`; a wrapper for several devices,
                or a compiler's, is taken off.
            architecture, args: what it is, for workers to build it; may be left out for one that `classifier` made.

        Raises:
            InvalidValue: nobody said what it is, or no such architecture is registered.
            InvalidSnapshot: its weights are not those of the architecture, or not finite.
        """
        self._minting.check_usable("publish()")
        if architecture is not None:
            self._spec = validated(ClassifierSpec, {"architecture": architecture, "args": dict(args or {})}, "publish")
        if self._spec is None:
            raise InvalidValue(
                "which network is it? Workers have to build it: take it from ds.classifier(...), or name what is "
                "registered, publish(model, 'resnet18', {'width': 16})",
                field="architecture",
            )
        version = 0 if self._latest is None else self._latest.header.version + 1
        self._latest = published(
            model, self._spec, self._orders, self._normalisation, version=version, epoch=self.epoch
        )
        self._start_early()

    def refresh(self) -> Refreshed:
        """Replace r·N images. Blocks until they are there; call it between two epochs.

        The images that go are of the same classes as those that come. With `staleness` 1 the next ones are asked for.

        Raises:
            InvalidValue: images are to be mined, and no model was published.
            OrderFailed, TakeTimeout, Unreachable, NoWorkers, RingClosed, Busy: the images cannot be had. The dataset is
                as it was, and `refresh` can be called again; also after Ctrl-C.
            IntegrityError: what came is not what was ordered.
        """
        self._minting.check_usable("refresh()")
        if self._settings.fresh == 0:
            self.epoch += 1
            return Refreshed(0, 0, None)
        if not self._minting.pending:
            if not self._can_mint:
                raise InvalidValue(
                    "images are to be mined, and against no model: call publish(model) before refresh(), or set mined=0"
                )
            self._start()
        came = self._take(f"images for epoch {self.epoch + 1}", self._settings.fresh)
        self._resident.replace(
            came.images,
            birth=self.epoch + 1,
            victims=self._settings.victims,
            rng=numpy_rng(self._settings.seed, "victims", self.epoch + 1),
        )
        self.epoch += 1
        aimed, self._aimed = self._aimed, None
        age = None if aimed is None or self._latest is None else self._latest.header.version - aimed.header.version
        self._start_early()
        return Refreshed(len(came.images), came.short.total(), age)

    def age(self) -> Ages:
        """How old the images are; `print(ds.age())` says it in a line."""
        versions = self._resident.snapshots.numpy()
        latest = NO_SNAPSHOT if self._latest is None else self._latest.header.version
        return Ages(
            refreshes=self.epoch - self._resident.births.numpy().astype(np.int64),
            snapshots=np.where(versions == NO_SNAPSHOT, -1, latest - versions),
        )

    # -- stopping and going on -----------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """Everything that it takes to go on from here, as tensors and plain values (`torch.load` reads it with
        `weights_only`): the images, the models that are aimed at, and what is being minted, which is minted again.

        Between two epochs it is exact: who goes on from it gets the images that this dataset would have got.
        """
        return Saved(
            epoch=self.epoch,
            resident=self._resident,
            latest=self._latest,
            aimed=self._aimed,
            pending=self._minting.pending,
        ).state(self._orders)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`. Raises `InvalidValue` for one of another size, generator or classes."""
        self._minting.check_usable("load_state_dict()")
        saved = Saved.of(state, self._orders, self._settings.size)
        self._minting.start_over()
        self.epoch, self._resident, self._latest = saved.epoch, shared(saved.resident), saved.latest
        self._aimed = None
        if saved.pending and self._can_mint:
            self._start(saved.aimed)

    def close(self) -> None:
        """Withdraw what was asked for; the images stay. At the end of the program it happens by itself.

        Over Redis nothing is left there. Over HTTP the last models that any dataset has sent stay in the service.
        """
        self._minting.close()

    def __getstate__(self) -> dict[str, Any]:
        """What a DataLoader's worker gets that is started by spawn: the images, without the service."""
        return {**self.__dict__, "_minting": Elsewhere(), "_latest": None, "_aimed": None, "_console": None}

    # ------------------------------------------------------------------------------------------------------------------
    def _filled(self) -> ResidentDataset:
        self._minting.start(self._wanted(0), None)
        came = self._take("first images", self._settings.size)
        if came.short:
            raise OrderFailed(f"{came.short.total()} of the first {self._settings.size} images could not be made")
        return shared(ResidentDataset.of(came.images, torch.device("cpu")))

    @property
    def _can_mint(self) -> bool:
        """Whether there are images to replace, and a model to mine them against."""
        return self._settings.fresh > 0 and (self._latest is not None or not self._settings.aimed)

    def _start_early(self) -> None:
        """Ask for the next epoch's images, if they are to be minted while the user trains."""
        if self._settings.staleness == 1 and self._can_mint and not self._minting.pending:
            self._start()

    def _start(self, snapshot: Snapshot | None = None) -> None:
        wanted = self._wanted(self.epoch + 1)
        self._aimed = (snapshot or self._latest) if wanted.aimed else None
        self._minting.start(wanted, self._aimed)

    def _wanted(self, birth: int) -> Wanted:
        return Wanted(self._orders, birth, parts_of(self._settings, birth))

    def _take(self, what: str, total: int) -> Came:
        bar: AbstractContextManager[Callable[[int], None]] = show_progress(self._console, what, total)
        with bar as advance:
            return self._minting.take(advance)
