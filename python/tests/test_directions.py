"""Ranks and directions beside PEFT's own, and beside the exact ones of all rows."""

from copy import deepcopy

import peft.tuners.lora.eva as peft_eva
import pytest
import torch
from models import CASES, Counted, budget_ranks, conv_net, exact_directions, rms_sine, squared_sine

from eva_rl import get_eva_state_dict


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]()


def groups(case, exact):
    """Modules by the exact directions that they share, because they are given one input."""
    found = []
    for name, (_, directions) in exact.items():
        for group in found:
            known = exact[group[0]][1]
            if known.shape == directions.shape and torch.equal(known, directions):
                group.append(name)
                break
        else:
            found.append([name])
    return found


@pytest.mark.parametrize("solver", ["auto", "gram"])
@pytest.mark.parametrize("rho", [1.0, 2.0])
def test_all_of_the_data_gives_the_exact_directions_and_ranks(case, solver, rho):
    exact = exact_directions(case)
    found = get_eva_state_dict(
        case.model, case.batches, case.config(tau=1.0, rho=rho), show_progress_bar=False, solver=solver
    )
    assert set(found) == set(exact)
    assert rms_sine(found, exact) < 0.003
    for group in groups(case, exact):
        wanted = budget_ranks(exact, 4, rho)
        assert sorted(len(found[name]) for name in group) == sorted(wanted[name] for name in group)
    for module in found.table.modules:
        ratios = exact[module.name][0]
        assert module.explained_variance == pytest.approx(float(ratios[: module.rank].sum()), abs=2e-3)


def test_peft_s_own_algorithm_finds_peft_s_ranks_and_directions_in_as_many_forwards(case):
    exact = exact_directions(case)
    there, here = Counted(), Counted()
    config = case.config(rho=2.0, tau=0.99)
    theirs = peft_eva.get_eva_state_dict(
        case.model, case.batches, deepcopy(config), forward_fn=there, show_progress_bar=False, **case.functions()
    )
    ours = get_eva_state_dict(
        case.model,
        case.batches,
        config,
        forward_fn=here,
        show_progress_bar=False,
        solver="incremental",
        **case.functions(),
    )
    assert here.calls == there.calls - 1, "PEFT's first forward looks for equal inputs"
    for group in groups(case, exact):
        by_rank = [sorted((components[name] for name in group), key=len) for components in (ours, theirs)]
        for own, other in zip(*by_rank):
            assert len(own) == len(other), group
            assert squared_sine(own, other.double()) < 1e-3, group


def test_it_ends_as_close_to_the_exact_directions_as_peft_with_each_batch_seen_once_at_most(case):
    exact = exact_directions(case)
    counted = Counted()
    arguments = (case.model, case.batches, case.config())
    theirs = peft_eva.get_eva_state_dict(*deepcopy(arguments), show_progress_bar=False, **case.functions())
    ours = get_eva_state_dict(*arguments, forward_fn=counted, show_progress_bar=False)
    assert rms_sine(ours, exact) <= rms_sine(theirs, exact)
    assert counted.calls <= len(case.batches)


def test_tau_sets_how_far_from_the_directions_of_all_data_it_ends():
    case = CASES["decision_transformer"]()
    case.batches = [{key: value[:8] for key, value in batch.items()} for batch in case.batches]
    case.batches += [{**batch, "states": batch["states"].flip(0)} for batch in case.batches]
    exact = exact_directions(case)
    seen = []
    for tau in (0.8, 0.99, 1.0):
        found = get_eva_state_dict(
            case.model, case.batches, case.config(tau=tau), show_progress_bar=False, solver="gram"
        )
        assert rms_sine(found, exact) <= 1.3 * ((1 - tau) / 10) ** 0.5 + 0.003
        seen.append(found.table.batches)
    assert seen[0] < seen[1] < seen[2] == len(case.batches)


@pytest.mark.parametrize(("solver", "most"), [("gram", 0.003), ("auto", 0.03), ("sketch", 0.15)])
def test_a_convolution_s_kernels_are_the_directions_of_its_patches(solver, most):
    case = conv_net()
    exact = exact_directions(case)
    found = get_eva_state_dict(
        case.model, case.batches, case.config(tau=1.0), show_progress_bar=False, solver=solver, patches=10_000
    )
    assert [list(found[name].shape[1:]) for name in exact] == [[3, 3, 3], [6, 3, 2], [336]]
    assert rms_sine(found, exact) < most


def test_a_few_patches_of_each_image_give_nearly_those():
    case = conv_net()
    exact = exact_directions(case)
    found = get_eva_state_dict(
        case.model, case.batches, case.config(rank=3, tau=1.0, rho=1.0), show_progress_bar=False, patches=8
    )
    assert 0 < squared_sine(found["first"], exact["first"][1]) < 0.05
