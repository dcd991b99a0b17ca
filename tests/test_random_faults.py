"""Files that are damaged at random: each is read, or refused in one message that a user can act on.

FEW_SHOT_FAULTS is how many times each file is damaged.
"""

import json
import os
import random
import shutil

import pytest

from lib.errors import StudyError
from lib.models.loading import load_config, load_model, load_tokenizer
from lib.paths import ROOT
from lib.runs.profile import PROFILES, read_profile
from lib.tasks.rows import rows_of_file
from tests.support.own_data import write_csv

FAULTS = int(os.environ.get("FEW_SHOT_FAULTS", "60"))
ODD = [None, True, -1, 0, 1.5, 10**30, float("nan"), float("inf"), "", "x", "é" * 300, "\ud800", [], [[]], {}, {"x": 1}]
BYTES = [b"", b"\x00", b"\xff", b"\n", b'"', b"{", b"[", b":", b"- ", b"\xef\xbb\xbf", b"&a *a", b"1e999", b"9" * 5000]


@pytest.fixture
def chance(request):
    """The same faults each time, others for each file."""
    return random.Random(f"{request.node.name} {FAULTS}")


def damaged(content, chance):
    """Bytes of which a few are gone, doubled, or others."""
    start = chance.randrange(len(content))
    end = min(len(content), start + chance.choice([0, 1, 3, 40, 4000]))
    return content[:start] + chance.choice([*BYTES, content[start:end] * 2]) + content[end:]


def altered(settings, chance):
    """A copy of nested settings of which one, somewhere, is an odd value or is gone."""
    copy = json.loads(json.dumps(settings))
    place = copy
    while True:
        key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place[key], dict | list) and place[key] and chance.random() < 0.7:
            place = place[key]
        elif chance.random() < 0.2:
            del place[key]
            return copy
        else:
            place[key] = chance.choice(ODD)
            return copy


def refused(read, *words):
    """The message where it is refused, and None where it is not; any other exception is a traceback, and passes on."""
    try:
        read(*words)
    except StudyError as error:
        assert str(error).strip()
        return str(error)
    return None


@pytest.mark.parametrize("name", ["smoke", "tiny", "paper", "smollm2"])
def test_a_damaged_profile_is_a_profile_or_refused(name, chance, tmp_path):
    content, file = (PROFILES / f"{name}.yaml").read_bytes(), tmp_path / "damaged.yaml"
    found = []
    for _ in range(FAULTS):
        file.write_bytes(damaged(content, chance))
        found.append(refused(read_profile, str(file)))
    assert any(found)


@pytest.mark.parametrize("name", ["smoke", "tiny", "paper", "smollm2"])
def test_an_odd_setting_is_allowed_or_refused(name, chance):
    settings = read_profile(name).model_dump(mode="json")
    assert any([refused(read_profile, altered(settings, chance)) for _ in range(FAULTS)])


def test_damaged_rows_are_rows_or_refused(chance, tmp_path):
    file = write_csv(tmp_path / "rows.csv", "text,label", [(f'Text, {i} "é"\n', i % 2) for i in range(40)])
    content = file.read_bytes()
    for _ in range(FAULTS):
        file.write_bytes(damaged(content, chance))
        refused(lambda: list(rows_of_file(file)))


def load(folder):
    load_config(str(folder))
    load_tokenizer(str(folder))
    load_model(str(folder), "float32", "meta")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_a_damaged_model_is_loaded_or_refused(name, chance, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(ROOT / "lib" / "tiny" / "student", folder)
    content = (folder / name).read_bytes()
    for _ in range(FAULTS // 4):
        (folder / name).write_bytes(damaged(content, chance))
        refused(load, folder)


def test_an_odd_value_in_a_model_s_configuration_is_loaded_or_refused(chance, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(ROOT / "lib" / "tiny" / "student", folder)
    settings = json.loads((folder / "config.json").read_text())
    for _ in range(FAULTS // 2):
        (folder / "config.json").write_text(json.dumps(altered(settings, chance)))
        refused(load, folder)
