"""What all tests have: one thread's worth of numbers that do not change between runs."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
