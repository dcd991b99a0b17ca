"""Environment: what is kept beside a measurement is complete and can be stored."""

import json
import platform

import peft
import torch
import transformers

from lib.models.environment import describe


def test_a_description_names_the_installed_libraries_and_python():
    described = describe("cpu")
    assert described["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert (described["transformers"], described["peft"]) == (transformers.__version__, peft.__version__)
    assert described["python"] == platform.python_version()


def test_a_description_names_the_processor():
    assert describe("cpu")["device"].strip()


def test_a_description_follows_the_number_of_threads():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert describe("cpu")["threads"] == threads + 1
    finally:
        torch.set_num_threads(threads)


def test_a_description_survives_json():
    assert json.loads(json.dumps(describe("cpu"))) == describe("cpu")
