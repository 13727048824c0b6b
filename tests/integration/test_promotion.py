"""Who becomes champion, on a real MLflow server: decisions, roll-backs, races, kills, and servers that break."""

from __future__ import annotations

import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tasks.card import card_name
from tasks.ledger import FOLLOWED_TAG, Ledger
from tasks.registry import CHALLENGER, CHAMPION, TEST_TAG, ModelRegistry
from tests.registry_world import BETTER, EQUAL, REAL, WORSE, Place
from unroll.errors import RegistryError
from unroll.evaluation.comparison import Comparison

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="unroll")


def test_each_verdict_is_entered_with_who_what_and_why(place: Place) -> None:
    assert place.judge(place.make(1))["outcome"] == "promoted"
    assert place.judge(place.make(2), EQUAL)["outcome"] == "held"
    assert place.judge(place.make(3), WORSE)["outcome"] == "rejected"
    assert place.judge(place.make(4), BETTER)["outcome"] == "promoted"
    assert place.aliases() == {CHAMPION: "4"}
    assert place.verdicts() == [("promoted", "1"), ("held", "2"), ("rejected", "3"), ("promoted", "4")]
    last = place.promotions.entries()[-1]
    assert (last.judge, last.champion, last.based_on, last.number) == ("gate", "1", 1, 4)
    assert last.asked_by
    assert last.evidence == {"champion": BETTER.to_dict()}
    assert len(last.data_digest) == len(last.request) == 64
    assert last.run_id == place.registry.version(place.name, "4").run_id
    assert abs(last.time - time.time()) < 120
    lines = (place.workshop.store.root / "ledger" / f"{place.name}.jsonl").read_text().splitlines()
    assert [json.loads(line)["verdict"] for line in lines] == ["promoted", "held", "rejected", "promoted"]
    assert place.name in place.registry.names()
    assert f"{place.name}.ledger" not in place.registry.names()


def test_the_stage_repeated_enters_nothing_twice(place: Place) -> None:
    made = place.make(1)
    first = place.judge(made)
    shutil.rmtree(place.workshop.store.root / "sentiment" / "register")
    assert place.judge(made) == first
    assert place.judge(made, forced=True)["reason"] == "this version is the champion already"
    assert place.verdicts() == [("promoted", "1")]


def test_every_version_has_a_card_with_slices_cost_and_the_decision(place: Place) -> None:
    place.judge(place.make(1))
    place.judge(place.make(2), WORSE)
    version = place.registry.version(place.name, "2")
    card = place.registry.card(version)
    assert card is not None
    for words in (
        "## Intended use",
        "## Slices",
        "| length |",
        "| class | negative |",
        "| unknown words |",
        "## Limits",
    ):
        assert words in card
    for words in ("**rejected**", "p value", "## Cost", "energy, GPU", "## Training data", "SHA-256"):
        assert words in card
    names = [item.path for item in place.client.list_artifacts(version.run_id, "model_card")]
    assert card_name(place.name, "2") in names
    description = place.client.get_model_version(place.name, "2").description
    assert description.startswith(f"# {place.name}, version 2")
    assert len(description) <= 4_900


# fails closed


@pytest.mark.parametrize("moment", ["before", "while comparing", "before the append"])
def test_a_registry_that_goes_away_promotes_nobody(place: Place, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place.judge(place.make(1))
    made = place.make(2)

    def compare(*_: Any) -> Comparison:
        if moment == "while comparing":
            place.server.kill()
        return BETTER

    if moment == "before":
        place.server.kill()
    if moment == "before the append":
        append = Ledger.append
        monkeypatch.setattr(Ledger, "append", lambda self, entry: (place.server.kill(), append(self, entry))[1])
    with pytest.raises(RegistryError, match="cannot be used"):
        place.judge(made, compare)
    monkeypatch.undo()
    place.server.start()
    assert place.champion == "1"
    assert place.verdicts() == [("promoted", "1")]


def test_a_decision_whose_alias_could_not_be_moved_stands_and_the_next_look_moves_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.judge(place.make(1))
    made = place.make(2)
    settle = Ledger.settle
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "settle", lambda self, alias: (place.server.kill(), settle(self, alias))[1])
        with pytest.raises(RegistryError, match=r"decided that version 2 .* is champion \(entry 2"):
            place.judge(made, BETTER)
    place.server.start()
    assert place.champion == "1"
    assert place.registry.resolve(place.name, None).number == "2", "whoever asks for the champion lets the alias follow"
    assert place.champion == "2"
    assert place.judge(made, WORSE)["outcome"] == "promoted", "it was decided before; nobody compares again"
    assert place.verdicts() == [("promoted", "1"), ("promoted", "2")]


@pytest.mark.parametrize("damage", ["weights cut short", "weights of another model", "no settings"])
def test_a_champion_that_cannot_be_loaded_is_an_error(place: Place, damage: str) -> None:
    place.judge(place.make(1))
    version = place.client.get_model_version(place.name, "1")
    model_id = version.source.rpartition("/")[2]
    (weights,) = place.server.folder.glob(f"artifacts/**/{model_id}/**/*.safetensors")
    if damage == "weights cut short":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "weights of another model":
        other = place.make(2, model={"embedding_dim": 7, "hidden_size": 9})[1].model.artifact.folder
        shutil.copyfile(other / weights.name, weights)
    else:
        weights.with_name("config.json").unlink()
    with pytest.raises(RegistryError, match=r"(?s)version 1, cannot be loaded, so nothing.*models promote"):
        place.judge(place.make(3), REAL)
    assert place.champion == "1"
    assert place.verdicts() == [("promoted", "1")]


def test_a_version_that_the_registry_gives_back_changed_is_not_promoted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registered weights are those of another model of the same shape."""
    place.judge(place.make(1))
    made, other = place.make(2), place.make(3)[1].model.artifact.folder
    register = ModelRegistry.register

    def register_and_spoil(self: ModelRegistry, *arguments: Any) -> Any:
        version = register(self, *arguments)
        model_id = place.client.get_model_version(place.name, version.number).source.rpartition("/")[2]
        (weights,) = place.server.folder.glob(f"artifacts/**/{model_id}/**/*.safetensors")
        shutil.copyfile(other / weights.name, weights)
        return version

    monkeypatch.setattr(ModelRegistry, "register", register_and_spoil)
    with pytest.raises(RegistryError, match="gives back other weights"):
        place.judge(made, BETTER)
    assert place.verdicts() == [("promoted", "1")]
    with pytest.raises(RegistryError, match="gives back other weights"):
        place.promotions.promote(place.registry.version(place.name, "2"), "I want it")
    assert place.champion == "1"


def test_other_test_items_hold_a_better_version_back(place: Place) -> None:
    place.judge(place.make(1))
    place.client.set_model_version_tag(place.name, "1", TEST_TAG, "0" * 64)
    decision = place.judge(place.make(2), BETTER)
    assert decision["outcome"] == "held"
    assert "other test items" in decision["reason"]
    assert f"unroll models promote {place.name}/2" in decision["reason"]
    assert place.aliases() == {CHAMPION: "1", CHALLENGER: "2"}


def test_another_vocabulary_holds_a_better_version_back_unless_it_is_let(place: Place) -> None:
    place.judge(place.make(1))
    decision = place.judge(place.make(2, encoding={"vocab_size": 60}), BETTER)
    assert decision["outcome"] == "held"
    assert "another vocabulary" in decision["reason"]
    let = place.make(3, encoding={"vocab_size": 60}, registry={"require_same_vocabulary": False})
    assert place.judge(let, BETTER)["outcome"] == "promoted"


def test_other_labels_are_an_error(place: Place, tmp_path: Path) -> None:
    place.judge(place.make(1))
    rows = "\n".join(
        f"this is text {index} of {'good' if index % 2 else 'bad'} kind,{index % 3}" for index in range(240)
    )
    (tmp_path / "reviews.csv").write_text(f"text,label\n{rows}\n")
    made = place.make(2, data={"source": str(tmp_path / "reviews.csv")})
    with pytest.raises(RegistryError, match="tells negative, positive apart"):
        place.judge(made, REAL)
    assert place.champion == "1"
    assert place.verdicts() == [("promoted", "1")]


@pytest.mark.parametrize("how", ["moved", "taken away"])
def test_an_alias_moved_by_hand_stops_the_gate_until_a_person_says_which(place: Place, how: str) -> None:
    place.judge(place.make(1))
    place.judge(place.make(2), BETTER)
    if how == "moved":
        place.client.set_registered_model_alias(place.name, CHAMPION, "1")
    else:
        place.client.delete_registered_model_alias(place.name, CHAMPION)
    made = place.make(3)
    with pytest.raises(RegistryError, match=rf"was {how}.* by hand; by the ledger version 2 is.*models promote"):
        place.judge(made, BETTER)
    with pytest.raises(RegistryError, match="by hand"):
        place.promotions.roll_back(None, "back")
    place.promotions.promote(place.registry.version(place.name, "1"), "version 2 was slow")
    assert place.champion == "1"
    assert place.judge(made, BETTER)["outcome"] == "promoted"


def test_deleted_entries_stop_the_gate_and_are_told_from_the_copy(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.three_champions()
    place.client.delete_model_version(f"{place.name}.ledger", "2")
    place.client.set_model_version_tag(f"{place.name}.ledger", "1", "unroll.entry.reason", "because")
    with pytest.raises(RegistryError, match=r"were deleted \(2\).*models promote"):
        place.judge(place.make(4), BETTER)
    place.promotions.entries()
    assert "entry 2 (promoted version 2) was deleted" in caplog.text
    assert "entry 1 was changed: reason" in caplog.text
    place.promotions.promote(place.registry.version(place.name, "3"), "it is this one")
    assert place.judge(place.make(5), BETTER)["outcome"] == "promoted"


def test_a_whole_ledger_that_is_gone_is_no_first_version(place: Place) -> None:
    place.judge(place.make(1))
    place.client.delete_registered_model(f"{place.name}.ledger")
    with pytest.raises(RegistryError, match="were deleted"):
        place.judge(place.make(2), BETTER)
    place.promotions.promote(place.registry.version(place.name, "1"), "begin anew")
    assert place.verdicts() == [("promoted", "1")]


def test_a_champion_from_before_the_ledger_is_entered_first(place: Place) -> None:
    place.judge(place.make(1))
    place.client.delete_registered_model(f"{place.name}.ledger")
    place.client.delete_registered_model_tag(place.name, FOLLOWED_TAG)
    assert place.judge(place.make(2), BETTER)["outcome"] == "promoted"
    assert place.verdicts() == [("adopted", "1"), ("promoted", "2")]
    assert place.promotions.roll_back(None, "back").version == "1"


# roll-backs


def test_roll_backs_go_back_one_champion_each_and_end_at_the_first(place: Place) -> None:
    place.three_champions()
    for expected in ("2", "1"):
        assert place.promotions.roll_back(None, "worse on Tuesday").version == expected
        assert place.champion == expected
    with pytest.raises(RegistryError, match=r"no earlier champion .* version 1 is the first one"):
        place.promotions.roll_back(None, "once more")
    place.promotions.promote(place.registry.version(place.name, "3"), "it was not the model")
    assert place.champion == "3"
    assert place.promotions.roll_back(None, "it was").version == "1"
    assert [verdict for verdict, _ in place.verdicts()][3:] == ["rolled back", "rolled back", "promoted", "rolled back"]


def test_a_roll_back_passes_over_deleted_versions_and_leaves_a_deleted_champion(place: Place) -> None:
    place.three_champions()
    place.client.delete_model_version(place.name, "2")
    place.client.delete_model_version(place.name, "3")
    with pytest.raises(RegistryError, match=r"Version 3 .* was deleted.*models rollback"):
        place.judge(place.make(4), BETTER)
    assert place.promotions.roll_back(None, "both are gone").version == "1"
    assert place.champion == "1"


def test_a_roll_back_to_a_named_champion(place: Place) -> None:
    place.three_champions()
    with pytest.raises(RegistryError, match=r"Version 9 was no champion .*earlier champions: 2, 1.*models promote"):
        place.promotions.roll_back("9", "to where")
    assert place.promotions.roll_back("1", "two back").version == "1"
    with pytest.raises(RegistryError, match="no earlier champion"):
        place.promotions.roll_back(None, "and back")
