"""Settings: every wrong key is named, and what is written is what is read."""

from pathlib import Path
from typing import Any

import pytest
import tomli_w
from pydantic import ValidationError

from tests.training.tiny import CASES, tiny_settings, tiny_table
from training.settings import DataSettings, RunSettings, SettingsError, load_settings

CONFIGS = sorted((Path(__file__).parents[2] / "training" / "configs").glob("*.toml"))


def written(folder: Path, table: dict[str, Any]) -> Path:
    path = folder / "config.toml"
    path.write_text(tomli_w.dumps(table))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return written(tmp_path, tiny_table("vq", "images"))


@pytest.mark.parametrize("case", CASES)
def test_written_settings_read_back_equal(tmp_path: Path, case: str) -> None:
    settings = tiny_settings(case, "images", {"objective.options": {}})
    (tmp_path / "config.toml").write_text(settings.to_toml())
    assert load_settings(tmp_path / "config.toml") == settings


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_read_and_read_back_equal(path: Path, tmp_path: Path) -> None:
    settings = load_settings(path)
    (tmp_path / "again.toml").write_text(settings.to_toml())
    assert load_settings(tmp_path / "again.toml") == settings


def test_there_are_shipped_configurations() -> None:
    assert {"cifar10-gmvq", "cifar10-vq-ema"} <= {path.stem for path in CONFIGS}


def test_every_wrong_key_is_named_at_once(tmp_path: Path) -> None:
    table = tiny_table("vq", "images")
    table["sede"] = 1
    table["data"]["flipp"] = True
    table["schedule"]["epochs"] = 0
    table["optimiser"] = {"weight_decay": -1.0}
    path = written(tmp_path, table)
    with pytest.raises(SettingsError) as error:
        load_settings(path)
    message = str(error.value)
    assert message.startswith(str(path))
    for key in (
        "sede: ",
        "data.flipp: ",
        "schedule.epochs: ",
        "optimiser.learning_rate: ",
        "optimiser.weight_decay: ",
    ):
        assert key in message


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("bogus", 1, "bogus"),
        ("network.depth", 1, "depth"),
        ("network.factor", 3, "factor"),
        ("network.norm", "layer", "norm"),
    ],
)
def test_a_wrong_key_of_the_model_is_named(
    tmp_path: Path, key: str, value: Any, named: str
) -> None:
    with pytest.raises(SettingsError, match=rf"model: .*{named}"):
        load_settings(written(tmp_path, tiny_table("vq", "images")), [f"model.{key}={value!r}"])


def test_a_table_without_a_method_says_so(tmp_path: Path) -> None:
    table = tiny_table("vq", "images")
    del table["model"]["method"]
    with pytest.raises(SettingsError, match="no `method`"):
        load_settings(written(tmp_path, table))


def test_overrides_take_numbers_texts_booleans_and_new_tables(config: Path) -> None:
    settings = load_settings(
        config,
        [
            "seed=7",
            "optimiser.learning_rate=1e-3",
            "data.flip=false",
            "name=some name",
            'data.folder="$HOME/x"',
            "schedule.precision = 32-true",
            "objective.options.commitment=0.5",
            "model.quantizer.codebook_size=32",
        ],
    )
    assert settings.seed == 7
    assert settings.optimiser.learning_rate == 1e-3
    assert settings.data.flip is False
    assert settings.name == "some name"
    assert settings.data.folder == "$HOME/x"
    assert settings.schedule.precision == "32-true"
    assert settings.objective.options == {"commitment": 0.5}
    assert settings.model.quantizer["codebook_size"] == 32


def test_a_later_override_wins(config: Path) -> None:
    assert load_settings(config, ["seed=7", "seed=8"]).seed == 8


@pytest.mark.parametrize("override", ["seed", "=3", "data.=3"])
def test_an_override_without_key_or_value_says_its_form(config: Path, override: str) -> None:
    with pytest.raises(SettingsError, match=r"table\.key=value"):
        load_settings(config, [override])


@pytest.mark.parametrize("override", ["name.x=1", "schedule.epochs.x=1"])
def test_an_override_below_a_value_is_refused(config: Path, override: str) -> None:
    with pytest.raises(SettingsError, match="is no table"):
        load_settings(config, [override])


def test_an_override_with_a_wrong_key_is_named(config: Path) -> None:
    with pytest.raises(SettingsError, match=r"optimiser\.learning_rat: "):
        load_settings(config, ["optimiser.learning_rat=1"])


def test_a_missing_file_and_broken_toml_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no configuration .*none\.toml"):
        load_settings(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("name = ")
    with pytest.raises(SettingsError, match=r"broken\.toml is not TOML"):
        load_settings(tmp_path / "broken.toml")


def test_the_data_folder_fills_in_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQTOK_TEST_PLACE", "/somewhere")
    assert DataSettings(folder="$VQTOK_TEST_PLACE/x").path == Path("/somewhere/x")


def test_a_variable_without_value_is_named_with_the_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("VQTOK_TEST_PLACE", raising=False)
    with pytest.raises(SettingsError, match=r"data\.folder is '\$VQTOK_TEST_PLACE/x'"):
        _ = DataSettings(folder="$VQTOK_TEST_PLACE/x").path


def test_the_variable_stays_a_variable_in_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQTOK_TEST_PLACE", "/somewhere")
    assert "$VQTOK_TEST_PLACE/x" in tiny_settings("vq", "$VQTOK_TEST_PLACE/x").to_toml()


@pytest.mark.parametrize(
    ("table", "key"), [("", "seed"), ("data", "folder"), ("schedule", "epochs")]
)
def test_settings_do_not_change(table: str, key: str) -> None:
    settings: RunSettings = tiny_settings("vq", "images")
    place = getattr(settings, table) if table else settings
    with pytest.raises(ValidationError, match="frozen"):
        setattr(place, key, getattr(place, key))


@pytest.mark.parametrize(
    ("option", "value"), [("codebook_size", "many"), ("noise", "loud"), ("two_sigma2", True)]
)
def test_an_option_of_a_wrong_type_is_named(tmp_path: Path, option: str, value: Any) -> None:
    table = tiny_table("gmvq", "images")
    table["model"]["quantizer"][option] = value
    with pytest.raises(SettingsError, match=f"quantizer.{option}: Input should be"):
        load_settings(written(tmp_path, table))


@pytest.mark.parametrize("name", ["quantizer", "network"])
def test_a_value_where_a_table_belongs_is_named(tmp_path: Path, name: str) -> None:
    table = tiny_table("gmvq", "images")
    table["model"][name] = 3
    with pytest.raises(SettingsError, match=rf"\[model.{name}\] is a table of options, not 3"):
        load_settings(written(tmp_path, table))
