"""Clusters of this machine: a card for each worker, and folders that are short-lived, whatever the name of theirs."""

import tempfile

import pytest
import torch

from lib.runs.clusters import card, connected


def test_each_worker_sees_a_card_of_its_own_among_those_that_may_be_seen(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert [card(worker)["CUDA_VISIBLE_DEVICES"] for worker in range(3)] == ["4", "7", "4"]


@pytest.mark.parametrize(("cards", "seen"), [(2, {"CUDA_VISIBLE_DEVICES": "1"}), (0, {})])
def test_without_a_choice_of_cards_workers_share_out_all_that_there_are(monkeypatch, cards, seen):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    assert card(1) == seen


@pytest.mark.slow
def test_workers_start_in_a_temporary_folder_with_a_long_name_and_leave_nothing_there(monkeypatch, tmp_path):
    place = tmp_path / ("long" * 40)
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with connected(None, 1, None, "cpu") as client:
        assert client.submit(sum, [1, 2]).result() == 3
        assert len(list(place.iterdir())) == 1
    assert list(place.iterdir()) == []
