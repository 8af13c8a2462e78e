"""The ledger says what real information stands behind something, however long the chain."""

from nonesuch.ledger import NO_USES, UNKNOWN, Ledger, Use
from nonesuch.offers import GeneratorInfo, ledger_of_generators

GENERATOR = GeneratorInfo(
    id="g", family="fake", sha256="0" * 64, image_shape=(4, 4, 1), class_names=("a", "b"), z_dim=2
)
SHOWN = Use(by="training", information="labelled", what="10 images of x/train", direct=True)
ADAPTED = Use(by="batch norm adaptation", information="unlabelled", what="5 images", direct=True)


def test_nothing_is_nothing() -> None:
    assert NO_USES.information == NO_USES.direct == "none"
    assert NO_USES.statement == "real information used: none"


def test_the_most_that_any_use_had_counts_and_what_the_classifier_saw_itself_is_told_apart() -> None:
    ledger = ledger_of_generators([GENERATOR]).plus(ADAPTED)
    assert ledger.information == "labelled"
    assert ledger.direct == "unlabelled"
    judged = ledger.model_copy(update={"judged_on": "7 images of x/test"})
    assert judged.statement == (
        "real information used: labelled, through generator g (labelled real images); batch norm adaptation "
        "(real images without labels: 5 images); judged on 7 images of x/test"
    )


def test_a_use_is_entered_once() -> None:
    assert Ledger().plus(SHOWN, SHOWN).plus(SHOWN).uses == (SHOWN,)


def test_what_a_teacher_learned_from_is_no_longer_direct_for_who_uses_it() -> None:
    teacher = ledger_of_generators([GENERATOR]).plus(SHOWN)
    through = teacher.through("teacher")
    assert [use.by for use in through] == ["teacher through generator g", "teacher"]
    pupil = Ledger().plus(*through)
    assert (pupil.information, pupil.direct) == ("labelled", "none")


def test_it_survives_json_and_its_summary_says_what_follows_from_it() -> None:
    ledger = ledger_of_generators([GENERATOR]).plus(SHOWN)
    assert Ledger.model_validate_json(ledger.model_dump_json()) == ledger
    assert ledger.summary()["information"] == "labelled"
    assert ledger.summary()["statement"] == ledger.statement


def test_weights_of_which_nothing_is_known_count_as_trained_on_labelled_images() -> None:
    assert UNKNOWN.information == UNKNOWN.direct == "labelled"
