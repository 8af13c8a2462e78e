"""The family `conditioned`: an unconditional generator with a network before it that chooses the latents of a class.

    label y ─► input network ─► μ(y), σ(y)
                                   │
    latent ε ──────────► z = μ(y) + σ(y)·ε ─► base generator ─► image            (Mekonnen 2024, Eq. 4 to 6)

What the service calls the latent z of such a generator is ε. `nonesuch condition` makes one. Its folder:

    card.json            `generators.conditioned.card.Card`
    input.safetensors    the input network
    base/                a copy of the base generator's folder; not there when the card names the base by its argument

Shapes: B samples, K classes, Z = z_dim of the base.
"""

import hashlib
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from nonesuch.config import explain
from nonesuch.errors import GeneratorNotFound, IntegrityError, InvalidValue
from nonesuch.offers import GeneratorInfo
from nonesuch_worker.generators.base import Generator
from nonesuch_worker.generators.card import CARD, more_of
from nonesuch_worker.generators.conditioned.card import Card
from nonesuch_worker.generators.conditioned.network import InputNetwork
from nonesuch_worker.generators.frozen import frozen
from nonesuch_worker.generators.load import load_generator

WEIGHTS = "input.safetensors"
BASE = "base"
MAX_SIGMA = 1.0
"""The largest σ of ε, which was N(0, I) when the classes were learned. A wider one leaves them, and soon the latents
that the base knows; more diversity is had with labels by training with more weight on the regulariser."""


class ConditionedGenerator:
    """A base generator behind its input network. Satisfies `Generator`.

    Attributes:
        mu: (K, Z) float32 on the device.
        sigma: (K, Z), the same.
    """

    def __init__(self, base: Generator, network: InputNetwork, card: Card) -> None:
        """Takes the network over, and brings it to the CPU, so that its table is the same wherever the base is.

        Raises `InvalidValue` when the base has several classes, or other latents or images than on the card.
        """
        if len(base.info.class_names) != 1:
            raise InvalidValue(
                f"the base {base.info.id!r} has {len(base.info.class_names)} classes, not 1: only an unconditional "
                "generator can be conditioned"
            )
        if (base.info.z_dim, base.info.image_shape) != (card.z_dim, card.image_shape):
            raise InvalidValue(
                f"the base {base.info.id!r} has latents of {base.info.z_dim} and images of {base.info.image_shape}, "
                f"its card {card.z_dim} and {card.image_shape}: they do not belong together"
            )
        self.base = base
        self.device = base.device
        self.info = _info(base, card)
        with torch.no_grad():  # what it says of K classes is all it says, and rows of a table depend on no batch
            self.mu, self.sigma = (rows.to(base.device) for rows in network.cpu().table())

    def __call__(self, z: Tensor, labels: Tensor, truncation: float | None = None) -> Tensor:
        """Make images, as `Generator` says; `z` is ε, truncated or not. The base gets no truncation: μ + σε is not
        centred on 0, and its input network was trained without."""
        return self.base(self.mu[labels] + self.sigma[labels] * z, torch.zeros_like(labels))


def load(argument: str, device: torch.device) -> Generator:
    """The loader of `conditioned:FOLDER`.

    Raises:
        GeneratorNotFound: the folder lacks the card or the weights, or the base is not where the card says.
        IntegrityError: the card is not one; the input network or the base do not have the sha256 on it.
        InvalidValue: a tensor of the input network is missing, extra, misshapen, of another dtype or not finite (each
            is named); or the base cannot be loaded or does not fit.
    """
    folder = Path(argument)
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise GeneratorNotFound(f"{folder} holds no conditioned generator: there is no {name}")
    try:
        card = Card.model_validate_json((folder / CARD).read_bytes())
    except ValidationError as error:
        raise IntegrityError(explain(error, f"the card {folder / CARD}")) from None
    network = frozen(card.network(), folder / WEIGHTS, card.model_dump())
    place = str(folder / BASE) if card.base.argument is None else card.base.argument
    base = load_generator(f"{card.base.family}:{place}", device)
    if base.info.sha256 != card.base.sha256:
        raise IntegrityError(
            f"the base in {place} has sha256 {base.info.sha256}, but {folder / CARD} was made for {card.base.sha256}: "
            "it is another generator, copy the right one there"
        )
    return ConditionedGenerator(base, network, card)


def _info(base: Generator, card: Card) -> GeneratorInfo:
    return GeneratorInfo(
        id=card.name,
        family=card.family,
        # Images depend on both networks, so the identity does: the sha256 of both digests, one after the other.
        sha256=hashlib.sha256(f"{card.sha256}{card.base.sha256}".encode()).hexdigest(),
        image_shape=base.info.image_shape,
        class_names=card.class_names,
        z_dim=card.z_dim,
        differentiable=base.info.differentiable,
        max_sigma=MAX_SIGMA,
        license=card.license,
        real_information=card.real_information,
        description=card.description,
        card=more_of(card.model_dump(mode="json")),
    )
