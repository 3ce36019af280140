"""How few forwards and solvers a search needs, and how it ends."""

import threading

import pytest
import torch
from models import CASES, Counted, bert, llama
from peft import EvaConfig, LoraConfig
from torch import nn

import eva_rl.batches
import eva_rl.observer
import eva_rl.search
from eva_rl import get_eva_state_dict
from eva_rl._native import Search


def config(rank=2, targets=None, **eva):
    return LoraConfig(r=rank, target_modules=targets, init_lora_weights="eva", eva_config=EvaConfig(**eva))


@pytest.fixture
def solvers(monkeypatch):
    """The modules that get a solver of their own, and those that share one."""
    found = {"own": [], "shared": []}

    class Watching:
        def __init__(self, *args, **more):
            self._search = Search(*args, **more)

        def __getattr__(self, name):
            def call(*args):
                if name == "add_input":
                    found["own"].append(args[0])
                if name == "join_input":
                    found["shared"].append(args)
                return getattr(self._search, name)(*args)

            return call

    monkeypatch.setattr(eva_rl.search, "Search", Watching)
    return found


def test_modules_of_one_input_share_a_solver(solvers):
    case = llama()
    found = get_eva_state_dict(case.model, case.batches, case.config(), show_progress_bar=False)
    names = list(found)
    pairs = {(names[known].split(".")[-1], names[site].split(".")[-1]) for known, site in solvers["shared"]}
    assert pairs == {("q_proj", "k_proj"), ("q_proj", "v_proj"), ("gate_proj", "up_proj")}
    assert len(solvers["own"]) == 4 * 2


class Reusing(nn.Module):
    """Two maps of inputs that are equal in memory's place and not in numbers, and one of a view."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, x):
        y = self.first(x)
        x *= torch.arange(6)  # written in place between two calls
        return y, self.second(x), self.third(x.view(-1, 6))


def test_numbers_that_were_overwritten_are_another_input(solvers):
    batches = [{"x": torch.randn(5, 20, 6)} for _ in range(4)]
    found = get_eva_state_dict(Reusing(), batches, config(tau=1.0), show_progress_bar=False)
    assert solvers == {"own": [0, 1], "shared": [(1, 2)]}
    assert not torch.allclose(found["first"][:1].abs(), found["second"][:1].abs(), atol=0.1)


def test_an_input_that_is_gone_shares_nothing_with_the_next(solvers, monkeypatch):
    class Turns(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps = nn.ModuleList(nn.Linear(64, 64) for _ in range(6))

        def forward(self, x):
            x = x + 1
            for layer in self.maps:
                x = layer(x)
            return x

    # As if the allocator gave each the place of the one before.
    monkeypatch.setattr(eva_rl.observer, "identity", lambda x: ("one place",))
    get_eva_state_dict(Turns(), [torch.randn(200, 64)], config(tau=1.0), show_progress_bar=False)
    assert solvers == {"own": list(range(6)), "shared": []}


def test_forwards_end_after_the_last_module(monkeypatch):
    case = llama()
    case.targets = ["q_proj"]
    after = []
    case.model.lm_head.register_forward_hook(lambda *_: after.append(1))
    case.model.model.layers[1].mlp.register_forward_hook(lambda *_: after.append(2))
    counted = Counted()
    get_eva_state_dict(case.model, case.batches, case.config(), forward_fn=counted, show_progress_bar=False)
    assert after == [2, 1], "the first pass alone runs to its end"
    assert counted.calls > 1


def test_a_module_that_is_called_twice_is_seen_both_times():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            self.inner(torch.cat([x[:, :2], torch.zeros(len(x), 2)], 1))
            return self.inner(torch.cat([torch.zeros(len(x), 2), 3 * x[:, 2:]], 1))

    batches = [torch.randn(100, 4) for _ in range(12)]
    found = get_eva_state_dict(Twice(), batches, config(tau=1.0, rho=1.0), show_progress_bar=False)
    assert found["inner"][:, 2:].square().sum() > 1.9, "the second call has most of the variance"
    found = get_eva_state_dict(Twice(), batches, config(rank=4, tau=1.0, rho=1.0), show_progress_bar=False)
    assert found.table.modules[0].explained == pytest.approx((0.45, 0.45, 0.05, 0.05), abs=0.05)


@pytest.mark.parametrize("count", [1, 3])
def test_no_batch_is_seen_twice(count):
    case = bert()
    counted = Counted()
    found = get_eva_state_dict(
        case.model, case.batches[:count], case.config(), forward_fn=counted, show_progress_bar=False
    )
    assert counted.calls == count
    assert found.table.converged and found.table.batches == count
    assert all(module.cosine == 1.0 for module in found.table.modules)


def test_a_loader_without_a_length_ends_where_it_ends():
    case = bert()
    found = get_eva_state_dict(case.model, iter(case.batches[:3]), case.config(), show_progress_bar=False)
    assert found.table.batches == 3 and found.table.converged


def test_max_batches_stops_with_a_warning():
    case = bert()
    with pytest.warns(UserWarning, match="EVA stopped after 2 batches"):
        found = get_eva_state_dict(case.model, case.batches, case.config(), show_progress_bar=False, max_batches=2)
    assert found.table.batches == 2 and not found.table.converged


def test_too_few_rows_are_an_error_and_no_endless_loop():
    model = nn.Sequential(nn.Linear(20, 20))
    with pytest.raises(ValueError, match="2 batches gave 6 .* at 0, and 8 components need at least as many"):
        get_eva_state_dict(model, [torch.randn(3, 20)] * 2, config(rank=4), show_progress_bar=False)


def test_peft_s_rule_that_never_holds_is_an_error_and_no_endless_loop(monkeypatch):
    monkeypatch.setattr(eva_rl.batches, "MOST_BATCHES", 5)
    with pytest.raises(RuntimeError, match="have not converged after 20 batches"):
        get_eva_state_dict(
            nn.Sequential(nn.Linear(20, 20)),
            [torch.randn(30, 20) for _ in range(2)],
            config(tau=1.0),
            show_progress_bar=False,
            solver="incremental",
        )


def test_activations_that_are_not_finite_are_named():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    bad = torch.randn(30, 4)
    bad[3, 2] = float("nan")
    with pytest.raises(ValueError, match="the activations of 0 hold NaN or infinity in batch 1"):
        get_eva_state_dict(model, [torch.randn(30, 4), bad, bad], config(), show_progress_bar=False)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_module_that_no_forward_calls_is_named():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(ValueError, match="unused was not called in 3 batches, expected a call of every module"):
        get_eva_state_dict(Unused(), [torch.randn(30, 4)] * 3, config(), show_progress_bar=False)


@pytest.mark.parametrize("energy", [0.5, 0.9])
def test_energy_gives_each_module_the_fewest_components_that_explain_it(energy):
    case = llama()
    found = get_eva_state_dict(
        case.model, case.batches, case.config(rank=16, tau=1.0), show_progress_bar=False, energy=energy
    )
    for module in found.table.modules:
        explained = module.explained
        assert sum(explained[: module.rank]) >= energy or module.rank == 32
        assert sum(explained[: module.rank - 1]) < energy
    assert len({module.rank for module in found.table.modules}) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"energy": 0.0}, "energy is 0.0, expected more than 0 and at most 1"),
        ({"energy": 1.5}, "energy is 1.5, expected"),
        ({"max_batches": 0}, "max_batches is 0, expected at least 1"),
        ({"solver": "svd"}, "solver is 'svd', expected one of auto, gram, sketch, incremental"),
        ({"patches": 0}, "patches is 0, expected at least 1"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        get_eva_state_dict(nn.Linear(4, 4), [torch.randn(30, 4)], config(), **options)


def search(**changes):
    options = {
        "rho": 1.0, "tau": 0.99, "whiten": False, "solver_name": "auto", "energy": None, "batches_per_pass": None,
        "device": ("cpu", 0), "all_reduce": None,
    }  # fmt: skip
    return Search([("layer", 2)], **{**options, **changes})


def test_a_panic_of_the_solver_is_an_exception_and_the_process_goes_on(capfd):
    broken = search()
    broken.add_input(0, 8, False)
    with pytest.raises(RuntimeError, match="the solver failed: .*"):
        broken.record(0, torch.randn(4))  # no matrix
    broken.record(0, torch.randn(40, 8))
    broken.end_batch()
    assert broken.finish()[0].rank == 2
    with pytest.raises(RuntimeError, match="the search has ended"):
        broken.end_batch()


def test_ranks_and_devices_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="a rank is 0, expected 1 to 65535"):
        Search([("layer", 0)], rho=1.0, tau=0.99, whiten=False, solver_name="auto", energy=None, batches_per_pass=None,
               device=("cpu", 0), all_reduce=None)  # fmt: skip
    with pytest.raises(ValueError, match="the device is xla, expected cpu, cuda or mps"):
        search(device=("xla", 0))


def test_another_thread_may_show_rows():
    found = search()
    found.add_input(0, 8, False)
    thread = threading.Thread(target=found.record, args=(0, torch.randn(40, 8)))
    thread.start()
    thread.join()
    found.end_batch()
    assert found.finish()[0].components.shape == (2, 8)


@pytest.mark.parametrize("name", CASES)
def test_results_do_not_change_between_runs(name):
    case = CASES[name]()
    first, second = (
        get_eva_state_dict(case.model, case.batches, case.config(), show_progress_bar=False, solver="gram")
        for _ in range(2)
    )
    for key in first:
        assert torch.equal(first[key], second[key])
